"""The report's charts: what each shows, and the same in words for those who can't see it."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from components.reporting.drawing import INK, MUTED, SERIES, Named, draw, label
from components.reporting.findings import Contender, Findings
from components.reporting.pictures import Picture
from components.reporting.tables import loss_curves, shown_terms
from components.reporting.wording import decibels, loss, whole

_MARKERS = "os^Dv"
_WIDTH = 400
_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.8}
"""Marks that show what lies under them: equal students lie on one another."""


def cost_charts(findings: Findings) -> tuple[Picture, ...]:
    """PSNR over parameters for each test set; the baseline, which has none, is a line."""
    return tuple(_cost_chart(findings, number, dataset) for number, dataset in enumerate(findings.sets, 1))


def validation_chart(findings: Findings) -> Picture | None:
    """PSNR on the validation images over the training steps; None where nothing was trained."""
    trained = [one for one in findings.contenders if one.validation.steps]
    if not trained:
        return None
    ends = [
        Named(one.name, one.validation.steps[-1], one.validation.values["psnr"][-1], _colour(findings, one))
        for one in trained
    ]

    def paint(axes: Axes) -> None:
        for contender in trained:
            steps, psnr = contender.validation.steps, contender.validation.values["psnr"]
            axes.plot(
                steps,
                psnr,
                marker=_marker(findings, contender),
                color=_colour(findings, contender),
                linestyle="--" if contender.role == "teacher" else "-",
                markersize=6,
                **_HOLLOW,
            )
        axes.set_xlim(0, max(end.x for end in ends) * 1.25)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("training steps")
        axes.set_ylabel("PSNR on the validation images, dB")
        label(axes, ends)

    told = "; ".join(f"{end.name}: {decibels(end.y)} dB at step {whole(end.x)}" for end in ends)
    return draw("validation", f"Validation PSNR over training steps; at the end {told}.", *_size(len(ends)), paint)


def loss_charts(findings: Findings) -> tuple[tuple[str, tuple[tuple[str, Picture], ...]], ...]:
    """For all that was trained, a small chart for each term: `(name, ((term, chart), ...))`."""
    colours = {one.name: _colour(findings, one) for one in findings.contenders}
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


def _cost_chart(findings: Findings, number: int, dataset: str) -> Picture:
    networks = [(one, one.cost.parameters) for one in findings.contenders if one.cost]
    points = [Named(one.name, cost, one.sets[dataset].psnr, _colour(findings, one)) for one, cost in networks]
    floor, baseline = findings.baseline.sets[dataset].psnr, findings.baseline.name

    def paint(axes: Axes) -> None:
        for (network, _), point in zip(networks, points, strict=True):
            axes.plot(point.x, point.y, _marker(findings, network), color=point.colour, markersize=8, **_HOLLOW)
        axes.axhline(floor, color=MUTED, linestyle="--", linewidth=1.2)
        axes.annotate(baseline, (0, floor), (6, 4), axes.get_yaxis_transform(), textcoords="offset points", color=MUTED)
        axes.set_xscale("log")
        axes.set_xlim(min(point.x for point in points) / 2, max(point.x for point in points) * 3)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_xlabel("parameters")
        axes.set_ylabel("PSNR, dB")
        axes.margins(y=0.12)
        label(axes, points)

    told = "; ".join(f"{one.name}: {decibels(one.y)} dB, {whole(one.x)} parameters" for one in points)
    alt = f"PSNR over parameters on {dataset}. {baseline}: {decibels(floor)} dB; {told}."
    return draw(f"cost_{number}", alt, *_size(len(points)), paint)


def _loss_chart(file: str, name: str, steps: tuple[int, ...], values: tuple[float, ...], colour: str) -> Picture:
    def paint(axes: Axes) -> None:
        axes.plot(steps, values, color=colour, linewidth=1.4)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(3))

    alt = f"{name}: from {loss(values[0])} to {loss(values[-1])} at step {whole(steps[-1])}."
    return draw(file, alt, 200, 110, paint)


def _size(names: int) -> tuple[float, float]:
    """Width, and a height that has room for the names one above the other."""
    return _WIDTH, max(260, 90 + 14 * names)


def _colour(findings: Findings, contender: Contender) -> str:
    return SERIES[findings.students.index(contender) % len(SERIES)] if contender.role == "student" else INK


def _marker(findings: Findings, contender: Contender) -> str:
    return _MARKERS[findings.students.index(contender) % len(_MARKERS)] if contender.role == "student" else "*"
