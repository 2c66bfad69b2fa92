"""The files that `export` wrote, next to student and teacher as trained: size, loss and cost of each."""

from components.reporting.circumstances import ExportFindings
from components.reporting.findings import Findings
from components.reporting.tables import Cell, Column, Table
from components.reporting.wording import ABSENT, decibels, difference, milliseconds, whole

# The file's name in the measured costs, in the measured losses, and in words.
_STUDENT = (
    ("student_torch", "torch", "as trained"),
    ("student", "student", "ONNX"),
    ("student_float16", "student_float16", "ONNX, float16"),
    ("student_int8", "student_int8", "ONNX, int8"),
)
_TEACHER = (("teacher_torch", "as trained"), ("teacher", "ONNX"))


def export_table(findings: Findings) -> Table | None:
    """One row per file; None if no exports are known. Exports of earlier weights of a student are left out."""
    known = findings.circumstances.exports if findings.circumstances else {}
    exports = [
        (one.name, known[one.name])
        for one in findings.students
        if one.name in known and known[one.name].student == one.weights
    ]
    if not exports:
        return None
    sets = [name for name in findings.sets if all(name in export.losses["torch"] for _, export in exports)]
    columns = [Column("", number=False), Column("bytes")]
    for name in sets:
        columns += [Column("PSNR", name), Column("vs trained", name)]
    columns += [Column("ms", "per megapixel"), Column("MB", "per megapixel")]
    rows = []
    for method, export in exports:
        for costed, lost, words in _STUDENT:
            cells = [Cell(f"{method}, {words}"), Cell(whole(export.sizes[lost]))]
            for name in sets:
                found = export.losses[lost][name]
                cells += [Cell(decibels(found.psnr)), Cell(difference(-found.lost) if lost != "torch" else ABSENT)]
            rows.append((*cells, *_cost(export, costed)))
    first = exports[0][1]
    empty = [Cell(ABSENT)] * (1 + 2 * len(sets))
    rows += [(Cell(f"teacher, {words}"), *empty, *_cost(first, costed)) for costed, words in _TEACHER]
    machines = sorted({f"{export.device}, {export.threads} threads" for _, export in exports})
    caption = (
        "The exported files: size, PSNR and its difference from the network as trained, in dB, and time and memory "
        f"per megapixel of restored image, measured on: {'; '.join(machines)}."
    )
    return Table(caption, tuple(columns), tuple(rows))


def _cost(export: ExportFindings, name: str) -> tuple[Cell, Cell]:
    cost = export.networks[name]
    return Cell(milliseconds(1000 * cost.seconds_per_megapixel)), Cell(whole(cost.megabytes_per_megapixel))
