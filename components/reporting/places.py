"""Where to look: the places of the test images at which the networks differ most."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from components.images.files import read_image
from components.images.manifest import Entry
from components.images.metrics import to_luma
from components.images.pixels import to_bytes
from components.reporting.findings import Contender, Findings
from components.tasks.evaluation import read_pair
from components.tasks.task import Image

RULE = (
    "Places are chosen by rule: the spread at a pixel is the largest luma of the students and the teacher minus the "
    "smallest; the squares with the largest mean spread are shown, first one from each image, none overlapping another."
)


@dataclass(frozen=True)
class Place:
    """A square of a test image.

    Attributes:
        entry: the image.
        top: first row, in clean pixels; all four numbers are multiples of the scale.
        left: first column.
        height: rows; fewer than requested only if the image is smaller.
        width: columns.
        difference: mean over the square of the largest minus the smallest luma.
    """

    entry: Entry
    top: int
    left: int
    height: int
    width: int
    difference: float

    def cut(self, image: Image, scale: int = 1) -> Image:
        """This part of an image that is `scale` times smaller than the clean one."""
        rows = slice(self.top // scale, (self.top + self.height) // scale)
        return image[rows, self.left // scale : (self.left + self.width) // scale]

    def overlaps(self, other: "Place") -> bool:
        """Whether two places share a pixel."""
        return (
            self.entry == other.entry
            and self.top < other.top + other.height
            and other.top < self.top + self.height
            and self.left < other.left + other.width
            and other.left < self.left + self.width
        )


def choose_places(findings: Findings, count: int, side: int, entries: Iterable[Entry]) -> list[Place]:
    """Choose `count` squares of `side` pixels from the test images `entries`, by `RULE`.

    Candidates lie a quarter of their side apart. Ties go to the first image, then to the upper, then to the left one.
    """
    networks = (*findings.students, findings.teacher)
    by_image = [_best_of(entry, networks, findings.task.scale, count, side) for entry in entries]
    rounds = [
        sorted((places[turn] for places in by_image if turn < len(places)), key=lambda place: -place.difference)
        for turn in range(count)
    ]
    return list(islice((place for turn in rounds for place in turn), count))


def _best_of(entry: Entry, networks: Sequence[Contender], scale: int, count: int, side: int) -> list[Place]:
    lumas = np.stack([to_luma(read_restored(network, entry)) for network in networks])
    chosen: list[Place] = []
    for place in sorted(_candidates(entry, np.ptp(lumas, axis=0), scale, side), key=lambda place: -place.difference):
        if not any(place.overlaps(other) for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen


def _candidates(entry: Entry, spread: NDArray[np.float64], scale: int, side: int) -> list[Place]:
    height, width = (max(scale, min(side, length) // scale * scale) for length in spread.shape)
    step = max(scale, side // 4 // scale * scale)
    sums = np.asarray(cv2.integral(spread), dtype=np.float64)
    return [
        Place(entry, top, left, height, width, round(_sum(sums, top, left, height, width) / (height * width), 9))
        for top in _starts(spread.shape[0], height, step, scale)
        for left in _starts(spread.shape[1], width, step, scale)
    ]


def _starts(length: int, side: int, step: int, scale: int) -> list[int]:
    last = (length - side) // scale * scale
    return [*range(0, last, step), last]


def _sum(sums: NDArray[np.float64], top: int, left: int, height: int, width: int) -> float:
    """Sum over a rectangle, from the sums over all rectangles that begin at the origin."""
    bottom, right = top + height, left + width
    return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])


def read_restored(contender: Contender, entry: Entry) -> Image:
    """The image that a contender made."""
    return read_image(contender.restored / entry.dataset / f"{entry.name}.png")


def read_clean(findings: Findings, entry: Entry, raw: Path) -> tuple[Image, Image]:
    """Degraded and clean image, the clean one cut to the size of the restored ones."""
    degraded, clean = read_pair(entry, raw, findings.task)
    height, width = (length * findings.task.scale for length in degraded.shape[:2])
    return to_bytes(degraded), clean[:height, :width]
