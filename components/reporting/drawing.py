"""Charts as SVG in the page's colours, written directly: few bytes, the same every time, with values to point at."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from components.reporting.pictures import Picture

INK, MUTED = "ink", "muted"
SERIES = tuple(f"series-{number}" for number in range(8))
"""Names of the style sheet's colours."""

MARKERS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
    "up": "M0-4.6L4.4 3.4H-4.4z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "down": "M0 4.6L4.4-3.4H-4.4z",
    "star": "M0-6L1.6-2.2L5.7-1.9L2.6.8L3.5 4.9L0 2.7L-3.5 4.9L-2.6.8L-5.7-1.9L-1.6-2.2z",
}

_TEMPLATES = Path(__file__).with_name("templates")
_LETTERS = 11.0
_GAP = 13.0
"""Between names that stand one above the other."""
_LETTER_WIDTH = 6.3
"""Of an average letter; the room for texts is computed from it."""
_FEW = 120
"""Most values to point at on one curve: a longer one is drawn in full, but told only at every n-th step."""


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        text: what it measures.
        low: where it begins.
        high: where it ends; above `low`.
        write: a tick's value as text.
        log: whether the axis is logarithmic; `low` is then above 0.
        ticks: approximate number of ticks.
    """

    text: str
    low: float
    high: float
    write: Callable[[float], str]
    log: bool = False
    ticks: int = 5

    def share(self, value: float) -> float:
        """Position of a value between `low` (0) and `high` (1)."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        name: written at the last point if `named`.
        colour: its name in the style sheet.
        points: x and y.
        told: text shown for each point.
        line: between the points: `solid`, `dashed`, or empty for none.
        marker: name in `MARKERS`, or empty for none.
        named: whether the name is written.
    """

    name: str
    colour: str
    points: tuple[tuple[float, float], ...]
    told: tuple[str, ...]
    line: str = ""
    marker: str = ""
    named: bool = True


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        file: name of its file, without extension.
        alt: its content in words.
        width: in units of the page's pixels.
        height: likewise.
        x: axis to the right.
        y: axis upwards.
        series: what is drawn.
        levels: horizontal lines with their names.
        front: corners of a line behind all points.
    """

    file: str
    alt: str
    width: int
    height: int
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    front: tuple[tuple[float, float], ...] = ()


def around(values: Sequence[float], margin: float = 0.08) -> tuple[float, float]:
    """The smallest and the largest of some values, widened by a margin."""
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * 0.01 or 1.0
    return low - room, high + room


def draw(chart: Chart) -> Picture:
    """Draw a chart; equal charts give equal bytes."""
    names = [series.name for series in chart.series if series.named]
    y_ticks, x_ticks = (_ticks(axis) for axis in (chart.y, chart.x))
    left = 10 + _LETTER_WIDTH * max(len(chart.y.write(tick)) for tick in y_ticks) + (14 if chart.y.text else 0)
    right = 14 + _LETTER_WIDTH * max(map(len, names), default=0)
    bottom = 36 if chart.x.text else 20
    frame = _Frame(chart, left, 8.0, chart.width - right, chart.height - bottom)
    parts = [_grid(frame, x_ticks, y_ticks), *(_level(frame, name, y) for name, y in chart.levels)]
    if chart.front:
        parts.append(f'<path class="front" d="M{"L".join(frame.at(x, y) for x, y in chart.front)}"/>')
    parts += [_series(frame, series) for series in chart.series]
    parts.append(_names(frame))
    parts.append(f'<g class="hits">{"".join(_hits(frame, series) for series in chart.series)}</g>')
    size = f'viewBox="0 0 {chart.width} {chart.height}" width="{chart.width}" height="{chart.height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} role="img" aria-label="{escape(chart.alt)}">'
    style = "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("colours.css", "chart.css"))
    # As a file of its own, a picture brings its colours; inside the page it takes the page's.
    data = f"{head}<style>{style}svg{{background:var(--surface)}}</style>{''.join(parts)}</svg>\n"
    return Picture(f"{chart.file}.svg", data.encode(), chart.alt, chart.width, chart.height)


