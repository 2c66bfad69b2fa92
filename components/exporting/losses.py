"""How much PSNR a variant of a network loses, on the test images and by the task's protocol."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from components.backbones.tiling import Span, restored_bands
from components.exporting.opening import Restorer
from components.images.manifest import Entry
from components.images.metrics import quantise
from components.images.pixels import Degraded, to_float
from components.run.errors import InputError
from components.tasks.evaluation import read_pair
from components.tasks.pairs import refuse_changed
from components.tasks.task import Image, Task
from components.telemetry.progress import progress

_DIGITS = 3


def restore_image(network: Restorer, degraded: Degraded) -> Image:
    """Restore an image of any size and round it to 8 bits, in tiles where it is large."""
    image = torch.from_numpy(to_float(degraded)).permute(2, 0, 1).unsqueeze(0)
    height, width = degraded.shape[:2]

    def run(rows: Span, columns: Span) -> torch.Tensor:
        return network(image[..., rows.start : rows.stop, columns.start : columns.stop])

    restored = torch.cat(list(restored_bands(run, height, width, network.scale)), -2)
    return quantise(restored[0].permute(1, 2, 0).numpy())


def measure_variants(
    variants: Mapping[str, Restorer], entries: Sequence[Entry], raw: Path, task: Task
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure several variants of one network on the test images.

    Args:
        variants: networks by name; the others are compared with the first.
        entries: of the test split.
        raw: folder of fetched sources.
        task: its protocol measures.

    Returns:
        `{variant: {dataset: {"psnr", "lost"}}}` in dB, means over the images, rounded to three decimals, because
        further ones may differ between processors.
    """
    if not entries:
        raise InputError("the manifest lists no test image: name a dataset in the collection's test split.")
    for entry in entries:
        refuse_changed(entry, raw)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in variants}
    for entry in progress(entries, "measure variants", len(entries)):
        degraded, clean = read_pair(entry, raw, task)
        for name, network in variants.items():
            psnr = task.measure(restore_image(network, degraded), clean)["psnr"]
            found[name].setdefault(entry.dataset, []).append(psnr)
    means = {
        name: {dataset: statistics.fmean(values) for dataset, values in sets.items()} for name, sets in found.items()
    }
    first = means[next(iter(variants))]
    return {
        name: {
            dataset: {"psnr": round(psnr, _DIGITS), "lost": round(first[dataset] - psnr, _DIGITS) + 0.0}
            for dataset, psnr in sets.items()
        }
        for name, sets in means.items()
    }


def calibration_crops(entries: Sequence[Entry], raw: Path, task: Task, count: int, side: int) -> list[Degraded]:
    """Crops of the degraded validation images, one image after another, each crop drawn by its number as the seed.

    Args:
        entries: of the validation split.
        raw: folder of fetched sources.
        task: degrades them.
        count: number of crops.
        side: of a crop, in degraded pixels; a smaller image is used whole.
    """
    if not entries:
        raise InputError("the manifest lists no validation image: name a dataset in the collection's validation split.")

    crops = []
    for start, entry in enumerate(entries[:count]):
        degraded, _ = read_pair(entry, raw, task)
        for number in range(start, count, len(entries)):
            random = np.random.default_rng(number)
            top, left = (int(random.integers(max(length - side, 0) + 1)) for length in degraded.shape[:2])
            crops.append(degraded[top : top + side, left : left + side])
    return crops
