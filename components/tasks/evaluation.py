"""Measure test images by a task's protocol: one function for student, teacher and baseline alike."""

import csv
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from components.backbones.backbone import Backbone
from components.backbones.tiling import restore_tiled
from components.images.files import write_png
from components.images.manifest import Entry
from components.images.metrics import quantise
from components.images.pixels import Degraded, to_float
from components.run.errors import InputError
from components.run.files import write_json, write_text
from components.tasks.pairs import read_clean, read_degraded, refuse_changed
from components.tasks.task import Image, Task
from components.telemetry.progress import progress

Restore = Callable[[Degraded], Image]


@dataclass(frozen=True)
class Score:
    """PSNR (dB) and SSIM of one restored image."""

    dataset: str
    name: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of one restorer on all test images, and how long it took.

    Attributes:
        scores: one for each image, in the order of the manifest.
        seconds_per_megapixel: of restored image, without file access and measuring.
    """

    scores: tuple[Score, ...]
    seconds_per_megapixel: float

    def sets(self) -> dict[str, dict[str, float]]:
        """`{dataset: {"psnr", "ssim"}}`: means over the images of each test set."""
        means: dict[str, dict[str, float]] = {}
        for dataset in dict.fromkeys(score.dataset for score in self.scores):
            chosen = [score for score in self.scores if score.dataset == dataset]
            means[dataset] = {
                "psnr": statistics.fmean(score.psnr for score in chosen),
                "ssim": statistics.fmean(score.ssim for score in chosen),
            }
        return means


def read_pair(entry: Entry, raw: Path, task: Task) -> tuple[Degraded, Image]:
    """Degraded and clean image of one entry; the degraded one is made if the set has none.

    Raises:
        InputError: a broken image, or a pair of mismatched sizes.
    """
    clean = read_clean(entry, raw, task)
    if entry.degraded:
        return read_degraded(entry, raw, clean, task), clean
    # Seeded by the image itself, so that it is degraded identically in every run and every set.
    return task.degrade_for_test(clean, np.random.default_rng(int(entry.sha256[:16], 16))), clean


def evaluate_images(
    title: str, restorer: Restore, entries: Sequence[Entry], raw: Path, task: Task, restored: Path
) -> Evaluation:
    """Restore every image, store it as `restored/<dataset>/<name>.png`, and measure it by the task's protocol."""
    if not entries:
        raise InputError("the manifest lists no test image: name a dataset in the collection's test split.")
    for entry in entries:
        refuse_changed(entry, raw)
    scores: list[Score] = []
    seconds, pixels = 0.0, 0
    for index, entry in enumerate(progress(entries, title, len(entries))):
        degraded, clean = read_pair(entry, raw, task)
        if index == 0:
            restorer(degraded)  # The first pass allocates and compiles; it is not timed.
        began = perf_counter()
        output = restorer(degraded)
        seconds += perf_counter() - began
        pixels += output.shape[0] * output.shape[1]
        write_png(restored / entry.dataset / f"{entry.name}.png", output)
        measured = task.measure(output, clean)
        scores.append(Score(entry.dataset, entry.name, measured["psnr"], measured["ssim"]))
    return Evaluation(tuple(scores), seconds / (pixels / 1e6))


def network_restorer(network: Backbone) -> Restore:
    """Restore images with a network on its own device, and round to the 8 bits a user would store."""

    def run(degraded: Degraded) -> Image:
        image = torch.from_numpy(to_float(degraded)).permute(2, 0, 1).unsqueeze(0).contiguous()
        restored = restore_tiled(network, image)
        return quantise(restored[0].permute(1, 2, 0).numpy())

    return run


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write one row per image as CSV: dataset, name, psnr, ssim."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "name", "psnr", "ssim"])
    writer.writerows([score.dataset, score.name, f"{score.psnr:.6f}", f"{score.ssim:.6f}"] for score in scores)
    write_text(path, text.getvalue())


def write_speed(path: Path, found: Evaluation, device: torch.device) -> None:
    """Write how long a restorer took on this machine, as JSON."""
    write_json(
        path,
        {
            "seconds_per_megapixel": found.seconds_per_megapixel,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        },
    )


def best_device() -> torch.device:
    """A GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_entries(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The entries of the test split."""
    return (entry for entry in entries if entry.split == "test")