@dataclass(frozen=True)
class _Frame:
    """Position of the chart's axes."""

    chart: Chart
    left: float
    top: float
    right: float
    bottom: float

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * self.chart.x.share(value)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.chart.y.share(value)

    def at(self, x: float, y: float) -> str:
        return f"{_short(self.x(x))} {_short(self.y(y))}"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _ticks(axis: Axis) -> list[float]:
    if axis.log:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        wide = axis.high / axis.low > 10**4
        found = [float(f"{digit}e{power}") for power in powers for digit in ((1,) if wide else (1, 2, 5))]
        return [tick for tick in found if axis.low <= tick <= axis.high] or [axis.low, axis.high]
    rough = (axis.high - axis.low) / axis.ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _grid(frame: _Frame, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
    chart, top, bottom, left, right = frame.chart, frame.top, frame.bottom, frame.left, frame.right
    lines, texts = [], []
    for tick in y_ticks:
        at = _short(frame.y(tick))
        lines.append(f"M{_short(left)} {at}H{_short(right)}")
        texts.append(
            f'<text class="end" x="{_short(left - 6)}" y="{at}" dy=".35em">{escape(chart.y.write(tick))}</text>'
        )
    for tick in x_ticks:
        at = _short(frame.x(tick))
        lines.append(f"M{at} {_short(top)}V{_short(bottom)}")
        texts.append(f'<text class="middle" x="{at}" y="{_short(bottom + 14)}">{escape(chart.x.write(tick))}</text>')
    if chart.x.text:
        middle = _short((left + right) / 2)
        texts.append(f'<text class="middle" x="{middle}" y="{chart.height - 4}">{escape(chart.x.text)}</text>')
    if chart.y.text:
        middle = _short((top + bottom) / 2)
        texts.append(
            f'<text class="middle" transform="translate(11 {middle})rotate(-90)">{escape(chart.y.text)}</text>'
        )
    return f'<path class="grid" d="{"".join(lines)}"/>{"".join(texts)}'


def _level(frame: _Frame, name: str, y: float) -> str:
    at = _short(frame.y(y))
    line = f'<path class="level" d="M{_short(frame.left)} {at}H{_short(frame.right)}"/>'
    return f'{line}<text x="{_short(frame.left + 6)}" y="{_short(frame.y(y) - 4)}">{escape(name)}</text>'


def _series(frame: _Frame, series: Series) -> str:
    parts = []
    if series.line and len(series.points) > 1:
        path = "L".join(frame.at(x, y) for x, y in series.points)
        parts.append(f'<path class="line {series.colour} {series.line}" d="M{path}"/>')
    if series.marker:
        shape = MARKERS[series.marker]
        parts += [
            f'<path class="mark {series.colour}" transform="translate({frame.at(x, y)})" d="{shape}"/>'
            for x, y in series.points
        ]
    return "".join(parts)


def _hits(frame: _Frame, series: Series) -> str:
    count = len(series.points)
    every = max(1, math.ceil(count / _FEW))
    kept = [index for index in range(count) if index % every == 0 or index == count - 1]
    places = [(frame.x(x), frame.y(y)) for x, y in (series.points[index] for index in kept)]
    return "".join(
        f'<circle cx="{_short(x)}" cy="{_short(y)}" r="5"><title>{escape(series.told[index])}</title></circle>'
        for index, (x, y) in zip(kept, places, strict=True)
    )


def _names(frame: _Frame) -> str:
    """The names to the right of their last points, moved apart where they are crowded."""
    named = [series for series in frame.chart.series if series.named and series.points]
    wanted = [frame.y(series.points[-1][1]) for series in named]
    free = spread(wanted, _GAP, frame.top + _LETTERS / 2, frame.bottom - _LETTERS / 2)
    parts = []
    for series, y in zip(named, free, strict=True):
        x = frame.x(series.points[-1][0]) + 9
        place = f'x="{_short(x)}" y="{_short(y)}" dy=".35em"'
        parts.append(f'<text class="name {series.colour}" {place}>{escape(series.name)}</text>')
    return "".join(parts)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions so that they are a gap apart, in the same order, and between `low` and `high` if they fit."""
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
