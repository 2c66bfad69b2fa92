"""What a dataset is made of: where it comes from, which files are clean, and where their degraded partners lie."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.run.params import Params

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")


Patterns = Annotated[tuple[str, ...], Field(min_length=1)]


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

    One of `clean` and `degraded` is a list of patterns (globs), which finds files; the other, if there is one, is a
    path that leads from such a file to its partner. So clean images have one degraded partner each (a list `clean`), or
    several degraded images share a clean one (a list `degraded`). In the path stand `{name}` for the found file's name
    without extension, `{extension}` for its extension, `{scale}` for the task's scale, and `{1}`, `{2}`, ... for what
    the wildcards of the pattern matched (`*`, `**`, `?`, `[...]`, in their order).

    Attributes:
        source: name of the source they come from.
        clean: patterns of the clean images, relative to the source's folder, or the path of the clean partner.
        degraded: path of the degraded partner, or patterns of the degraded images; None where the task's own
            degradation makes them.
        name: what an image is called in scores and files, unique in its dataset; made like a path, without slashes.
        exclude: names to leave out, for instance images that a test set also holds.
    """

    source: str
    clean: Patterns | str
    degraded: str | Patterns | None = None
    name: str = "{name}"
    exclude: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_one_list(self) -> Self:
        if isinstance(self.clean, str) != isinstance(self.degraded, tuple):
            raise ValueError(
                "one of clean and degraded finds files and is a list of patterns, as in clean: ['HR/*.png']; the other "
                "is the path of a found file's partner, as in degraded: 'LR/{name}.png'"
            )
        return self

    @property
    def patterns(self) -> Patterns:
        """The patterns that find its files."""
        return self.degraded if isinstance(self.degraded, tuple) else tuple(self.clean)


class Collection(Params):
    """The datasets of one task by split, and the sources that hold its published checkpoints and motion kernels."""

    training: tuple[str, ...] = Field(min_length=1)
    validation: tuple[str, ...] = Field(min_length=1)
    test: tuple[str, ...] = Field(min_length=1)
    checkpoints: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def datasets(self) -> tuple[tuple[Split, str], ...]:
        """Every (split, dataset name), in a fixed order."""
        return tuple((split, name) for split in SPLITS for name in getattr(self, split))


def shown(url: str) -> str:
    """Return a URL as it may stand in a message: without user, password, and query (which can hold a signature)."""
    if url.startswith(("package:", "file:", "s3:")):  # have none, and may hold these signs in a name
        return url
    return re.sub(r"(?<=://)[^/?#]*@", "", re.split(r"[?#]", url)[0])
