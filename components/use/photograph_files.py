"""Writes restored pictures band by band, with the format, depth and description of the original picture."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from components.images.photographs import Photograph, refuse_memory
from components.images.pixels import Samples
from components.run.errors import InputError
from components.use.png_stream import write_png_rows

_LONGEST = {"JPEG": 65_535, "WEBP": 16_383}
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
    side, longest = max(source.samples.shape[:2]) * scale, _LONGEST.get(kind, 2**31 - 1)
    if side > longest:
        raise InputError(f"{side} pixels a side exceed the {longest} of {kind}: write --format png.")
    if source.transparent and kind in {"JPEG", "BMP"}:
        raise InputError(f"it is transparent, which {kind} can't be: write --format png.")


def left_out(source: Photograph, kind: str) -> list[str]:
    """What a format does not hold of a picture, or no format holds as its file says it."""
    described = source.description
    sixteen = source.samples.dtype == np.uint16 and kind not in {"PNG", "TIFF"}
    held = {
        "EXIF": len(described.exif) and kind == "BMP",
        "the colour profile": described.profile and kind == "BMP",
        "the resolution": described.resolution and kind == "WEBP",
        "8 of 16 bits": sixteen,
    }
    return [*described.dropped, *(name for name, lost in held.items() if lost)]


def write_photograph(path: Path, kind: str, source: Photograph, scale: int, bands: Iterator[Samples]) -> None:
    """Write the bands of a restored picture as one file.

    PNG and TIFF take 16 bits and are written as the bands come. The others take 8 bits and need the whole picture in
    memory (4 bytes per pixel, 1 if it is gray).

    Args:
        path: file to write.
        kind: its format, by Pillow's name.
        source: the original picture, which gives size and description.
        scale: restored size over original size.
        bands: `rows width C` from top to bottom, of the source's channels and depth.
    """
    height, width = (side * scale for side in source.samples.shape[:2])
    described = source.description
    exif = described.exif.tobytes() if len(described.exif) else b""
    if kind == "PNG":
        write_png_rows(
            path,
            (height, width),
            bands,
            exif=exif.removeprefix(b"Exif\0\0"),
            profile=described.profile,
            resolution=described.resolution,
        )
    elif kind == "TIFF":
        _write_tiff(path, (height, width, source.samples.shape[2]), source, bands)
    else:
        options: dict[str, Any] = {"exif": exif, "icc_profile": described.profile, "dpi": described.resolution}
        options = {name: value for name, value in options.items() if value}
        if kind == "WEBP" and described.lossless:
            options |= {"lossless": True, "exact": True}
        _whole(bands, (width, height)).save(path, format=kind, **_SETTINGS[kind] | options)


def _whole(bands: Iterator[Samples], size: tuple[int, int]) -> Image.Image:
    """The bands as one image of `size`, width and height."""
    canvas: Image.Image | None = None
    top = 0
    for band in bands:
        part = Image.fromarray(np.squeeze(_bytes(band), 2) if band.shape[2] == 1 else _bytes(band))
        if canvas is None:
            refuse_memory(len(part.mode) * size[0] * size[1])
            canvas = Image.new(part.mode, size)
        canvas.paste(part, (0, top))
        top += len(band)
    if canvas is None:
        raise InputError("it has no rows.")
    return canvas


def _write_tiff(path: Path, shape: tuple[int, int, int], source: Photograph, bands: Iterator[Samples]) -> None:
    channels, described = shape[2], source.description
    size = int(np.prod(shape)) * source.samples.itemsize
    folders = {tag: value for tag, value in described.exif.items() if isinstance(value, dict)}
    texts = {tag: value for tag, value in described.exif.items() if tag not in folders}
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
            iccprofile=described.profile or None,
            resolution=described.resolution,
            resolutionunit="inch" if described.resolution else None,
            extratags=[
                (tag, 2, 0, text if isinstance(text, bytes) else text.encode(), True) for tag, text in texts.items()
            ],
            metadata=None,
            software=False,
        )
    if folders:
        with tifffile.TiffFile(path, mode="r+") as file:
            _append_folders(file, folders)


def _append_folders(file: tifffile.TiffFile, folders: dict[int, dict[int, Any]]) -> None:
    """Write directories of tags at the end of a file, and its first directory again, with the tags that name them."""
    handle, layout = file.filehandle, file.tiff
    width = layout.offsetsize

    def appended(content: Callable[[int], bytes]) -> int:
        place = handle.seek(0, os.SEEK_END)
        handle.write(content(place) + bytes(place % 2))
        return place

    handle.seek(file.pages.first.offset)
    count = int.from_bytes(handle.read(layout.tagnosize), "little")
    tags = [handle.read(layout.tagsize) for _ in range(count)]
    for number, entries in folders.items():
        folder = ImageFileDirectory_v2(b"II+\0" + bytes(12) if file.is_bigtiff else b"II*\0" + bytes(4), group=number)
        for name, value in entries.items():
            folder[name] = value
        place = appended(folder.tobytes)
        kind = 16 if file.is_bigtiff else 4  # an integer as wide as a place
        tags.append(struct.pack("<HH", number, kind) + (1).to_bytes(width, "little") + place.to_bytes(width, "little"))
    tags.sort(key=lambda tag: int.from_bytes(tag[:2], "little"))
    directory = len(tags).to_bytes(layout.tagnosize, "little") + b"".join(tags) + bytes(width)
    first = appended(lambda _: directory)
    handle.seek(width)  # TIFF 6.0, section 2, and BigTIFF: the header says where the first directory is
    handle.write(first.to_bytes(width, "little"))


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
