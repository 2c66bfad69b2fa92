"""Tables and charts of what the students lost against their teacher, by image and by frequency."""

import math
from collections.abc import Mapping, Sequence

from components.reporting.charts import colour_of
from components.reporting.drawing import MUTED, Axis, Chart, Series, around, draw
from components.reporting.findings import Findings
from components.reporting.pictures import Picture
from components.reporting.spectrum import RINGS, Spectrum
from components.reporting.tables import Cell, Column, Table
from components.reporting.wording import ABSENT, decibels, difference, levels

FORMULA = (
    "For two images A and B in luma, the power of their difference at the frequency f is "
    "P(f) = |F(A - B)(f)|² / (HW)², where F is the discrete Fourier transform and f is in cycles per pixel; its sum "
    "over all f is the mean squared error. "
    "A band combines all directions, and is averaged over the test images. "
    "Against the teacher: 10 log10 of P(teacher - clean) over P(student - clean), in dB; below 0 the student lost."
)
_BAND_NAMES = ("coarse, under 1/16", "1/16 to 1/8", "1/8 to 1/4", "fine, over 1/4")


def band_table(findings: Findings, spectra: Mapping[str, Spectrum]) -> Table:
    """Each student by band: what it lost against the teacher, its error, and its distance from the teacher."""
    teacher = spectra[findings.teacher.name].bands
    columns = [Column("", number=False)]
    for group in ("against the teacher, dB", "error, levels", "distance from the teacher, levels"):
        columns += [Column(name, group) for name in _BAND_NAMES]
    rows = []
    for one in (*findings.students, findings.teacher):
        found = spectra[one.name]
        lost = [_ratio(taught, own) for own, taught in zip(found.bands, teacher, strict=True)]
        cells = [Cell(one.name)]
        cells += [_against(value) if one is not findings.teacher else Cell(ABSENT) for value in lost]
        cells += [Cell(levels(math.sqrt(power))) for power in (*found.bands, *found.to_teacher)]
        rows.append(tuple(cells))
    caption = (
        "By band of frequencies, in cycles per pixel: by how many dB a student is better (+) or worse (\N{MINUS SIGN}) "
        "than its teacher; its root mean squared error, in levels of luma; and the same for its distance from the "
        "teacher."
    )
    return Table(caption, tuple(columns), tuple(rows))


def spectrum_charts(findings: Findings, spectra: Mapping[str, Spectrum]) -> tuple[tuple[str, Picture], ...]:
    """Over frequency: each student against its teacher in dB, and its distance from the teacher in dB."""
    teacher = spectra[findings.teacher.name]
    lost = {
        one.name: [_ratio(*pair) for pair in zip(teacher.rings, spectra[one.name].rings, strict=True)]
        for one in findings.students
    }
    far = {one.name: [_level(value) for value in spectra[one.name].rings_to_teacher] for one in findings.students}
    own = [_level(value) for value in teacher.rings]
    charts = []
    for file, text, title, curves, reference in (
        ("spectrum_lost", "dB", "Students against the teacher: below 0 is lost", lost, [0.0] * RINGS),
        ("spectrum_far", "power, dB", "Distance from the teacher, and the teacher's own error (dashed)", far, own),
    ):
        if all(value is None for curve in curves.values() for value in curve):
            continue
        told = "; ".join(f"{name}: {_told(curve)}" for name, curve in curves.items())
        series = [_curve(one.name, colour_of(findings, one), curves[one.name], "solid") for one in findings.students]
        series.append(_curve(findings.teacher.name, MUTED, reference, "dashed"))
        drawn = tuple(one for one in series if one.points)
        picture = draw(
            Chart(
                file,
                f"{title}, over frequency. {told}.",
                460,
                max(250, 80 + 14 * len(drawn)),
                Axis("frequency, cycles per pixel", 0, 0.5, lambda value: f"{value:g}"),
                Axis(text, *around([y for one in drawn for _, y in one.points]), lambda value: f"{value:.6g}"),
                drawn,
            )
        )
        charts.append((title, picture))
    return tuple(charts)


def lost_table(findings: Findings) -> Table:
    """PSNR of each student minus the teacher's on each image; the image with the largest loss comes first."""
    columns = (Column("image", number=False), *(Column(one.name) for one in findings.students), Column("teacher, PSNR"))
    rows = []
    for entry in findings.worst_first:
        teacher = findings.teacher.images[entry.key].psnr
        lost = [_against(one.images[entry.key].psnr - teacher) for one in findings.students]
        rows.append((Cell(entry.key), *lost, Cell(decibels(teacher))))
    caption = "PSNR of each student minus its teacher's, in dB; the image on which the students lost most comes first."
    return Table(caption, columns, tuple(rows))


def _against(value: float | None) -> Cell:
    if value is None:
        return Cell(ABSENT)
    text = difference(value)
    return Cell(text, "up" if text[0] == "+" else "down" if text[0] == "-" else "")


def _ratio(power: float, other: float) -> float | None:
    return 10 * math.log10(power / other) if power > 0 and other > 0 else None


def _level(power: float) -> float | None:
    return 10 * math.log10(power) if power > 0 else None


def _curve(name: str, colour: str, values: Sequence[float | None], line: str) -> Series:
    middles = [(ring + 0.5) / (2 * RINGS) for ring in range(RINGS)]
    points = tuple((x, y) for x, y in zip(middles, values, strict=True) if y is not None)
    told = tuple(f"{name}, {x:.3f} cycles per pixel: {difference(y)} dB" for x, y in points)
    return Series(name, colour, points, told, line=line)


def _told(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return (
        f"{difference(known[0])} dB at the coarsest, {difference(known[-1])} dB at the finest" if known else "nothing"
    )
