"""Tables of what went in: the sets, the files and their owners, and what was expected of the images."""

from itertools import groupby

from components.images.manifest import Entry
from components.reporting.findings import Findings
from components.reporting.tables import Cell, Column, Table
from components.reporting.wording import decibels, short, whole


def dataset_table(findings: Findings) -> Table:
    """Sets by split: how many images of what size, and where they come from."""
    order = {"training": 0, "validation": 1, "test": 2}
    entries = sorted(findings.entries, key=lambda entry: (order[entry.split], entry.dataset))
    rows = []
    for (split, dataset), group in groupby(entries, key=lambda entry: (entry.split, entry.dataset)):
        images = sorted(group, key=lambda entry: (entry.height * entry.width, entry.width))
        degraded = "made here" if not images[0].degraded else "from the set"
        pixels = sum(image.height * image.width for image in images)
        rows.append(
            (
                Cell(dataset),
                Cell(split),
                Cell(findings.sources[dataset]),
                Cell(whole(len(images))),
                Cell(_size(images[0])),
                Cell(_size(images[-1])),
                Cell(short(pixels)),
                Cell(degraded),
            )
        )
    columns = (
        Column("dataset", number=False),
        Column("split", number=False),
        Column("source", number=False),
        Column("images"),
        Column("smallest"),
        Column("largest"),
        Column("pixels"),
        Column("degraded images", number=False),
    )
    return Table("The images of each split, clean, width x height.", columns, tuple(rows))


def origin_table(findings: Findings) -> Table:
    """Every fetched file with its licence and author."""
    columns = tuple(Column(text, number=False) for text in ("file", "source", "licence", "author", "sha256"))
    rows = tuple(
        (
            Cell(origin.url),
            Cell(origin.source),
            Cell(origin.licence or "not stated"),
            Cell(origin.author or "not stated"),
            Cell(origin.sha256[:12] or "not verified"),
        )
        for origin in findings.origins
    )
    return Table("The files they come from; the first 12 digits of the checksum they were verified by.", columns, rows)


def expectation_table(findings: Findings) -> Table:
    """What was expected of the images, and of how many it is true."""
    rows = []
    for one in findings.expectations:
        failed = len(one.failures)
        if failed:
            verdict = Cell("✗ failed" if one.required else "! reported only", "bad")
        else:
            verdict = Cell("✓ passed", "good") if one.checked else Cell("nothing to check")
        rows.append((Cell(one.expected), Cell(whole(one.checked)), Cell(whole(failed)), verdict))
    columns = (Column("expected", number=False), Column("checked"), Column("failed"), Column("result", number=False))
    return Table("What was expected of the images before anything was trained.", columns, tuple(rows))


def encoder_sentence(findings: Findings) -> str:
    """How well the encoder reconstructs, and how much of its codebook it uses."""
    encoder = findings.encoder
    if encoder.psnr is None or encoder.codes_in_use is None or encoder.perplexity is None:
        return (
            f"Imported, with {whole(encoder.codes)} codes; its decoder is not part of it, so it was not measured here."
        )
    return (
        f"Trained here: it reconstructs the validation images with {decibels(encoder.psnr)} dB (RGB) and codes them "
        f"with {whole(encoder.codes_in_use)} of its {whole(encoder.codes)} codes (perplexity {encoder.perplexity:.1f})."
    )


def _size(entry: Entry) -> str:
    return f"{entry.width}x{entry.height}"
