"""Charts as SVG whose colours are the page's: light and dark follow the reader's setting, inside an `<img>` too."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from components.reporting.findings import Contender, Findings
from components.reporting.pictures import Picture
from components.reporting.tables import loss_curves, shown_terms
from components.reporting.wording import decibels, loss, whole

_COLOURS = Path(__file__).with_name("templates") / "colours.css"
_FONT = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif!important}"
_INK, _MUTED, _LINE = "#000001", "#000002", "#000003"
_SERIES = tuple(f"#00001{number}" for number in range(8))
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _LINE: "--line",
    **{colour: f"--series-{number}" for number, colour in enumerate(_SERIES)},
}
"""matplotlib draws in these colours, which nothing else has; in the SVG they become the style sheet's."""

_MARKERS = "os^Dv"
_POINTS = 72.0
_TEXT = 10.0
"""Size of letters, in points, of which an inch has 72; an SVG's unit is a point."""

_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold $
    "font.size": _TEXT,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "text.color": _INK,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Named:
    """The label of a point: a name, and the point in the chart's data."""

    name: str
    x: float
    y: float
    colour: str


def cost_charts(findings: Findings) -> tuple[Picture, ...]:
    """PSNR over parameters for each test set; the baseline, which has none, is a line."""
    return tuple(_cost_chart(findings, number, dataset) for number, dataset in enumerate(findings.sets, 1))


def _cost_chart(findings: Findings, number: int, dataset: str) -> Picture:
    networks = [one for one in findings.contenders if one.cost]
    points = [
        Named(one.name, one.cost.parameters, one.sets[dataset].psnr, _colour(findings, one))
        for one in networks
        if one.cost
    ]
    floor = findings.baseline.sets[dataset].psnr
    with mpl.rc_context(_SETTINGS):
        figure, axes = _axes(480, max(290, 120 + 15 * len(points)))
        for network, point in zip(networks, points, strict=True):
            axes.plot(point.x, point.y, _marker(findings, network), color=point.colour, markersize=8)
        axes.axhline(floor, color=_MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlim(min(point.x for point in points) / 2, max(point.x for point in points) * 3)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_xlabel("parameters")
        axes.set_ylabel("PSNR, dB")
        axes.margins(y=0.1)
        axes.annotate(findings.baseline.name, (0, floor), (6, 4), _axis(axes), textcoords="offset points", color=_MUTED)
        _label(axes, points)
        told = "; ".join(f"{one.name}: {decibels(one.y)} dB, {whole(one.x)} parameters" for one in points)
        alt = f"PSNR over parameters on {dataset}. {findings.baseline.name}: {decibels(floor)} dB; {told}."
        return _picture(figure, f"cost_{number}", alt)


def validation_chart(findings: Findings) -> Picture | None:
    """PSNR on the validation images over the training steps; None where nothing was trained."""
    trained = [one for one in findings.contenders if one.validation.steps]
    if not trained:
        return None
    ends = []
    with mpl.rc_context(_SETTINGS):
        figure, axes = _axes(480, max(290, 120 + 15 * len(trained)))
        for contender in trained:
            steps, psnr = contender.validation.steps, contender.validation.values["psnr"]
            colour = _colour(findings, contender)
            dashes = (0, (4, 2)) if contender.role == "teacher" else "solid"
            axes.plot(steps, psnr, marker=_marker(findings, contender), color=colour, linestyle=dashes, markersize=5)
            ends.append(Named(contender.name, steps[-1], psnr[-1], colour))
        axes.set_xlim(0, max(end.x for end in ends) * 1.25)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("training steps")
        axes.set_ylabel("PSNR on validation images, dB")
        _label(axes, ends)
        told = "; ".join(f"{end.name}: {decibels(end.y)} dB at step {whole(end.x)}" for end in ends)
        return _picture(figure, "validation", f"Validation PSNR over training steps. At the end: {told}.")


def loss_charts(findings: Findings) -> tuple[tuple[str, tuple[tuple[str, Picture], ...]], ...]:
    """For all that was trained, a small chart for each term: `(name, ((term, chart), ...))`."""
    colours = {one.name: _colour(findings, one) for one in findings.contenders}
    groups = []
    for number, (name, curve) in enumerate(loss_curves(findings), 1):
        charts = []
        for term, values in shown_terms(curve).items():
            with mpl.rc_context({**_SETTINGS, "font.size": 9}):
                figure, axes = _axes(200, 110)
                axes.plot(curve.steps, values, color=colours.get(name, _MUTED), linewidth=1.4)
                axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
                axes.yaxis.set_major_locator(MaxNLocator(3))
                alt = f"{name}, {term}: from {loss(values[0])} to {loss(values[-1])} after {whole(curve.steps[-1])} steps."
                charts.append((term, _picture(figure, f"loss_{number}_{len(charts) + 1}", alt)))
        groups.append((name, tuple(charts)))
    return tuple(groups)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / _POINTS, height / _POINTS))
    return figure, figure.add_subplot()


def _colour(findings: Findings, contender: Contender) -> str:
    if contender.role == "student":
        return _SERIES[findings.students.index(contender) % len(_SERIES)]
    return _INK


def _marker(findings: Findings, contender: Contender) -> str:
    if contender.role == "student":
        return _MARKERS[findings.students.index(contender) % len(_MARKERS)]
    return "*"


def _axis(axes: Axes) -> Any:
    """Coordinates: x as a share of the axes, y in data."""
    return axes.get_yaxis_transform()


def _label(axes: Axes, points: Sequence[Named]) -> None:
    """Write the names right of their points, one above the other where they are crowded."""
    axes.figure.draw_without_rendering()
    low, high = axes.get_ylim()
    line = 1.3 * _TEXT / _POINTS * axes.figure.dpi
    wanted = [float(axes.transData.transform((point.x, point.y))[1]) for point in points]
    bottom, top = (float(axes.transData.transform((points[0].x, level))[1]) for level in (low, high))
    for point, at, y in zip(points, wanted, spread(wanted, line, bottom + line / 2, top), strict=True):
        axes.annotate(
            point.name,
            (point.x, point.y),
            (9, (y - at) / axes.figure.dpi * _POINTS),
            textcoords="offset points",
            verticalalignment="center",
            color=point.colour,
            annotation_clip=False,
            in_layout=False,
        )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near those wanted, in the same order, at least a gap apart, and under `high`, over `low` if they fit."""
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


def _picture(figure: Figure, name: str, alt: str) -> Picture:
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = re.sub("|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]})", buffer.getvalue())
    drawing = text[text.index("<svg") :].replace("<style", f"<style>{_COLOURS.read_text()}{_FONT}</style>\n  <style", 1)
    width, height = figure.get_size_inches() * _POINTS
    return Picture(f"{name}.svg", drawing.encode(), alt, round(width), round(height))
