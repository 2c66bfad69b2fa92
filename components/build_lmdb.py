"""Pack the images of a manifest into an image store: aligned sub-images, raw, degraded where the task says so."""

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from functools import partial
from itertools import cycle
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from components.dependencies.verdict import refuse_unsound
from components.images.manifest import Entry, read_manifest
from components.images.pixels import to_bytes
from components.images.store import Cut, Pair, StoreWriter
from components.run.errors import InputError
from components.run.files import written_whole
from components.run.params import Params
from components.run.step import run_step
from components.tasks import TaskChoice, build_task
from components.tasks.pairs import read_clean, read_degraded, refuse_changed
from components.tasks.task import Task
from components.telemetry.progress import progress
from components.telemetry.recorder import observed

_OVERHEAD = 3 * 4096  # the most that LMDB adds to a record: keys and the unused ends of pages


class Packing(Params):
    """How training images are cut, in pixels of the clean image; both are multiples of the task's scale.

    Attributes:
        size: side of a sub-image; usually 480, for DIV2K.
        step: distance between sub-images, at most `size`; usually 240.
        variants: how many times a training image is degraded, if the task draws what is packed (blur by one of many
            kernels); its sub-images alternate between these, so that the store does not grow.
    """

    size: int = Field(ge=1)
    step: int = Field(ge=1)
    variants: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _covers(self) -> Self:
        if self.step > self.size:
            raise ValueError(
                f"step {self.step} leaves out pixels between sub-images of size {self.size}; write a smaller step"
            )
        return self


def build_lmdb(task: TaskChoice, packing: Packing, manifest: Path, raw: Path, lmdb: Path) -> None:
    """Pack the training and validation images of a manifest.

    Training images are cut to sub-images; validation images stay whole. An image without a degraded file is degraded by
    the task, or stored alone if the task degrades every crop anew.

    Args:
        task: what degrades the images.
        packing: how training images are cut.
        manifest: what `validate` wrote.
        raw: the folder of fetched sources, to which the manifest's paths are relative.
        lmdb: folder to write the store to.

    Raises:
        InputError: an image is broken, or the size of its degraded file is not clean size / scale.
    """
    built = build_task(task, raw)
    entries = [entry for entry in read_manifest(manifest) if entry.split != "test"]
    if not entries:
        raise InputError(f"{manifest}: lists no training or validation image.")
    pack(built, packing, entries, raw, lmdb, workers=min(len(os.sched_getaffinity(0)), len(entries)))


def pack(task: Task, packing: Packing, entries: Sequence[Entry], raw: Path, folder: Path, workers: int) -> None:
    """Write the store: the same bytes for any number of workers, with two image pairs per worker in memory.

    Raises:
        InputError: as `build_lmdb`, or the packing does not fit the task's scale.
    """
    for name, value in (("size", packing.size), ("step", packing.step)):
        if value % task.scale:
            raise InputError(
                f"packing.{name}: {value} is not a multiple of the scale {task.scale}: degraded sub-images would not "
                f"align with clean ones; write {value + -value % task.scale}."
            )
    expected = sum(
        3 * height * width + _OVERHEAD
        for entry in entries
        for _, (height, width) in cuts(entry, (entry.height, entry.width), packing)
    )
    with (
        written_whole(folder) as partial,
        StoreWriter(partial, task.scale, expected + expected // task.scale**2) as writer,
        closing(_load_all(task, raw, entries, packing.variants, workers)) as loaded,
    ):
        for entry, pairs in zip(entries, progress(loaded, "build_lmdb", len(entries)), strict=True):
            parts = cuts(entry, pairs[0].clean.shape, packing)
            if len(pairs) == 1:
                writer.add(entry.split, entry.key, pairs[0], parts)
            else:
                for part, pair in zip(parts, cycle(pairs), strict=False):
                    writer.add(entry.split, entry.key, pair, [part])


def cuts(entry: Entry, shape: Sequence[int], packing: Packing) -> list[Cut]:
    """List the corner and size of each part cut from an image of `shape` (`H W ...`).

    A grid of sub-images with the last row and column shifted inwards, so that every pixel is covered (BasicSR's
    `extract_subimages` with threshold 0); an image smaller than a sub-image keeps its size, and one that is not for
    training stays whole.
    """
    height, width = shape[:2]
    if entry.split != "training":
        return [((0, 0), (height, width))]
    size = min(packing.size, height), min(packing.size, width)
    tops, lefts = (
        [*range(0, side - part, packing.step), side - part] for side, part in zip((height, width), size, strict=True)
    )
    return [((top, left), size) for top in tops for left in lefts]


def _load_all(
    task: Task, raw: Path, entries: Iterable[Entry], variants: int, workers: int
) -> Generator[list[Pair], None, None]:
    """Load pairs in processes, in the order of `entries`, never more than two per worker ahead of the consumer."""
    pending: deque[Future[list[Pair]]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow_parent)
    try:
        for entry in entries:
            pending.append(pool.submit(_load, task, raw, entry, variants))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave keyboard interrupts to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        if parent := parent_process():
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _load(task: Task, raw: Path, entry: Entry, variants: int) -> list[Pair]:
    """Read one image and read, make or leave out its degraded partner: `variants` times if made for training."""
    refuse_changed(entry, raw)
    clean = read_clean(entry, raw, task)
    if entry.degraded:
        return [Pair(read_degraded(entry, raw, clean, task), clean)]
    if not task.packed:
        return [Pair(None, clean)]
    # Seeded by the file itself: what is drawn does not depend on the order or choice of the other images.
    random = np.random.default_rng(int(entry.sha256, 16))
    if entry.split != "training":
        return [Pair(to_bytes(task.degrade_for_test(clean, random)), clean)]
    return [Pair(to_bytes(task.degrade(clean, random)), clean) for _ in range(variants)]


main = partial(run_step, build_lmdb, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
