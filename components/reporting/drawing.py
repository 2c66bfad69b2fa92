"""Charts as SVG in the page's colours: light and dark follow the reader's setting, inside an `<img>` too."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.reporting.pictures import Picture

INK, MUTED = "#000001", "#000002"
SERIES = tuple(f"#00001{number}" for number in range(8))
_LINE = "#000003"
_VARIABLES = {INK: "--ink", MUTED: "--muted", _LINE: "--line"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}
"""matplotlib draws in these colours, which nothing else has; in the SVG they become the style sheet's."""

_COLOURS = Path(__file__).with_name("templates") / "colours.css"
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_STYLE = f"svg{{background:var(--surface)}}text{{font-family:{_FONT}!important}}"
_INCH = 72.0
"""Points; a point is an SVG's unit."""
_LETTERS = 10.0
"""Size of the letters, in points."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold $
    "font.size": _LETTERS,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Named:
    """A point in the chart's data, and the name to write beside it."""

    name: str
    x: float
    y: float
    colour: str


def draw(name: str, alt: str, width: float, height: float, paint: Callable[[Axes], None]) -> Picture:
    """Draw a chart of `width` by `height` points: equal arguments give equal bytes.

    Args:
        name: of its file, without extension; also makes the identifiers inside the SVG its own.
        alt: its content in words.
        width: in points.
        height: in points.
        paint: draws into the axes.
    """
    with mpl.rc_context(_SETTINGS | {"svg.hashsalt": name}):
        figure = Figure(figsize=(width / _INCH, height / _INCH))
        paint(figure.add_subplot())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = re.sub("|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]})", buffer.getvalue())
    style = f"<style>{_COLOURS.read_text(encoding='utf-8')}{_STYLE}</style>"
    drawing = text[text.index("<svg") :].replace("<defs>", f"{style}\n <defs>", 1)
    return Picture(f"{name}.svg", drawing.encode(), alt, round(width), round(height))


def label(axes: Axes, points: Sequence[Named]) -> None:
    """Write the names right of their points, one above the other where they are crowded."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise AssertionError("axes belong to a figure")
    figure.draw_without_rendering()
    pixels = figure.dpi / _INCH
    to_pixels = axes.transData.transform
    wanted = [float(to_pixels((point.x, point.y))[1]) for point in points]
    low, high = (float(to_pixels((points[0].x, level))[1]) for level in axes.get_ylim())
    free = spread(wanted, 1.3 * _LETTERS * pixels, low, high)
    for point, at, y in zip(points, wanted, free, strict=True):
        axes.annotate(
            point.name,
            (point.x, point.y),
            (9, (y - at) / pixels),
            textcoords="offset points",
            verticalalignment="center",
            color=point.colour,
            annotation_clip=False,
        ).set_in_layout(False)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as far as they need to be a gap apart, in their order, between `low` and `high` if they fit."""
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    found = list(wanted)
    floor = low
    for index in order:
        found[index] = max(wanted[index], floor)
        floor = found[index] + gap
    ceiling = high
    for index in reversed(order):
        found[index] = min(found[index], ceiling)
        ceiling = found[index] - gap
    return found
