"""What a dataset is made of: where it comes from, which files are clean, and where their degraded partners are."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from components.run.params import Params

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")


def _is_no_path(name: str) -> str:
    if not re.fullmatch(r"\w[\w-]{0,99}", name):
        raise ValueError("a name is at most 100 letters, digits, _ and -, since it becomes that of a folder")
    return name


EntryName = Annotated[str, AfterValidator(_is_no_path)]
"""The name of a source, a dataset, or another entry of params.yaml."""

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

    One of `clean` and `degraded` is a list of patterns (globs) that find files; the other, if given, is a path that
    leads from a found file to its partner. So either each clean image has one degraded partner (`clean` is the list),
    or several degraded images share a clean one (`degraded` is the list). In the path, `{name}` stands for the found
    file's name without extension, `{extension}` for its extension, `{scale}` for the task's scale, and `{1}`, `{2}`,
    ... for what the wildcards of the pattern matched (`*`, `**`, `?`, `[...]`, in order).

    Attributes:
        source: name of the source they come from.
        clean: patterns of the clean images, relative to the source's folder, or the path of the clean partner.
        degraded: path of the degraded partner, or patterns of the degraded images; None where the task's own
            degradation makes them.
        name: an image's name in scores and files, unique in its dataset; written like the path, without slashes.
        exclude: names to leave out, for instance images that a test set also holds.
    """

    source: EntryName
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

    training: tuple[EntryName, ...] = Field(min_length=1)
    validation: tuple[EntryName, ...] = Field(min_length=1)
    test: tuple[EntryName, ...] = Field(min_length=1)
    checkpoints: tuple[EntryName, ...] = ()
    kernels: tuple[EntryName, ...] = ()

    def datasets(self) -> tuple[tuple[Split, str], ...]:
        """Every (split, dataset name), in a fixed order."""
        return tuple((split, name) for split in SPLITS for name in getattr(self, split))


def shown(url: str) -> str:
    """Return a URL fit for a message: without user, password and query (which can hold a signature)."""
    if url.startswith(("package:", "file:", "s3:")):  # these have none, but names may contain these characters
        return url
    return re.sub(r"(?<=://)[^/?#]*@", "", re.split(r"[?#]", url)[0])
