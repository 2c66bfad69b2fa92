"""Writes restored pictures band by band, with the format, depth and description of the original picture."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from components.run.errors import InputError
from components.use.photographs import Photograph, Samples
from components.use.png_stream import write_png_rows

ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}
"""Formats by the endings of their files' names."""

_LONGEST = {"JPEG": 65_535, "WEBP": 16_383, "BMP": 2**31 - 1}
_SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "BMP": {},
}
_STRIP = 64
_LARGEST_TIFF = 2**32 - 2**25


def refuse_unfit(source: Photograph, kind: str, scale: int) -> None:
    """Refuse a format that can't hold the restored picture.

    Raises:
        InputError: it is too large for the format, or transparent in a format without transparency.
    """
    side = max(source.samples.shape[:2]) * scale
    if side > _LONGEST.get(kind, 2**31 - 1):
        raise InputError(f"{side} pixels a side exceed the {_LONGEST[kind]} of {kind}: write --format png.")
    if source.transparent and kind in {"JPEG", "BMP"}:
        raise InputError(f"it is transparent, which {kind} can't be: write --format png.")


def write_photograph(path: Path, kind: str, source: Photograph, scale: int, bands: Iterator[Samples]) -> None:
    """Write the bands of a restored picture as one file.

    PNG and TIFF take 16 bits and are written as the bands come. The others take 8 bits and need the whole picture in
    memory (4 bytes per pixel, 1 if it is gray).

    Args:
        path: file to write.
        kind: its format, by Pillow's name.
        source: the original picture, which gives size, description and colour profile.
        scale: restored size over original size.
        bands: `rows width C` from top to bottom, of the source's channels and depth.
    """
    height, width = (side * scale for side in source.samples.shape[:2])
    exif = source.exif.tobytes() if len(source.exif) else b""
    if kind == "PNG":
        write_png_rows(path, height, width, bands, exif=exif.removeprefix(b"Exif\0\0"), profile=source.profile)
    elif kind == "TIFF":
        _write_tiff(path, (height, width, source.samples.shape[2]), source, bands)
    else:
        _write_whole(path, kind, (width, height), source.profile, exif, bands)


def _write_whole(
    path: Path, kind: str, size: tuple[int, int], profile: bytes, exif: bytes, bands: Iterator[Samples]
) -> None:
    canvas: Image.Image | None = None
    top = 0
    for band in bands:
        part = Image.fromarray(np.squeeze(_bytes(band), 2) if band.shape[2] == 1 else _bytes(band))
        if canvas is None:
            canvas = Image.new(part.mode, size)
        canvas.paste(part, (0, top))
        top += len(band)
    if canvas is not None:
        described = {"exif": exif, "icc_profile": profile} if kind != "BMP" else {}
        described = {name: value for name, value in described.items() if value}
        canvas.save(path, format=kind, **_SETTINGS[kind], **described)


def _write_tiff(path: Path, shape: tuple[int, int, int], source: Photograph, bands: Iterator[Samples]) -> None:
    channels = shape[2]
    texts = [(int(tag), 2, 0, str(value), True) for tag, value in source.exif.items() if isinstance(value, str)]
    size = int(np.prod(shape)) * source.samples.itemsize
    with tifffile.TiffWriter(path, bigtiff=size > _LARGEST_TIFF, byteorder="<") as file:
        file.write(
            _strips(bands),
            shape=shape if channels > 1 else shape[:2],
            dtype=source.samples.dtype,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if source.transparent else None,
            rowsperstrip=_STRIP,
            compression="adobe_deflate",
            predictor=True,
            iccprofile=source.profile or None,
            extratags=texts,
            metadata=None,
            software=False,
        )


def _strips(bands: Iterator[Samples]) -> Iterator[bytes]:
    """The same rows, `_STRIP` at a time, as differences of each sample from the one to its left, deflated."""
    waiting: Samples | None = None
    for band in bands:
        waiting = band if waiting is None or not len(waiting) else np.concatenate([waiting, band])
        whole = len(waiting) // _STRIP * _STRIP
        yield from (_deflated(waiting[top : top + _STRIP]) for top in range(0, whole, _STRIP))
        waiting = waiting[whole:]
    if waiting is not None and len(waiting):
        yield _deflated(waiting)


def _deflated(rows: Samples) -> bytes:
    differences = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))
    return zlib.compress(differences.astype(differences.dtype.newbyteorder("<")).tobytes())


def _bytes(band: Samples) -> Samples:
    """16 bits to 8, rounded."""
    if band.dtype == np.uint8:
        return band
    eight: Samples = ((band.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return eight
