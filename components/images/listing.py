"""Which files a collection is made of: the patterns of params.yaml, looked up in the fetched sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from components.images.datasets import Collection, Dataset, Split
from components.run.errors import InputError, unknown_name


@dataclass(frozen=True)
class Listed:
    """One clean image of a split, and where its degraded partner has to lie.

    Attributes:
        split: training, validation or test.
        dataset: name of its dataset.
        name: file name without extension.
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

    Args:
        collection: the datasets of each split.
        datasets: every dataset of params.yaml by name.
        raw: folder of fetched sources, one folder a source.
        scale: what `{scale}` stands for in the path of a degraded partner.

    Raises:
        InputError: an unknown dataset, a pattern that matches no file or leaves its source, an `exclude` that names
            no image, or a path template that cannot be filled in.
    """
    listed = []
    for split, name in collection.datasets():
        if name not in datasets:
            raise unknown_name(f"collections: {split}", name, datasets)
        listed += _list_dataset(split, name, datasets[name], raw, scale)
    return listed


def _list_dataset(split: Split, name: str, dataset: Dataset, raw: Path, scale: int) -> list[Listed]:
    folder = raw / dataset.source
    if not folder.is_dir():
        raise InputError(
            f"datasets.{name}.source: {folder} is no folder. Write the name of a source of `sources`, and fetch it."
        )
    paths = sorted({path for pattern in dataset.clean for path in _matches(f"datasets.{name}.clean", pattern, folder)})
    unused = set(dataset.exclude) - {path.stem for path in paths}
    if unused:
        raise unknown_name(f"datasets.{name}.exclude", min(unused), {path.stem for path in paths})
    paths = [path for path in paths if path.stem not in dataset.exclude]
    if not paths:
        raise InputError(f"datasets.{name}: `exclude` leaves none of the images that match {list(dataset.clean)}.")
    source = PurePosixPath(dataset.source)
    return [
        Listed(
            split=split,
            dataset=name,
            name=path.stem,
            clean=str(source / path.as_posix()),
            degraded=str(source / _partner(name, dataset.degraded, path.stem, scale)) if dataset.degraded else "",
        )
        for path in paths
    ]


def _matches(where: str, pattern: str, folder: Path) -> list[Path]:
    """Files of `folder` that match, relative to it."""
    _stay_inside(where, pattern)
    found = [path.relative_to(folder) for path in folder.glob(pattern) if path.is_file()]
    if not found:
        there = [str(path.relative_to(folder)) for path in islice(folder.rglob("*"), 1000) if path.is_file()]
        examples = ", ".join(sorted(there)[:5]) or "nothing"
        raise InputError(f"{where}: the pattern {pattern!r} matches no file in {folder}. There is: {examples}.")
    for path in found:
        if not str(path).isprintable():
            raise InputError(f"{where}: {str(path)!r} in {folder} is no UTF-8 file name. Rename the file.")
    return found


def _partner(dataset: str, template: str, name: str, scale: int) -> str:
    where = f"datasets.{dataset}.degraded"
    try:
        path = template.format(name=name, scale=scale)
    except (LookupError, ValueError, AttributeError):
        raise InputError(
            f"{where}: cannot fill in {template!r}. Only {{name}} and {{scale}} stand for something."
        ) from None
    _stay_inside(where, path)
    return path


def _stay_inside(where: str, path: str) -> None:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise InputError(f"{where}: {path!r} leaves its source's folder. Write a path relative to it, without `..`.")
