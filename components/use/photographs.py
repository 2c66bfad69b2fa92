"""Reads the user's own pictures: gray or colour, 8 or 16 bits, transparent or not, in any orientation."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from components.run.errors import InputError

Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""`h w C`, in the full range of their type: 0..255 or 0..65535."""

LARGEST = 1_000_000_000
"""Pixels of the largest picture that is read."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_REFUSED = {
    "CMYK": "printing inks (CMYK), whose colours depend on a profile",
    "F": "floating-point values",
    "I": "32-bit integers",
    "LAB": "CIELAB colours",
}
_TEXTS = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
    *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright),
)
_FOLDERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_SIZES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.MakerNote)
"""What would be wrong at another size, or readable only at its old place and by the camera's own program."""
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, cv2.error)


@dataclass(frozen=True)
class Photograph:
    """A picture, the right way up.

    Attributes:
        samples: `h w C`: gray, gray and opacity, RGB, or RGB and opacity.
        format: of its file, by Pillow's name.
        exif: who took it, how, when and where; without orientation, sizes and the preview.
        profile: ICC colour profile, or empty.
    """

    samples: Samples
    format: str
    exif: Image.Exif
    profile: bytes

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

    A palette becomes its colours, black and white become gray; 16 bits are kept; the EXIF orientation is applied.

    Args:
        path: the file.
        largest: pixels of the largest picture to read.

    Raises:
        InputError: the file is missing, not a picture, damaged or cut off, larger than that, or of an unsupported kind:
            CMYK, floating point, animation or several pages.
    """
    with _naming(path), Image.open(path, formats=_FORMATS) as image:
        _refuse(image, largest)
        deep = _is_deep(image)  # before anything loads the pixels
        profile = image.info.get("icc_profile") or b""
        found = image.getexif()
        turned = int(found.get(ExifTags.Base.Orientation, 1))
        samples = _deep_samples(path, image) if deep else _samples(image)
        kept = "JPEG" if image.format == "MPO" else str(image.format)
        return Photograph(_upright(samples, turned), kept, _kept_exif(found), profile)


def _refuse(image: ImageFile, largest: int) -> None:
    width, height = image.size
    if width * height > largest:
        raise InputError(f"has {width}x{height} pixels; at most {largest / 1e6:g} million are read. Cut it into parts.")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a camera's JPEG with its previews
        raise InputError("holds several pictures (an animation or pages); save the one you want as a separate file.")
    if image.mode in _REFUSED and not _is_deep(image):
        raise InputError(f"holds {_REFUSED[image.mode]}; convert it to RGB or gray.")


def _is_deep(image: ImageFile) -> bool:
    """Whether a channel has 16 bits. Pillow silently cuts colour to 8; only the decoder's raw mode shows the depth."""
    return ";16" in image.mode or any(re.search(r";16[BLN]?", str(tile.args)) for tile in image.tile)


def _samples(image: Image.Image) -> Samples:
    gray = image.mode in {"1", "L", "LA", "La"}
    mode = ("LA" if gray else "RGBA") if image.has_transparency_data else ("L" if gray else "RGB")
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    return samples[..., None] if samples.ndim == 2 else samples


def _deep_samples(path: Path, image: ImageFile) -> Samples:
    """16-bit samples read by OpenCV, which returns blue first and doesn't know gray with opacity."""
    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.shape[:2] != image.size[::-1]:
        raise InputError("its 16 bits per channel are stored in an unsupported way; save it as a PNG with 16 bits.")
    deep = np.asarray(found, np.uint16)
    if deep.ndim == 2:
        return deep[..., None]
    if image.mode in {"LA", "La"}:
        return deep[..., [0, -1]]
    return deep[..., [2, 1, 0, 3][: deep.shape[2]]]


def _upright(samples: Samples, orientation: int) -> Samples:
    """Turn and mirror as one of EXIF's eight orientations says; a view, not a copy."""
    if orientation in {5, 6, 7, 8}:
        samples = samples.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        samples = samples[::-1]
    if orientation in {2, 3, 6, 7}:
        samples = samples[:, ::-1]
    return samples


def _kept_exif(found: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in _TEXTS:
        if tag in found:
            kept[tag] = found[tag]
    for folder in _FOLDERS:
        if entries := {tag: value for tag, value in found.get_ifd(folder).items() if tag not in _SIZES}:
            kept[folder] = entries
    return kept


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn everything that Pillow and OpenCV raise for a bad file into one error that names the file."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the limit here is the caller's
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF is dropped
            yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: not found.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read as a file: {error.strerror}.") from None
    except UnidentifiedImageError:
        found = "is empty" if path.stat().st_size == 0 else "is not a JPEG, PNG, TIFF, WebP or BMP, or is too damaged"
        raise InputError(f"{path}: {found}.") from None
    except _BROKEN as error:
        raise InputError(f"{path}: is damaged or cut off ({str(error).strip() or type(error).__name__}).") from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
