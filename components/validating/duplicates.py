"""The same photograph twice: files with equal bytes, and files that only look alike.

Each function gives one value per image: the other file, or None. A pair across splits is reported once, at the training
image, which is the one to leave out. Images may both validate and test, as often in the field: nothing is learnt from
them, and no weights are chosen by them.
"""

from collections.abc import Sequence

import numpy as np

from components.images.datasets import Split
from components.validating.inspection import Inspection
from components.validating.perceptual_hash import ORIENTATIONS, nearest


def same_file_in_split(images: Sequence[Inspection]) -> list[str | None]:
    """The first file of the same split with the same bytes, for all but that first one.

    A clean file that several degraded files share is no duplicate of itself.
    """
    first: dict[tuple[Split, str], Inspection] = {}
    firsts = [first.setdefault((image.split, image.sha256), image) for image in images]
    return [
        None
        if one is image or not image.sha256 or (one.clean == image.clean and one.degraded != image.degraded)
        else one.clean
        for one, image in zip(firsts, images, strict=True)
    ]


def same_file_across_splits(images: Sequence[Inspection]) -> list[str | None]:
    """For a training image, the first file of a later split with the same bytes."""
    return _same_file(images, "training", ("validation", "test"))


def also_tested(images: Sequence[Inspection]) -> list[str | None]:
    """For a validation image, the first test file with the same bytes."""
    return _same_file(images, "validation", ("test",))


def _same_file(images: Sequence[Inspection], of: Split, among: Sequence[Split]) -> list[str | None]:
    first: dict[tuple[Split, str], str] = {}
    for image in images:
        first.setdefault((image.split, image.sha256), image.clean)
    return [
        next((first[split, image.sha256] for split in among if (split, image.sha256) in first), None)
        if image.split == of and image.sha256
        else None
        for image in images
    ]


def near_duplicate_across_splits(images: Sequence[Inspection], bits: int) -> list[str | None]:
    """For a training image, the most similar file of a later split, in any orientation, within `bits` of 64 bits.

    Files that `same_file_across_splits` reports are skipped. Measured over all orientations: 150 photographs re-encoded
    as JPEG of quality 20 and up, halved, quartered or cropped by 2 % stay within 6 bits; the closest of 229,500 pairs
    of different photographs (BSDS500, T91, CBSD68, DIV2K, Set5, Set14) are 12 bits apart.
    """
    told = same_file_across_splits(images)
    found: list[str | None] = [None] * len(images)
    rows = [row for row, image in enumerate(images) if image.split == "training" and image.hashes and told[row] is None]
    others = [image for image in images if image.split != "training" and image.hashes]
    if rows and others:
        oriented = np.array([images[row].hashes for row in rows], np.uint64)
        upright = np.array([other.hashes[0] for other in others], np.uint64)
        for row, index, orientation, distance in zip(rows, *nearest(oriented, upright), strict=True):
            if distance <= bits:
                found[row] = f"{others[index].clean} ({tuple(ORIENTATIONS)[orientation]}, {distance} bits apart)"
    return found
