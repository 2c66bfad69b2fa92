"""The manifest: one row per image that `validate` vouches for; every later step reads it."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

from pydantic import Field

from components.images.datasets import Split
from components.run.errors import InputError
from components.run.files import write_text
from components.run.params import typed


@dataclass(frozen=True, order=True)
class Entry:
    """One image of one split.

    Attributes:
        split: training, validation or test.
        dataset: name of its dataset.
        name: file name without extension, unique within its dataset.
        clean: path of the clean image, relative to the folder of fetched sources.
        degraded: path of its degraded partner, likewise; empty where the task's degradation makes it.
        height: rows of the clean image.
        width: columns of the clean image.
        sha256: of the clean file.
        perceptual_hash: 64-bit perceptual hash of the clean image, 16 hex digits.
    """

    split: Split
    dataset: str
    name: str
    clean: str
    degraded: str
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    perceptual_hash: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]

    @property
    def key(self) -> str:
        """`dataset/name`: unique within a manifest's split."""
        return f"{self.dataset}/{self.name}"


COLUMNS = tuple(field.name for field in fields(Entry))


def write_manifest(path: Path, entries: list[Entry]) -> None:
    """Write entries as CSV in sorted order, so that equal entries give equal bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(entry) for entry in sorted(entries))
    write_text(path, text.getvalue())


def read_manifest(path: Path) -> list[Entry]:
    """Read a manifest.

    Raises:
        InputError: the file is not a manifest.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path}: not a manifest: its columns are {reader.fieldnames}, expected {list(COLUMNS)}.")
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a manifest ({error}); run `validate` again.") from None
    return [typed(Entry, _numbered(row), f"{path}: line {line}") for line, row in enumerate(rows, start=2)]


def _numbered(row: dict[str, str | None]) -> dict[str, str | int | None]:
    """A row with its sizes as numbers, where they are written as such: a CSV file holds only texts."""
    sizes = {name: row[name] for name in ("height", "width")}
    return row | {name: int(text) for name, text in sizes.items() if text and text.isascii() and text.isdigit()}
