"""PNG files of any size and depth, written a few rows at a time, so that only those rows need memory.

W3C Recommendation "Portable Network Graphics (PNG) Specification (Third Edition)": sections 5 (chunks), 9 (filters),
11.3.2.3 (iCCP), 11.3.4.2 (eXIf) and 11.3.4.3 (pHYs).
"""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from components.images.pixels import Samples

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_INCH = 0.0254
"""Metres."""
_PAETH = 4
_ROWS = 32
"""Rows filtered at once: few, so that their intermediate values stay small."""


def write_png_rows(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[Samples],
    *,
    exif: bytes = b"",
    profile: bytes = b"",
    resolution: tuple[float, float] | None = None,
) -> None:
    """Write bands of rows, `rows width C`, from top to bottom, as one PNG with their depth and channels.

    Args:
        path: file to write.
        size: rows of all bands together, and width of each band.
        bands: gray, gray and opacity, RGB or RGB and opacity; uint8 or uint16.
        exif: TIFF structure, without the header `Exif`.
        profile: ICC colour profile.
        resolution: pixels per inch, horizontally and vertically.
    """
    packer = zlib.compressobj(6)
    with path.open("wb") as file:
        above: NDArray[np.uint8] | None = None
        for band in bands:
            if above is None:
                _start(file, size, band)
                if profile:
                    _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
                if resolution:
                    _chunk(file, b"pHYs", struct.pack(">IIB", *(round(value / _INCH) for value in resolution), 1))
                _chunk(file, b"eXIf", exif)
                above = np.zeros(size[1] * band.shape[2] * band.itemsize, np.uint8)
            step = band.shape[2] * band.itemsize
            for top in range(0, len(band), _ROWS):
                rows = _bytes_of(band[top : top + _ROWS])
                _chunk(file, b"IDAT", packer.compress(_filtered(rows, above, step)))
                above = rows[-1]
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"", empty=True)


def _start(file: BinaryIO, size: tuple[int, int], band: Samples) -> None:
    file.write(_SIGNATURE)
    colour = _COLOUR_TYPES[band.shape[2]]
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8 * band.itemsize, colour, 0, 0, 0))


def _bytes_of(rows: Samples) -> NDArray[np.uint8]:
    """`rows width C` of 8 or 16 bits -> `rows bytes`, most significant byte first."""
    ordered = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">"))
    return ordered.reshape(len(rows), -1).view(np.uint8)


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> bytes:
    """Filter 4, Paeth's: each byte minus its left, upper or corner one, whichever is nearest left + upper - corner."""
    upper = np.concatenate([above[None], rows[:-1]]).astype(np.int16)
    left, corner = (np.pad(values[:, :-step], ((0, 0), (step, 0))) for values in (rows.astype(np.int16), upper))
    to_left, to_upper = np.abs(upper - corner), np.abs(left - corner)
    to_corner = np.abs(left + upper - 2 * corner)
    nearest = np.where(
        (to_left <= to_upper) & (to_left <= to_corner), left, np.where(to_upper <= to_corner, upper, corner)
    )
    lines = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _PAETH
    lines[:, 1:] = rows - nearest.astype(np.uint8)
    return lines.tobytes()


def _chunk(file: BinaryIO, kind: bytes, content: bytes, *, empty: bool = False) -> None:
    if content or empty:
        file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
