"""What a dataset is made of: where it comes from, which files are clean, and where their degraded partners lie."""

from typing import Literal

from pydantic import Field

from components.run.params import Params

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")


class SourceFile(Params):
    """One file to fetch.

    Attributes:
        url: `package:MODULE/PATH` (a file inside an installed package), `file:PATH` (`~` and `$VARIABLES` are
            expanded), `http(s)://...` or `s3://BUCKET/KEY` (endpoint and keys from the environment).
        sha256: 64 hex digits of the file as it is fetched, before unpacking; without it nothing is verified.
        name: the name to store it under; by default the last part of the URL.
        unpack: whether it is a zip or tar archive to unpack in place.
        licence: what its owner allows, for the report.
        author: whom to name, for the report.
    """

    url: str
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    name: str | None = None
    unpack: bool = False
    licence: str = ""
    author: str = ""


class Source(Params):
    """Files that are fetched together into one folder, `raw/<name of the source>/`."""

    files: tuple[SourceFile, ...] = Field(min_length=1)


class Dataset(Params):
    """Images of one source.

    Attributes:
        source: name of the source they come from.
        clean: patterns (globs) of the clean images, relative to the source's folder.
        degraded: path of the degraded partner of a clean image, relative to the source's folder, with `{name}` for
            the clean file's name without extension and `{scale}` for the task's scale; None where the task's own
            degradation makes it.
        exclude: names (without extension) to leave out, for instance images that a test set also holds.
    """

    source: str
    clean: tuple[str, ...] = Field(min_length=1)
    degraded: str | None = None
    exclude: tuple[str, ...] = ()


class Collection(Params):
    """The datasets of one task by split, and the sources that hold its published checkpoints."""

    training: tuple[str, ...] = Field(min_length=1)
    validation: tuple[str, ...] = Field(min_length=1)
    test: tuple[str, ...] = Field(min_length=1)
    checkpoints: tuple[str, ...] = ()

    def datasets(self) -> tuple[tuple[Split, str], ...]:
        """Every (split, dataset name), in a fixed order."""
        return tuple((split, name) for split in SPLITS for name in getattr(self, split))
