"""Training crops per second from the image store, compared with decoding the PNG sub-image every time.

Both read the same crops of the same pairs, uint8, from files in the operating system's cache, in one process.
Run it from the project's folder: `python -m benchmarks.read_crops`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data

from components.images.bicubic import downscale
from components.images.files import read_image
from components.images.patches import TrainingPatches
from components.images.store import Image, Pair, Record, Store, StoreWriter
from components.tasks import TaskChoice, build_task
from components.telemetry.progress import progress

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
ROUNDS = 5


class Crop(NamedTuple):
    """Which record, and where, in degraded pixels."""

    record: Record
    top: int
    left: int


def main() -> None:
    """Write both kinds of files to a temporary folder, compare their crops, time them in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sub-image", type=int, default=480, help="side of a clean sub-image (default: %(default)s)")
    parser.add_argument("--patch", type=int, default=48, help="side of a degraded crop (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=2, help="clean size over degraded size (default: %(default)s)")
    parser.add_argument("--images", type=int, default=100, help="number of sub-images (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=500, help="crops in each of the rounds (default: %(default)s)")
    parser.add_argument("--compression", type=int, default=1, help="PNG level, BasicSR's is 1 (default: %(default)s)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), flags.sub_image, flags.patch, flags.scale, flags.images, flags.crops, flags.compression)


def compare(folder: Path, side: int, patch: int, scale: int, images: int, count: int, compression: int) -> None:
    """Do what `main` says; sizes in pixels."""
    random = np.random.default_rng(0)
    photographs = [read_image(Path(skimage.data.__file__).parent / name) for name in PHOTOGRAPHS]
    with StoreWriter(folder / "lmdb", scale, 0) as writer:
        for number in progress(range(images), "write sub-images", images):
            clean = mosaic(photographs, side, random)
            degraded = downscale(clean, scale)
            writer.add("training", f"mosaic/{number}", Pair(degraded, clean), [((0, 0), (side, side))])
            for name, image in (("clean", clean), ("degraded", degraded)):
                level = [cv2.IMWRITE_PNG_COMPRESSION, compression]
                cv2.imwrite(str(folder / f"{number:08d}-{name}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), level)

    store = Store(folder / "lmdb")
    task = build_task(TaskChoice.model_validate({"name": "sr", "scale": scale}))
    records = store.records("training")
    corners = random.integers(side // scale - patch + 1, size=(count, 2)).tolist()
    crops = [Crop(records[int(random.integers(images))], top, left) for top, left in corners]
    for crop in crops:
        for blue_first, red_first in zip(decoded(folder, scale, patch, crop), sliced(store, patch, crop), strict=True):
            np.testing.assert_array_equal(blue_first[..., ::-1], red_first)
    patches = TrainingPatches(store, task, patch, seed=0, augment=True)
    ways: dict[str, Callable[[], object]] = {
        "decode PNG, then crop": lambda: [decoded(folder, scale, patch, crop) for crop in crops],
        "slice the store": lambda: [sliced(store, patch, crop) for crop in crops],
        "training samples (float32, turned)": lambda: [patches[number] for number in range(count)],
    }
    rates = timed(ways, count)

    slowest = rates["decode PNG, then crop"]
    print(f"\nsub-image {side}, patch {patch} (clean {patch * scale}), scale {scale}, PNG level {compression}")
    print(f"median of {ROUNDS} rounds of {count} paired crops out of {images} pairs, one process\n")
    print("| way | pairs a second | times decoding |\n|---|---:|---:|")
    for way, rate in rates.items():
        print(f"| {way} | {rate:,.0f} | {rate / slowest:.1f} |")


def mosaic(photographs: Sequence[Image], side: int, random: np.random.Generator) -> Image:
    """Fill a square with random pieces of photographs at their own resolution, so that it decodes like one."""
    piece = min(min(photograph.shape[:2]) for photograph in photographs) // 2
    canvas = np.zeros((side, side, 3), np.uint8)
    for top in range(0, side, piece):
        for left in range(0, side, piece):
            photograph = photographs[int(random.integers(len(photographs)))]
            y, x = (random.integers(length - piece + 1) for length in photograph.shape[:2])
            room = canvas[top : top + piece, left : left + piece]
            room[:] = photograph[y : y + room.shape[0], x : x + room.shape[1]]
    return canvas


def decoded(folder: Path, scale: int, patch: int, crop: Crop) -> tuple[Image, Image]:
    """Degraded and clean crop, BGR, as training code reads them from PNG sub-images."""
    parts = []
    for name, times in (("degraded", 1), ("clean", scale)):
        image = np.asarray(cv2.imread(str(folder / f"{crop.record.key}-{name}.png")), np.uint8)
        top, left, side = crop.top * times, crop.left * times, patch * times
        parts.append(image[top : top + side, left : left + side].copy())
    return parts[0], parts[1]


def sliced(store: Store, patch: int, crop: Crop) -> tuple[Image, Image]:
    """Degraded and clean crop, RGB, from the store."""
    pair = store.crop(crop.record, crop.top, crop.left, patch, patch)
    return np.asarray(pair.degraded), pair.clean


def timed(ways: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Median rate of each way over rounds in which they take turns, so that other load affects all alike."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in progress(range(ROUNDS), "read crops", ROUNDS, unit="round"):
        for way, read in ways.items():
            began = time.perf_counter()
            read()
            seconds[way].append(time.perf_counter() - began)
    return {way: count / statistics.median(taken) for way, taken in seconds.items()}


if __name__ == "__main__":
    main()
