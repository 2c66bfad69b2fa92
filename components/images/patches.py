"""Training patches: image, crop and symmetry of each are functions of the seed and a counter alone."""

import functools
from collections.abc import Iterator
from typing import Protocol, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from components.images.metrics import LUMA, PEAK
from components.images.pixels import Degraded
from components.images.progressive_learning import ProgressiveLearning, unchanging
from components.images.store import Image, Record, Store
from components.run.errors import InputError

Pixels = TypeVar("Pixels", NDArray[np.uint8], Degraded)

_ORDER, _SAMPLE = 0, 1  # two families of random streams


class Degradation(Protocol):
    """Makes degraded crops where the store holds only clean images: a task."""

    @property
    def scale(self) -> int:
        """Clean size over degraded size."""

    @property
    def margin(self) -> int:
        """Degraded pixels around a crop that `degrade` needs to see."""

    def degrade(self, clean: Image, random: np.random.Generator) -> Degraded:
        """Degrade a clean image: `H W 3` -> `H/scale W/scale 3`."""


class Sample(TypedDict):
    """A training pair or, with a leading `B`, a batch of pairs.

    Attributes:
        degraded: float32 `3 h w`, black 0 and white 1; unclipped noise exceeds this range.
        clean: float32 `3 H W` in [0, 1], `H = scale * h`.
        seed: int64 scalar drawn for this sample, for methods that draw noise.
    """

    degraded: torch.Tensor
    clean: torch.Tensor
    seed: torch.Tensor


