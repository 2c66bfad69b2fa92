"""A photograph's fingerprint: survives re-encoding, resizing and, compared in all orientations, flips and rotations."""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATIONS: dict[str, Image.Transpose | None] = {
    "as it is": None,
    "mirrored": Image.Transpose.FLIP_LEFT_RIGHT,
    "upside down": Image.Transpose.FLIP_TOP_BOTTOM,
    "turned by 180 degrees": Image.Transpose.ROTATE_180,
    "turned by 90 degrees": Image.Transpose.ROTATE_90,
    "turned by 270 degrees": Image.Transpose.ROTATE_270,
    "transposed": Image.Transpose.TRANSPOSE,
    "transposed and turned by 180 degrees": Image.Transpose.TRANSVERSE,
}
"""The eight ways to flip and turn a rectangle."""

_THUMBNAIL = 32
"""Side that `imagehash.phash` shrinks to: it leaves a thumbnail of this size unchanged, in every orientation."""
_BLOCK = 1 << 22


def oriented_hashes(image: NDArray[np.uint8]) -> tuple[int, ...]:
    """64-bit perceptual hashes of an image (`H W 3`, 0..255) in all `ORIENTATIONS`.

    A bit says whether one of the 8x8 lowest DCT frequencies is above their median (`imagehash.phash`).
    """
    thumbnail = Image.fromarray(image).convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    turned = (thumbnail if turn is None else thumbnail.transpose(turn) for turn in ORIENTATIONS.values())
    return tuple(int(str(imagehash.phash(image)), 16) for image in turned)


def nearest(
    oriented: NDArray[np.uint64], upright: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """For each image of one set, find the most similar one of another set.

    Args:
        oriented: `N 8`, the hashes of the first set in all `ORIENTATIONS`.
        upright: `M`, the upright hashes of the second set, at least one.

    Returns:
        Index into `upright`, index into `ORIENTATIONS` and distance in bits (0..64), each `N`; ties go to the first.
    """
    index = np.empty(len(oriented), np.intp)
    orientation = np.empty(len(oriented), np.intp)
    bits = np.empty(len(oriented), np.uint8)
    rows = max(1, _BLOCK // (upright.size * len(ORIENTATIONS)))
    for start in range(0, len(oriented), rows):
        block = slice(start, start + rows)
        distances = np.bitwise_count(oriented[block, :, None] ^ upright).reshape(-1, len(ORIENTATIONS) * upright.size)
        best = distances.argmin(axis=1)
        orientation[block], index[block] = np.divmod(best, upright.size)
        bits[block] = np.take_along_axis(distances, best[:, None], axis=1)[:, 0]
    return index, orientation, bits
