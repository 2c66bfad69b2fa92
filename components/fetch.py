"""Fetch the datasets and checkpoints that params name: verified, unpacked, whole or not at all."""

import logging
import shutil
from functools import partial
from pathlib import Path

from components.dependencies.verdict import refuse_unsound
from components.fetching.archives import unpack
from components.fetching.sources import located, stored_name
from components.images.datasets import Collection, Dataset, EntryName, Source, SourceFile, shown
from components.run.errors import InputError, unknown_name
from components.run.files import written_whole
from components.run.params import PARAMS_FILE
from components.run.step import run_step
from components.telemetry.recorder import observed

DOWNLOADS = Path(".cache/downloads")
"""Outside the stage's output, because DVC removes an output before the stage runs."""

_log = logging.getLogger(__name__)


def fetch(
    collection: Collection, sources: dict[EntryName, Source], datasets: dict[EntryName, Dataset], raw: Path
) -> None:
    """Fetch every source that a collection's datasets, checkpoints and kernels name into `raw/<source>/`.

    Args:
        collection: the datasets and checkpoints of one task.
        sources: all sources there are.
        datasets: all datasets there are.
        raw: the folder to write.

    Raises:
        InputError: an unknown name, or a file that can't be fetched, verified or unpacked.
    """
    with written_whole(raw) as folder:
        for name in _named(collection, sources, datasets):
            (folder / name).mkdir(parents=True)
            for index, file in enumerate(sources[name].files):
                try:
                    _fetch_file(file, folder / name)
                except InputError as error:
                    raise InputError(f"{PARAMS_FILE}: sources.{name}.files.{index}: {error}") from None


def _named(collection: Collection, sources: dict[EntryName, Source], datasets: dict[EntryName, Dataset]) -> list[str]:
    """Names of the sources to fetch, each once."""
    names = []
    for split, dataset in collection.datasets():
        if dataset not in datasets:
            raise unknown_name(f"{PARAMS_FILE}: collection, {split}", dataset, datasets)
        names.append((f"datasets.{dataset}.source", datasets[dataset].source))
    names += [("collection, checkpoints", name) for name in collection.checkpoints]
    names += [("collection, kernels", name) for name in collection.kernels]
    for where, name in names:
        if name not in sources:
            raise unknown_name(f"{PARAMS_FILE}: {where}", name, sources)
    return sorted({name for _, name in names})


def _fetch_file(file: SourceFile, folder: Path) -> None:
    name = stored_name(file)
    with located(file, DOWNLOADS) as path:
        if file.unpack:
            unpack(path, folder, name)
        elif (folder / name).exists():
            raise InputError(f"{shown(file.url)}: the source already has another file {name!r}; write a `name`.")
        else:
            _copy(path, folder / name)
        _log.info(f"{folder.name}: {name}, {path.stat().st_size} bytes")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        error.filename = str(target)  # shutil names the file it reads, but it is the other's disk that is full
        raise


main = partial(run_step, fetch, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
