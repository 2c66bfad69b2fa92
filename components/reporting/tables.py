"""The report's tables as values: the page, its Markdown twin and the terminal print the same cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.reporting.findings import Contender, Curve, Findings, Quality
from components.reporting.wording import ABSENT, decibels, difference, loss, milliseconds, short, similarity, whole

Tone = Literal["", "up", "down", "best", "good", "bad"]


@dataclass(frozen=True)
class Column:
    """Head of a column: its text, the group that it shares with its neighbours, and whether it holds numbers."""

    text: str
    group: str = ""
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """One cell and its colour, which adds nothing to what its text says."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        caption: what it shows, in a sentence.
        columns: one for each cell of a row.
        rows: its cells.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Groups of neighbouring columns after the first, and how many columns each has; empty if there is no group."""
        runs: list[tuple[str, int]] = []
        for column in self.columns[1:]:
            if runs and runs[-1][0] == column.group:
                runs[-1] = (column.group, runs[-1][1] + 1)
            else:
                runs.append((column.group, 1))
        return tuple(runs) if any(name for name, _ in runs) else ()


def score_table(findings: Findings) -> Table:
    """Baseline, students and teacher on every set, their differences from reference and teacher, and their cost."""
    columns = [Column("", number=False)]
    for dataset in findings.sets:
        texts = ("PSNR", "SSIM", f"vs {findings.reference}", "vs teacher", *published_columns(findings, dataset))
        columns += [Column(text, dataset) for text in texts]
    columns += [Column("parameters"), Column("FLOPs")]
    timed = any(one.seconds for one in findings.contenders)
    columns += [Column("ms/megapixel")] if timed else []
    rows = []
    for contender in findings.contenders:
        cells = [Cell(contender.name)]
        for dataset in findings.sets:
            cells += score_cells(findings, contender, dataset)
            cells += _published_cells(findings, contender, dataset)
        cost = contender.cost
        cells += [Cell(whole(cost.parameters)), Cell(short(cost.flops))] if cost else [Cell(ABSENT), Cell(ABSENT)]
        if timed:
            cells.append(Cell(milliseconds(1000 * contender.seconds) if contender.seconds else ABSENT))
        rows.append(tuple(cells))
    caption = (
        "Mean PSNR in dB and SSIM of each test set; differences in PSNR, dB; FLOPs as multiply-adds for one "
        "1280x720 output. The best student of a column is bold."
    )
    return Table(caption, tuple(columns), tuple(rows))


def score_cells(findings: Findings, contender: Contender, dataset: str) -> list[Cell]:
    """PSNR, SSIM and the differences from reference and teacher on one set."""
    quality = contender.sets[dataset]
    rivals = [one.sets[dataset] for one in _rivals(findings, contender)]
    return [
        *_quality_cells(quality, rivals),
        _against(contender, findings.base, dataset),
        _against(contender, findings.teacher, dataset),
    ]


def published_columns(findings: Findings, dataset: str) -> tuple[str, ...]:
    """Heads of the published figures of a set: none, PSNR, or PSNR and SSIM."""
    figures = [findings.publication.figure(dataset, one.name) for one in findings.contenders]
    if not any(figures):
        return ()
    heads = ("published PSNR", "published SSIM")
    return heads if any(one and one.ssim is not None for one in figures) else heads[:1]


def _published_cells(findings: Findings, contender: Contender, dataset: str) -> list[Cell]:
    figure = findings.publication.figure(dataset, contender.name)
    texts = (
        decibels(figure.psnr) if figure else ABSENT,
        similarity(figure.ssim) if figure and figure.ssim is not None else ABSENT,
    )
    return [Cell(text) for text in texts[: len(published_columns(findings, dataset))]]


def image_table(findings: Findings) -> Table:
    """PSNR and SSIM of every test image, beginning with those on which the students lost most against the teacher."""
    columns = [Column("image", number=False)]
    for measure in ("PSNR", "SSIM"):
        columns += [Column(contender.name, measure) for contender in findings.contenders]
    rows = []
    for entry in findings.worst_first:
        pairs = [
            _quality_cells(one.images[entry.key], [rival.images[entry.key] for rival in _rivals(findings, one)])
            for one in findings.contenders
        ]
        rows.append((Cell(entry.key), *(psnr for psnr, _ in pairs), *(ssim for _, ssim in pairs)))
    caption = (
        "PSNR in dB and SSIM of each test image; the best student is bold. The image on which the students lost most "
        "against the teacher comes first."
    )
    return Table(caption, tuple(columns), tuple(rows))


def validation_table(findings: Findings) -> Table:
    """PSNR on the validation images over the training steps."""
    trained = [contender for contender in findings.contenders if contender.validation.steps]
    steps = sorted({step for contender in trained for step in contender.validation.steps})
    columns = (Column("step", number=False), *(Column(contender.name) for contender in trained))
    found = [dict(zip(one.validation.steps, one.validation.values["psnr"], strict=True)) for one in trained]
    rows = tuple(
        (Cell(whole(step)), *(Cell(decibels(psnr[step]) if step in psnr else ABSENT) for psnr in found))
        for step in steps
    )
    return Table("Mean PSNR in dB on the validation images, of the averaged weights.", columns, rows)


def loss_table(findings: Findings) -> Table:
    """Every loss term at the beginning and at the end."""
    rows = []
    for name, curve in loss_curves(findings):
        rows += [
            (Cell(f"{name}: {term}"), Cell(loss(values[0])), Cell(loss(values[-1])), Cell(whole(curve.steps[-1])))
            for term, values in shown_terms(curve).items()
        ]
    columns = (Column("loss", number=False), Column("first"), Column("last"), Column("steps"))
    return Table("Loss terms, unweighted: the first and the last row of each history.", columns, tuple(rows))


def loss_curves(findings: Findings) -> tuple[tuple[str, Curve], ...]:
    """Losses of everything that was trained: students, teacher, encoder."""
    named = [(contender.name, contender.losses) for contender in findings.contenders]
    return tuple((name, curve) for name, curve in [*named, ("encoder", findings.encoder.losses)] if curve.steps)


def shown_terms(curve: Curve) -> dict[str, tuple[float, ...]]:
    """The terms of a loss, and their sum if there are several."""
    terms = {name: values for name, values in curve.values.items() if name != "total"}
    return dict(curve.values) if len(terms) > 1 else terms


def _quality_cells(quality: Quality, rivals: Sequence[Quality]) -> tuple[Cell, Cell]:
    """PSNR and SSIM, each marked as best if no rival's displayed value is better; never marked without rivals."""
    return (
        _marked(decibels(quality.psnr), [decibels(one.psnr) for one in rivals]),
        _marked(similarity(quality.ssim), [similarity(one.ssim) for one in rivals]),
    )


def _marked(text: str, rivals: Sequence[str]) -> Cell:
    return Cell(text, "best" if rivals and float(text) >= max(map(float, rivals)) else "")


def _rivals(findings: Findings, contender: Contender) -> tuple[Contender, ...]:
    """The other students; none if the contender is not a student."""
    if contender.role != "student":
        return ()
    return tuple(student for student in findings.students if student is not contender)


def _against(contender: Contender, other: Contender, dataset: str) -> Cell:
    if contender is other:
        return Cell(ABSENT)
    text = difference(contender.sets[dataset].psnr - other.sets[dataset].psnr)
    return Cell(text, "up" if text[0] == "+" else "down" if text[0] == "-" else "")
