"""TIFF files: the tags that say how pixels are stored, and the pixels that Pillow cuts to 8 bits or misreads."""

import logging
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import cv2
import numpy as np
from PIL import ExifTags, Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, TiffFile, TiffPage

from components.images.picture_files import AGAIN, DAMAGED, INKS
from components.images.pixels import Samples
from components.run.errors import InputError

# What they say of a damaged file is told as an error.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_GRAY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK)
_INDIRECT = (PHOTOMETRIC.PALETTE, PHOTOMETRIC.YCBCR)
_REFUSED: dict[int, str] = {PHOTOMETRIC.SEPARATED: INKS, PHOTOMETRIC.CIELAB: "CIELAB colours"}
_DEFLATE = (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
_INCHES = {2: 1.0, 3: 2.54}
"""Inches over the unit of a resolution, by the unit's number."""


def tiff_page(file: TiffFile) -> TiffPage:
    """The first page.

    Raises:
        InputError: it has no pixels.
    """
    page = file.pages.first
    if not isinstance(page, TiffPage) or 0 in (page.imagewidth, page.imagelength):
        raise InputError(f"{DAMAGED} (it has no pixels); {AGAIN}")
    return page


def check_tiff(page: TiffPage) -> None:
    """Refuse a page whose tags say that its pixels are no gray levels or colours of at most 16 bits.

    Raises:
        InputError: floating point, signs or more bits, inks, other colours, a channel of unknown meaning; or pixels are
            missing.
    """
    bits, photometric, extra = page.bitspersample, page.photometric, page.extrasamples
    kind = page.dtype.kind if page.dtype is not None else ""
    found = ""
    if kind in "fc":
        found = "floating-point values"
    elif photometric not in (*_GRAY, PHOTOMETRIC.RGB, *_INDIRECT):
        found = _REFUSED.get(photometric, f"colours of the kind {getattr(photometric, 'name', photometric)}")
    elif kind == "i" or bits not in {1, 2, 4, 8, 16}:
        found = f"{bits}-bit integers{' with a sign' if kind == 'i' else ''}"
    elif extra not in ((), (EXTRASAMPLE.ASSOCALPHA,), (EXTRASAMPLE.UNASSALPHA,)) or _nameless(page):
        found = "an extra channel whose meaning the file does not say"
    elif bits == 16 and photometric in _INDIRECT:
        found = f"16 bits a channel of the kind {PHOTOMETRIC(photometric).name}"
    elif bits == 16 and EXTRASAMPLE.ASSOCALPHA in extra:
        found = "16 bits a channel, multiplied by their opacity"
    if found:
        raise InputError(f"holds {found}; convert it to RGB or gray, or leave it out.")
    if 0 in page.databytecounts or len(page.databytecounts) < math.prod(page.chunked):
        raise InputError(f"{DAMAGED} (parts of its pixels are missing); {AGAIN}")


def _nameless(page: TiffPage) -> bool:
    """Whether tags explain too few of its channels; a fourth one of RGB is opacity where no tag says otherwise."""
    known = {1, 1 + len(page.extrasamples)} if page.photometric != PHOTOMETRIC.RGB else {3, 4}
    return page.photometric not in _INDIRECT and page.samplesperpixel not in known


def pillow_reads(page: TiffPage) -> bool:
    """Whether Pillow reads the pixels of a checked page as they are."""
    planes = page.planarconfig == PLANARCONFIG.SEPARATE
    gray_and_opacity = page.photometric in _GRAY and page.samplesperpixel == 2
    return page.bitspersample != 16 and not (
        gray_and_opacity and (planes or page.photometric == PHOTOMETRIC.MINISWHITE)
    )


def tiff_mode(page: TiffPage) -> str:
    """How it stores pixels, by Pillow's names, or in their manner where Pillow has none."""
    name = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[page.samplesperpixel]
    return name if page.bitspersample == 8 else f"{name};16"


def tiff_samples(path: Path, page: TiffPage) -> Samples:
    """The samples of a checked page that Pillow does not read, `h w C`; 0 is black.

    Raises:
        InputError: they are damaged, or packed in a way that is not supported.
    """
    channels, planes = page.samplesperpixel, page.planarconfig == PLANARCONFIG.SEPARATE
    if channels != 2 and not planes:
        # OpenCV knows every compression, but neither planes nor gray with opacity, and it would turn the image.
        content = np.fromfile(path, np.uint8)
        if turned := page.tags.get(ExifTags.Base.Orientation):
            content[turned.valueoffset : turned.valueoffset + 2] = [1, 0] if page.parent.byteorder == "<" else [0, 1]
        found = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        if found is None or found.dtype != page.dtype or found.size != math.prod(page.shape):
            raise InputError(f"{DAMAGED} (OpenCV does not read its {packing(page)}); {AGAIN}")
        samples = found[..., [2, 1, 0, 3][:channels]] if channels > 1 else found[..., None]
    elif page.compression == COMPRESSION.NONE or page.compression in _DEFLATE:
        if page.compression in _DEFLATE:
            _refuse_swollen(page)
        found = page.asarray()
        samples = np.moveaxis(found, 0, -1) if planes else found
    else:
        raise InputError(f"holds {packing(page)}, which is not supported; save it as a PNG.")
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples = np.concatenate([np.invert(samples[..., :1]), samples[..., 1:]], -1)
    return cast("Samples", samples)


def tiff_exif(page: TiffPage) -> Image.Exif:
    """The EXIF of a page, whether or not Pillow reads its pixels."""
    file, exif = page.parent, Image.Exif()
    exif.bigtiff, exif.endian = file.is_bigtiff, file.byteorder
    exif.load_from_fp(cast("BinaryIO", file.filehandle), page.offset)
    return exif


def tiff_resolution(exif: Image.Exif) -> list[float]:
    """Pixels per inch, horizontally and vertically; empty if they are not told."""
    inches = _INCHES.get(exif.get(ExifTags.Base.ResolutionUnit, 2), 0)
    tags = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
    return [exif[tag] * inches for tag in tags if tag in exif]


def packing(page: TiffPage) -> str:
    """How the pixels of a page are stored, in words."""
    name = getattr(page.compression, "name", f"compression {page.compression}")
    planes = "in planes" if page.planarconfig == PLANARCONFIG.SEPARATE else "side by side"
    return f"{page.samplesperpixel} channels of {page.bitspersample} bits {planes}, packed by {name}"


def _refuse_swollen(page: TiffPage) -> None:
    """Refuse parts that unpack to more than they hold of the picture, before anything unpacks them whole."""
    largest = math.prod(page.chunks) * page.bitspersample // 8
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        if len(zlib.decompressobj().decompress(file.read(count), largest + 1)) > largest:
            raise InputError(f"{DAMAGED} (a part unpacks to more than its {largest} bytes); {AGAIN}")
