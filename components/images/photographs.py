"""The one reader of pictures: gray or colour, 8 or 16 bits, transparent or not, in any orientation."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import psutil
from PIL import ExifTags, Image, UnidentifiedImageError
from tifffile import TiffFile

from components.images.descriptions import SIDEWAYS, Description, describe
from components.images.picture_files import AGAIN, DAMAGED, INKS, refuse_no_file
from components.images.pixels import Samples
from components.images.tiff import (
    check_tiff,
    packing,
    pillow_reads,
    tiff_exif,
    tiff_mode,
    tiff_page,
    tiff_resolution,
    tiff_samples,
)
from components.run.errors import InputError

LARGEST = 1_000_000_000
"""Pixels of the largest picture that is read."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_NAMED = "JPEG, PNG, TIFF, WebP or BMP"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEAD, _PNG_DEPTH, _PNG_COLOUR, _PNG_GRAY = 26, 24, 25, (0, 4)
"""Bytes that tell the format; where among them a PNG's header has its bit depth and its colour type, and which types
are gray (PNG, third edition, 11.2.1)."""
_SUSPICIOUS_PIXELS, _SUSPICIOUS_RATIO = 100_000_000, 100
"""A picture of more pixels, with more pixels a byte, is taken for a bomb: JPEGs of the lowest quality have about 30."""
_SEVERAL = "holds several pictures (an animation or pages); save the one you mean as a file of its own."

Image.MAX_IMAGE_PIXELS = None  # the limit here is the caller's
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # a damaged tag is dropped, and told


@dataclass(frozen=True)
class Photograph:
    """A picture, the right way up.

    Attributes:
        samples: `h w C`: gray, gray and opacity, RGB, or RGB and opacity.
        format: of its file, by Pillow's name.
        mode: how its file stores pixels, by Pillow's name (`RGB`, `L`, `P`, ...).
        description: what else its file says.
    """

    samples: Samples
    format: str
    mode: str
    description: Description

    @property
    def colour(self) -> Samples:
        """`h w 1` or `h w 3`."""
        channels = self.samples.shape[2]
        return self.samples[..., : channels - 1] if self.transparent else self.samples

    @property
    def transparent(self) -> bool:
        """Whether the last channel is opacity."""
        return self.samples.shape[2] in {2, 4}


def read_photograph(path: Path, largest: int = LARGEST) -> Photograph:
    """Read a JPEG, PNG, TIFF, WebP or BMP file.

    A palette becomes its colours, black and white become gray; 16 bits are kept; the EXIF orientation is applied. The
    file's own tags say how deep it is and what its channels mean.

    Args:
        path: the file.
        largest: pixels of the largest picture to read.

    Raises:
        InputError: the file is missing, not a picture, damaged or cut off, larger than that or than the memory, or of
            an unsupported kind: CMYK, floating point, a channel of unknown meaning, animation or several pages.
    """
    refuse_no_file(path)
    with _naming(path), path.open("rb") as file:
        head = file.read(_HEAD)
        if head[:4] in _TIFF:
            return _read_tiff(path, largest)
        with Image.open(file, formats=_FORMATS) as image:
            _refuse_large(path, image.size, largest)
            if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a camera's JPEG with previews
                raise InputError(_SEVERAL)
            if image.mode == "CMYK":
                raise InputError(f"holds {INKS}; convert it to RGB or gray, or leave it out.")
            mode, kind = image.mode, "JPEG" if image.format == "MPO" else str(image.format)
            if kind == "PNG" and head[_PNG_DEPTH] == 16:
                samples = _deep_png(path, head[_PNG_COLOUR] in _PNG_GRAY, image.info.get("transparency"))
            else:
                samples = _samples(image)
            exif, description = describe(
                image.getexif,
                profile=image.info.get("icc_profile"),
                resolution=lambda _: image.info.get("dpi"),
                lossless=kind == "WEBP" and _is_lossless(file),
            )
        return Photograph(_upright(samples, exif), kind, mode, description)


