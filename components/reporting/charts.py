"""The report's charts, each with a description in words for those who can't see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.reporting.drawing import INK, MUTED, SERIES, Axis, Chart, Series, around, draw
from components.reporting.findings import Contender, Findings, Quality
from components.reporting.pictures import Picture
from components.reporting.tables import loss_curves, shown_terms
from components.reporting.wording import decibels, loss, milliseconds, short, similarity, whole

_MARKERS = ("circle", "square", "up", "diamond", "down")
_WIDTH = 460


@dataclass(frozen=True)
class CostChart:
    """A measure over a cost on one test set; the page lets its reader choose both."""

    dataset: str
    measure: str
    cost: str
    picture: Picture


_MEASURES: dict[str, tuple[str, Callable[[Quality], float], Callable[[float], str]]] = {
    "PSNR": ("PSNR, dB", lambda quality: quality.psnr, lambda value: f"{decibels(value)} dB"),
    "SSIM": ("SSIM", lambda quality: quality.ssim, similarity),
}
_COSTS: dict[str, tuple[str, Callable[[Contender], float | None], Callable[[float], str]]] = {
    "FLOPs": (
        "FLOPs (multiply-adds, 1280x720 output)",
        lambda one: one.cost.flops if one.cost else None,
        lambda value: f"{short(value)} FLOPs",
    ),
    "parameters": (
        "parameters",
        lambda one: one.cost.parameters if one.cost else None,
        lambda value: f"{whole(value)} parameters",
    ),
    "latency": (
        "latency, ms per megapixel",
        lambda one: one.seconds and 1000 * one.seconds,
        lambda value: f"{milliseconds(value)} ms per megapixel",
    ),
}


def cost_charts(findings: Findings) -> tuple[CostChart, ...]:
    """PSNR and SSIM over FLOPs, parameters and, where it was measured, latency; the baseline is a line."""
    costs = [cost for cost, (_, of, _) in _COSTS.items() if any(of(one) for one in findings.contenders)]
    return tuple(
        CostChart(dataset, measure, cost, _cost_chart(findings, number, dataset, measure, cost))
        for number, dataset in enumerate(findings.sets, 1)
        for measure in _MEASURES
        for cost in costs
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto front by rising cost: no other point has better quality at the same or lower cost."""
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1], index))
    kept: list[int] = []
    for index in order:
        if not kept or points[index][1] > points[kept[-1]][1]:
            kept.append(index)
    return kept


def validation_chart(findings: Findings) -> Picture | None:
    """PSNR on the validation images over the training steps; None if nothing was trained."""
    trained = [one for one in findings.contenders if one.validation.steps]
    if not trained:
        return None
    series = tuple(
        Series(
            one.name,
            colour_of(findings, one),
            tuple(zip(one.validation.steps, one.validation.values["psnr"], strict=True)),
            tuple(
                f"{one.name}, step {whole(step)}: {decibels(psnr)} dB"
                for step, psnr in zip(one.validation.steps, one.validation.values["psnr"], strict=True)
            ),
            line="dashed" if one.role == "teacher" else "solid",
            marker=_marker(findings, one),
        )
        for one in trained
    )
    ends = [(one.name, *one.points[-1]) for one in series]
    told = "; ".join(f"{name}: {decibels(y)} dB at step {whole(x)}" for name, x, y in ends)
    return draw(
        Chart(
            "validation",
            f"Validation PSNR over training steps; at the end {told}.",
            *_size(len(ends)),
            Axis("training steps", 0, max(x for _, x, _ in ends), whole),
            Axis("PSNR, dB", *around([y for one in series for _, y in one.points]), _plain),
            series,
        )
    )


def loss_charts(findings: Findings) -> tuple[tuple[str, tuple[tuple[str, Picture], ...]], ...]:
    """For everything that was trained, a small chart of each loss term: `(name, ((term, chart), ...))`."""
    colours = {one.name: colour_of(findings, one) for one in findings.contenders}
    return tuple(
        (
            name,
            tuple(
                (
                    term,
                    _loss_chart(
                        f"loss_{row}_{column}", f"{name}, {term}", curve.steps, values, colours.get(name, MUTED)
                    ),
                )
                for column, (term, values) in enumerate(shown_terms(curve).items(), 1)
            ),
        )
        for row, (name, curve) in enumerate(loss_curves(findings), 1)
    )


def _cost_chart(findings: Findings, number: int, dataset: str, measure: str, cost: str) -> Picture:
    measured, quality, write = _MEASURES[measure]
    paid, of, write_cost = _COSTS[cost]
    networks = [(one, float(spent)) for one in findings.contenders if (spent := of(one))]
    points = [(spent, quality(one.sets[dataset])) for one, spent in networks]
    told = [f"{one.name}: {write(y)}, {write_cost(x)}" for (one, _), (x, y) in zip(networks, points, strict=True)]
    floor, baseline = quality(findings.baseline.sets[dataset]), findings.baseline.name
    best = front(points)
    corners = [points[best[0]]]
    for index in best[1:]:
        corners += [(points[index][0], corners[-1][1]), points[index]]
    names = ", ".join(networks[index][0].name for index in best)
    alt = (
        f"{measure} over {cost} on {dataset}. {baseline}: {write(floor)}; {'; '.join(told)}. "
        f"Nothing is better at the same or lower cost than: {names}."
    )
    costs = [x for x, _ in points]
    return draw(
        Chart(
            f"cost_{number}_{measure.lower()}_{cost.lower()}",
            alt,
            *_size(len(points)),
            Axis(paid, min(costs) / 1.6, max(costs) * 1.6, _brief, log=True),
            Axis(measured, *around([floor, *(y for _, y in points)], 0.12), _plain),
            tuple(
                Series(one.name, colour_of(findings, one), (point,), (said,), marker=_marker(findings, one))
                for (one, _), point, said in zip(networks, points, told, strict=True)
            ),
            levels=((baseline, floor),),
            front=tuple(corners),
        )
    )


def _loss_chart(file: str, name: str, steps: tuple[int, ...], values: tuple[float, ...], colour: str) -> Picture:
    told = tuple(f"{name}, step {whole(step)}: {loss(value)}" for step, value in zip(steps, values, strict=True))
    alt = f"{name}: from {loss(values[0])} to {loss(values[-1])} at step {whole(steps[-1])}."
    last = max(steps[-1], steps[0] + 1)
    points = tuple(zip(map(float, steps), values, strict=True))
    return draw(
        Chart(
            file,
            alt,
            210,
            112,
            Axis("", 0, last, _brief, ticks=3),
            Axis("", *around(values), _plain, ticks=3),
            (Series(name, colour, points, told, line="solid", named=False),),
        )
    )


def _brief(value: float) -> str:
    """5.00 G -> 5G."""
    number, _, unit = short(value).partition(" ")
    return f"{float(number):g}{unit}"


def _plain(value: float) -> str:
    return f"{value:.6g}"


def _size(names: int) -> tuple[int, int]:
    """Width, and a height with room for all names, one above the other."""
    return _WIDTH, max(260, 90 + 14 * names)


def colour_of(findings: Findings, contender: Contender) -> str:
    """A student's colour; the teacher has the colour of the text."""
    return SERIES[findings.students.index(contender) % len(SERIES)] if contender.role == "student" else INK


def _marker(findings: Findings, contender: Contender) -> str:
    return _MARKERS[findings.students.index(contender) % len(_MARKERS)] if contender.role == "student" else "star"
