"""Training crops per second, on one core, of the tasks that draw their degraded images.

Measured in this process's processor time, so that other processes don't matter. Run it from the project's folder:
`python -m benchmarks.degrade_crops`.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from benchmarks.read_crops import PHOTOGRAPHS, ROUNDS, mosaic
from components.images.files import read_image
from components.images.patches import TrainingPatches
from components.images.store import Pair, Store, StoreWriter
from components.tasks.deblur import Deblurring
from components.tasks.deblur.shake import Shake
from components.tasks.denoise import Denoising
from components.tasks.derain import Deraining
from components.tasks.derain.rain import Rain

SIDE, IMAGES = 240, 20


def main() -> None:
    """Write a store of clean images and one of pairs, time their crops in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=128, help="side of a crop (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=60, help="crops in each of the rounds (default: %(default)s)")
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), flags.patch, flags.crops)


def compare(folder: Path, patch: int, count: int) -> None:
    """Do what `main` says."""
    random = np.random.default_rng(0)
    photographs = [read_image(Path(skimage.data.__file__).parent / name) for name in PHOTOGRAPHS]
    for name in ("clean", "pairs"):
        with StoreWriter(folder / name, 1, 0) as writer:
            for number in range(IMAGES):
                image = mosaic(photographs, SIDE, random)
                pair = Pair(image if name == "pairs" else None, image)
                writer.add("training", f"mosaic/{number}", pair, [((0, 0), (SIDE, SIDE))])
    ways = {
        "pairs, and what is packed": ("pairs", Deblurring()),
        "noise": ("clean", Denoising(25)),
        "gray noise": ("clean", Denoising(25, gray=True)),
        "rain": ("clean", Deraining(rain=Rain())),
        "shake, kernels of 25 pixels": ("clean", Deblurring(shake=Shake(size=25))),
        "shake, kernels of 41 pixels": ("clean", Deblurring(shake=Shake(size=41))),
    }
    samples = {way: TrainingPatches(Store(folder / name), task, patch, 0, True) for way, (name, task) in ways.items()}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(ROUNDS):
        for way, patches in samples.items():
            began = time.process_time()
            for number in range(turn * count, (turn + 1) * count):
                patches[number]
            rates[way].append(count / (time.process_time() - began))
    print(f"median of {ROUNDS} rounds of {count} crops of {patch} pixels, one core\n")
    print("| degraded image | crops a second |\n|---|---:|")
    for way, found in rates.items():
        print(f"| {way} | {statistics.median(found):,.0f} |")


if __name__ == "__main__":
    main()