def refuse_memory(needed: int) -> None:
    """Refuse work that needs more bytes of memory than are free.

    Raises:
        InputError: with both numbers.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(f"needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; cut it into parts.")


def _read_tiff(path: Path, largest: int) -> Photograph:
    with TiffFile(path) as file:
        page = tiff_page(file)
        _refuse_large(path, (page.imagewidth, page.imagelength), largest)
        if len(file.pages) > 1:
            raise InputError(_SEVERAL)
        check_tiff(page)
        exif, description = describe(partial(tiff_exif, page), profile=page.iccprofile, resolution=tiff_resolution)
        if not pillow_reads(page):
            return Photograph(_upright(tiff_samples(path, page), exif), "TIFF", tiff_mode(page), description)
        told = f"holds {packing(page)}, which is not supported; save it as a PNG, or leave it out."
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            return Photograph(_samples(image), "TIFF", image.mode, description)  # loading turns it
    except UnidentifiedImageError:
        raise InputError(told) from None


def _refuse_large(path: Path, size: tuple[int, int], largest: int) -> None:
    width, height = size
    pixels, content = width * height, path.stat().st_size
    if pixels > largest:
        raise InputError(f"has {width}x{height} pixels; at most {largest / 1e6:g} million are read. Cut it into parts.")
    if pixels > max(_SUSPICIOUS_PIXELS, _SUSPICIOUS_RATIO * content):
        raise InputError(
            f"claims {width}x{height} pixels in {content} bytes, as decompression bombs do; if it is a picture, cut it "
            "into parts."
        )
    refuse_memory(8 * pixels)  # the decoder's copy and ours


def _samples(image: Image.Image) -> Samples:
    image.load()
    gray = image.mode in {"1", "L", "LA", "La"}
    mode = ("LA" if gray else "RGBA") if image.has_transparency_data else ("L" if gray else "RGB")
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    return samples[..., None] if samples.ndim == 2 else samples


def _deep_png(path: Path, gray: bool, transparent: int | None) -> Samples:
    """16-bit samples read by OpenCV, which returns blue first, gray with opacity as colours, and gray without its hole.

    Args:
        path: the file.
        gray: whether its header says so.
        transparent: the gray level that is transparent, if there is one.
    """
    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16:
        raise InputError(f"{DAMAGED} (OpenCV does not read its 16 bits); {AGAIN}")
    deep = np.asarray(found, np.uint16)
    if deep.ndim == 2:
        opaque = [] if transparent is None else [np.where(deep == transparent, np.uint16(0), np.uint16(65535))]
        return np.stack([deep, *opaque], -1)
    return deep[..., [0, -1] if gray else [2, 1, 0, 3][: deep.shape[2]]]


def _is_lossless(file: BinaryIO) -> bool:
    """Whether a WebP holds its pixels without loss (RFC 9649, 2.5 to 2.7: which of two chunks there is)."""
    file.seek(12)
    while len(chunk := file.read(8)) == 8 and chunk[:4] not in (b"VP8 ", b"VP8L"):
        size = int.from_bytes(chunk[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    return chunk[:4] == b"VP8L"


def _upright(samples: Samples, exif: Image.Exif) -> Samples:
    """Turn and mirror as one of EXIF's eight orientations says; a view, not a copy."""
    orientation = exif.get(ExifTags.Base.Orientation)
    if orientation in SIDEWAYS:
        samples = samples.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        samples = samples[::-1]
    if orientation in {2, 3, 6, 7}:
        samples = samples[:, ::-1]
    return samples


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn everything that the decoders raise for a bad file into one error that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except MemoryError:
        raise InputError(f"{path}: needs more memory than there is; cut it into parts.") from None
    except UnidentifiedImageError:
        found = "is empty" if path.stat().st_size == 0 else f"is not a {_NAMED}, or too damaged to tell"
        raise InputError(f"{path}: {found}; fetch or convert it again, or leave it out.") from None
    except Exception as error:  # noqa: BLE001 - decoders raise whatever their arithmetic on damaged bytes raises
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path}: cannot be read: {error.strerror}; {AGAIN}") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: {DAMAGED} ({reason}); {AGAIN}") from None
