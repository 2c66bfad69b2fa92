"""Tables of what went in: the datasets, the files and their authors, and what was expected of the images."""

from itertools import groupby

from components.images.manifest import Entry
from components.reporting.findings import Findings
from components.reporting.tables import Cell, Column, Table
from components.reporting.wording import decibels, short, whole


def dataset_table(findings: Findings) -> Table:
    """Datasets by split: number and size of their images, and where they come from."""
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
    return Table("The fetched files, with the first 12 digits of the checksum that verified each.", columns, rows)


def expectation_table(findings: Findings) -> Table:
    """What was expected of the images, and how many failed."""
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


def network_table(findings: Findings) -> Table:
    """Every network: its backbone, how long it was trained, and the hash of its weights."""
    rows = tuple(
        (
            Cell(one.name),
            Cell(one.backbone),
            Cell(whole(one.losses.steps[-1]) if one.losses.steps else "not trained here"),
            Cell(one.weights[:16]),
        )
        for one in (*findings.students, findings.teacher)
    )
    columns = (
        Column("network", number=False),
        Column("backbone", number=False),
        Column("steps"),
        Column("sha256", number=False),
    )
    return Table("The networks, with the first 16 digits of their weights' checksum.", columns, rows)


def recipe_table(findings: Findings) -> Table:
    """The values of params.yaml with which each network was trained."""
    rows = tuple(
        (Cell(name), Cell(", ".join(f"{key} {value}" for key, value in values)))
        for name, values in findings.recipes
        if values
    )
    columns = (Column("section", number=False), Column("values", number=False))
    return Table("The values of params.yaml that they were trained with, including seeds.", columns, rows)


def circumstances_sentences(findings: Findings) -> tuple[str, ...]:
    """Revision, lock, hardware and time as far as given; otherwise why they are missing."""
    about = findings.circumstances
    if about is None:
        absent = (
            "Revision, hardware, latency and durations are not on this page, because they differ from run to run and "
            "equal inputs make equal pages. The command python -m pipeline page makes the same page with them."
        )
        return (absent,)
    said = []
    if about.revision:
        changed = ", with changes that are not committed" if about.changed else ""
        said.append(f"Revision {about.revision}{changed}.")
    if about.lock:
        said.append(f"dvc.lock: sha256 {about.lock}.")
    if about.made:
        said.append(f"Page made {about.made}.")
    machines = sorted({f"{speed.device}, {speed.threads} threads" for speed in about.speed.values()})
    said.append(
        f"Latency was measured on: {'; '.join(machines)}." if machines else "Latency: not recorded for these methods."
    )
    if about.durations:
        took = ", ".join(f"{stage} {whole(seconds)} s" for stage, seconds in sorted(about.durations.items()))
        said.append(
            "Durations of each stage's last run on this machine (only the last part of an interrupted training): "
            f"{took}."
        )
    else:
        said.append("Durations: not recorded.")
    return tuple(said)


def encoder_sentence(findings: Findings) -> str:
    """How well the encoder reconstructs, and how much of its codebook it uses."""
    encoder = findings.encoder
    if encoder.psnr is None or encoder.codes_in_use is None or encoder.perplexity is None:
        return f"Imported, with {whole(encoder.codes)} codes but without its decoder, so it was not measured here."
    return (
        f"Trained here: it reconstructs the validation images at {decibels(encoder.psnr)} dB (RGB) and encodes them "
        f"with {whole(encoder.codes_in_use)} of its {whole(encoder.codes)} codes (perplexity {encoder.perplexity:.1f})."
    )


def _size(entry: Entry) -> str:
    return f"{entry.width}x{entry.height}"
