"""Which files make up a collection: the patterns of params.yaml, looked up in the fetched sources."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from components.images.datasets import Collection, Dataset, Split
from components.images.picture_files import ENDINGS, refuse_no_file
from components.run.errors import InputError, unknown_name

_LOG = logging.getLogger(__name__)
_LONGEST_NAME = 255 - len(".png")
"""Bytes of the longest name of an image: its restored image is a file of that name."""


@dataclass(frozen=True)
class Listed:
    """One image of a split, and where its degraded partner has to be.

    Attributes:
        split: training, validation or test.
        dataset: name of its dataset.
        name: what it is called.
        clean: path of the clean image, relative to the folder of fetched sources, with forward slashes.
        degraded: path of its degraded partner, likewise; empty where the task's degradation makes it.
    """

    split: Split
    dataset: str
    name: str
    clean: str
    degraded: str


def list_images(collection: Collection, datasets: Mapping[str, Dataset], raw: Path, scale: int) -> list[Listed]:
    """List the images of every split, in the order training, validation, test, then by dataset and path.

    Logs how many pictures beside them are left out, since no pattern matches them.

    Args:
        collection: the datasets of each split.
        datasets: every dataset of params.yaml by name.
        raw: folder of fetched sources, one folder per source.
        scale: what `{scale}` stands for in the path of a degraded partner.

    Raises:
        InputError: an unknown dataset, a pattern that matches no file or leaves its source, an `exclude` that names
            no image, a path template that cannot be filled in, or a match that is no file (a link to nothing, a pipe).
    """
    listed, matched = list[Listed](), set[Path]()
    for split, name in collection.datasets():
        if name not in datasets:
            raise unknown_name(f"collections: {split}", name, datasets)
        found = _found(name, datasets[name], raw)
        matched |= {raw / datasets[name].source / path for path in found}
        listed += _list_dataset(split, name, datasets[name], found, raw, scale)
    _tell_left_out(matched, {raw / path for one in listed for path in (one.clean, one.degraded)})
    return listed


def _tell_left_out(matched: set[Path], partners: set[Path]) -> None:
    """Log the pictures beside those that a pattern matches which none does: their names may end in capitals, say."""
    for folder in sorted({path.parent for path in matched}):
        pictures = {path for path in folder.iterdir() if path.suffix.lower() in ENDINGS}
        if left := sorted(path.name for path in pictures - matched - partners):
            _LOG.warning(
                "%s: %d of %d pictures are left out, since no pattern of the collection's datasets matches them: %s. "
                "If they are meant, write a pattern for them too, such as '*.[pP][nN][gG]'.",
                folder,
                len(left),
                len(pictures),
                ", ".join(left[:5]) + (", ..." if len(left) > 5 else ""),
            )


def _found(name: str, dataset: Dataset, raw: Path) -> dict[Path, str]:
    """The files that a dataset's patterns find, relative to its source's folder, and the first pattern of each."""
    folder, where = raw / dataset.source, f"datasets.{name}"
    if not folder.is_dir():
        raise InputError(f"{where}.source: {folder} is not a folder. Write the name of one of `sources`, and fetch it.")
    found: dict[Path, str] = {}
    for pattern in dataset.patterns:
        for path in _matches(f"{where}.{'degraded' if isinstance(dataset.clean, str) else 'clean'}", pattern, folder):
            found.setdefault(path, pattern)
    return found


def _list_dataset(
    split: Split, name: str, dataset: Dataset, found: Mapping[Path, str], raw: Path, scale: int
) -> list[Listed]:
    folder, where = raw / dataset.source, f"datasets.{name}"
    names = {path: _image_name(where, dataset.name, path, pattern, scale) for path, pattern in sorted(found.items())}
    unused = set(dataset.exclude) - set(names.values())
    if unused:
        raise unknown_name(f"{where}.exclude", min(unused), set(names.values()))
    listed = []
    for path, image in names.items():
        if image in dataset.exclude:
            continue
        if not isinstance(dataset.clean, str):
            clean, template = str(path), dataset.degraded
            degraded = (
                _fill(f"{where}.degraded", template, path, found[path], scale) if isinstance(template, str) else ""
            )
        else:
            clean, degraded = _fill(f"{where}.clean", dataset.clean, path, found[path], scale), str(path)
            if not (folder / clean).is_file():
                raise InputError(
                    f"{where}.clean: {folder / clean} is missing, the clean partner of {path}. Correct the path, or "
                    "leave the image out (`exclude`)."
                )
        listed.append(
            Listed(split, name, image, _in_source(dataset.source, clean), _in_source(dataset.source, degraded))
        )
    if not listed:
        raise InputError(f"{where}: `exclude` leaves none of the images that match {list(dataset.patterns)}.")
    return listed


def _in_source(source: str, path: str) -> str:
    return str(PurePosixPath(source) / PurePosixPath(path)) if path else ""


def _matches(where: str, pattern: str, folder: Path) -> list[Path]:
    """Files of `folder` that match, relative to it."""
    _stay_inside(where, pattern)
    found = [path.relative_to(folder) for path in folder.glob(pattern) if not path.is_dir()]
    if not found:
        there = [str(path.relative_to(folder)) for path in islice(folder.rglob("*"), 1000) if path.is_file()]
        examples = ", ".join(sorted(there)[:5]) or "nothing"
        raise InputError(f"{where}: the pattern {pattern!r} matches no file in {folder}. Found there: {examples}.")
    for path in found:
        if not str(path).isprintable():
            raise InputError(f"{where}: {str(path)!r} in {folder} is not a UTF-8 file name. Rename the file.")
        refuse_no_file(folder / path)
    return found


def _image_name(where: str, template: str, path: Path, pattern: str, scale: int) -> str:
    name = _fill(f"{where}.name", template, path, pattern, scale)
    if "/" in name:
        raise InputError(f"{where}.name: {name!r} has a slash. Use wildcards for single folders, joined by `_`.")
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"{where}.name: {name!r} has more than {_LONGEST_NAME} bytes. Make shorter names of {path}.")
    return name


def _fill(where: str, template: str, path: Path, pattern: str, scale: int) -> str:
    """Fill in the placeholders for parts of a found file's path."""
    wildcards = _wildcards(pattern, path)
    try:
        filled = template.format(
            str(path), *wildcards, name=path.stem, extension=path.suffix.removeprefix("."), scale=scale
        )
    except (LookupError, ValueError, AttributeError):
        numbers = "".join(f", {{{number}}}" for number in range(1, len(wildcards) + 1))
        raise InputError(
            f"{where}: cannot fill in {template!r}. Only {{name}} and {{scale}}, {{extension}}{numbers} have a "
            f"meaning; the numbers count the wildcards of {pattern!r}."
        ) from None
    _stay_inside(where, filled)
    return filled


def _wildcards(pattern: str, path: Path) -> tuple[str, ...]:
    """What each wildcard of a pattern matched in a path that `Path.glob` found with it; `**` may be empty."""
    expression = ""
    for part in PurePosixPath(pattern).parts:
        if part == "**":
            expression += r"(?:(.+?)/)?"
            continue
        for piece in re.findall(r"\[!?\]?[^\]]*\]|.", part):
            if len(piece) > 1:
                expression += f"({piece.replace('[!', '[^', 1)})"
            else:
                expression += {"*": "([^/]*)", "?": "([^/])"}.get(piece, re.escape(piece))
        expression += "/"
    found = re.fullmatch(expression.removesuffix("/"), path.as_posix())
    return tuple(text or "" for text in found.groups()) if found else ()


def _stay_inside(where: str, path: str) -> None:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise InputError(f"{where}: {path!r} leaves its source's folder. Write a path relative to it, without `..`.")