class TrainingPatches(Dataset[Sample]):
    """Random aligned crops of a store's training records, turned by one of the 8 symmetries of the square.

    Sample number `index` depends only on (seed, index): there is no state, so training resumes at any step, and several
    processes share a batch without communicating. Each epoch of `len(records)` numbers visits every record once, in its
    own order. Crop and symmetries follow `paired_random_crop` and `augment` of BasicSR: the corner is drawn on the
    degraded grid; horizontal flip, vertical flip and transpose have p = .5 each.

    Args:
        store: the images.
        task: its scale must be the store's; it degrades the turned clean crop if the store holds no degraded image.
        patch: side of the degraded crop in pixels, constant or growing with the sample's number.
        seed: at least 0.
        augment: whether to flip and transpose.
        gray: whether to return gray floating-point images (red = green = blue) with the luma of the stored ones.

    Raises:
        InputError: no training record, a record smaller than the largest patch, or a store of another scale.
    """

    def __init__(
        self,
        store: Store,
        task: Degradation,
        patch: int | ProgressiveLearning,
        seed: int,
        augment: bool,
        gray: bool = False,
    ) -> None:
        self._store, self._task, self._seed = store, task, seed
        self._sizes = patch if isinstance(patch, ProgressiveLearning) else unchanging(1, patch)
        self._augment, self._gray = augment, gray
        self._records = store.records("training")
        if task.scale != store.scale:
            raise InputError(f"the image store has scale {store.scale}, the task {task.scale}: rerun build_lmdb.")
        if not self._records:
            raise InputError("the image store holds no training image: list one in the collection, rerun build_lmdb.")
        largest = self._sizes.largest_patch
        for record in self._records:
            if min(record.clean) < largest * task.scale:
                height, width = record.clean
                raise InputError(
                    f"{record.image}: {width}x{height} pixels are less than the training patch, {largest * task.scale} "
                    f"clean pixels wide ({largest} degraded). Write a smaller patch, or exclude the image; if it is "
                    "larger itself, cut larger sub-images (`packings` in params.yaml, its `size`)."
                )

    def __getitem__(self, index: int) -> Sample:
        """Make sample number `index` (0, 1, ... without end)."""
        epoch, place = divmod(index, len(self._records))
        record = self._records[_order(self._seed, epoch, len(self._records))[place]]
        random = _stream(self._seed, _SAMPLE, index)
        patch = self._sizes.patch(index)
        top, left = (int(random.integers(side // self._store.scale - patch + 1)) for side in record.clean)
        turns = random.random(3) < 0.5 if self._augment else np.zeros(3, bool)
        seed = int(random.integers(2**63 - 1))
        if record.degraded is None:
            clean, degraded = self._drawn(record, top, left, patch, turns, random)
        else:
            pair = self._store.crop(record, top, left, patch, patch)
            assert pair.degraded is not None  # noqa: S101 - the record says so
            clean, degraded = _turned(pair.clean, turns), _turned(pair.degraded, turns)
        planes = _gray_planes if self._gray else _planes
        return Sample(degraded=planes(degraded), clean=planes(clean), seed=torch.tensor(seed))

    def _drawn(
        self, record: Record, top: int, left: int, patch: int, turns: NDArray[np.bool_], random: np.random.Generator
    ) -> tuple[Image, Degraded]:
        """Degrade the turned clean crop, with the margin around it that the task needs to see.

        Where the margin exceeds the record, the record is mirrored, as a whole image is when it is blurred.
        """
        margin, scale = self._task.margin, self._store.scale
        first = [max(corner - margin, 0) for corner in (top, left)]
        last = [
            min(corner + patch + margin, side // scale) for corner, side in zip((top, left), record.clean, strict=True)
        ]
        height, width = (stop - start for start, stop in zip(first, last, strict=True))
        seen = self._store.crop(record, first[0], first[1], height, width).clean
        missing = [
            (scale * (margin - corner + start), scale * (margin + patch + corner - stop))
            for corner, start, stop in zip((top, left), first, last, strict=True)
        ]
        if any(map(any, missing)):
            seen = np.pad(seen, (*missing, (0, 0)), mode="symmetric")
        seen = np.ascontiguousarray(_turned(seen, turns))
        degraded = self._task.degrade(seen, random)
        return _inside(seen, margin * scale), _inside(degraded, margin)


class StepSampler(Sampler[list[int]]):
    """The sample numbers of one process, one list per step: the `batch_sampler` of a `DataLoader`.

    Step `s` (from 1) with a batch of `B` holds the numbers `(s - 1) B ... s B - 1`, or what progressive learning says;
    each of `W` processes takes an equal contiguous share of them.

    Args:
        first: the first step.
        last: the last step, included.
        batch: samples per step, over all processes, constant or varying with the step.
        rank: which process this is, from 0.
        world_size: how many processes there are.

    Raises:
        InputError: the batch can't be divided equally.
    """

    def __init__(
        self, first: int, last: int, batch: int | ProgressiveLearning, rank: int = 0, world_size: int = 1
    ) -> None:
        self._steps, self._rank, self._world_size = range(first, last + 1), rank, world_size
        self._sizes = batch if isinstance(batch, ProgressiveLearning) else unchanging(batch, 1)
        for size in self._sizes.batches:
            if size % world_size:
                raise InputError(
                    f"a batch of {size} can't be shared equally by {world_size} processes; write a multiple of that."
                )

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            samples = self._sizes.samples(step)
            share = len(samples) // self._world_size
            yield list(samples[self._rank * share : (self._rank + 1) * share])

    def __len__(self) -> int:
        return len(self._steps)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Permute the records of one epoch; two orders are cached because a batch may span two epochs."""
    return _stream(seed, _ORDER, epoch).permutation(count)


def _inside(image: Pixels, margin: int) -> Pixels:
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def _turned(image: Image, turns: NDArray[np.bool_]) -> Image:
    """Flip columns, flip rows, transpose, each if its flag is set."""
    image = image[:, ::-1] if turns[0] else image
    image = image[::-1] if turns[1] else image
    return image.transpose(1, 0, 2) if turns[2] else image


def _planes(image: Degraded) -> torch.Tensor:
    """Turn `H W 3` into float32 `3 H W`, black 0 and white 1."""
    if image.dtype == np.uint8:
        # NumPy's single thread is faster here than the threads that torch starts for a patch of 128 pixels.
        return torch.from_numpy(np.divide(image.transpose(2, 0, 1), np.float32(255), dtype=np.float32, order="C"))
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))


def _gray_planes(image: Degraded) -> torch.Tensor:
    """Turn `H W 3` into float32 `3 H W`, black 0 and white 1, with three equal planes and the luma of the image."""
    white = PEAK if image.dtype == np.uint8 else 1.0
    level = (image @ (np.array(LUMA) / (sum(LUMA) * white))).astype(np.float32)
    return torch.from_numpy(np.stack([level] * 3))
