"""The scores as plain text for the terminal: at most 100 columns, and ASCII if the names are."""

import textwrap

from components.reporting.findings import Findings
from components.reporting.headline import headline
from components.reporting.tables import score_cells
from components.reporting.wording import ABSENT, whole

WIDTH = 100
_LONGEST_NAME, _LONGEST_NUMBER = 40, 14


def summary(findings: Findings) -> str:
    """A block of aligned rows for each test set, followed by the result in a sentence."""
    head = ("method", "PSNR", "SSIM", f"vs {findings.reference}", "vs teacher", "parameters")
    blocks = []
    for dataset in findings.sets:
        rows: list[tuple[str, ...]] = [head]
        for contender in findings.contenders:
            psnr, ssim, base, teacher = (cell.text for cell in score_cells(findings, contender, dataset))
            parameters = whole(contender.cost.parameters) if contender.cost else ABSENT
            rows.append((contender.name, psnr, ssim, base, teacher, parameters))
        blocks.append("\n".join([_cut(dataset, WIDTH), *_aligned(rows)]))
    return "\n\n".join([*blocks, textwrap.fill(headline(findings), WIDTH)]) + "\n"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    columns = [
        [_cut(cell.replace(ABSENT, "-"), _LONGEST_NUMBER if index else _LONGEST_NAME) for cell in column]
        for index, column in enumerate(zip(*rows, strict=True))
    ]
    widths = [max(map(len, column)) for column in columns]
    padded = [
        [cell.rjust(width) if index else cell.ljust(width) for cell in column]
        for index, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    lines = ["  ".join(row) for row in zip(*padded, strict=True)]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
