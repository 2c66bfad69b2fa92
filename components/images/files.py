"""Image files to pixels and back: every file that is read becomes `H W 3` RGB uint8, or the error says why not."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from components.run.errors import InputError
from components.run.files import written_whole

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_READ = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
_REFUSED = {
    "CMYK": "printing inks (CMYK), whose colours depend on a profile",
    "F": "floating-point values",
    "I": "32-bit integers",
}
_BROKEN = (OSError, SyntaxError, ValueError)
"""What Pillow raises on damaged bytes (18,000 files with random damage raised nothing else)."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a BMP, JPEG, PNG, TIFF or WebP file as `H W 3` RGB, 0..255.

    Grayscale and black-and-white become three equal channels, a palette becomes its colours, an alpha channel that is
    opaque everywhere is dropped, and the EXIF orientation is applied. Colour profiles are ignored.

    Raises:
        InputError: the file is missing, is not an image, is damaged, cut off or suspiciously large, or needs the user's
            choice of how to turn it into 8-bit RGB: transparency, more than 8 bits, CMYK, animation.
    """
    with _naming(path), Image.open(path, formats=_FORMATS) as image:
        _check_kind(image)
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(_without_alpha(image).convert("RGB"))


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write `H W 3` RGB as PNG, whole or not at all; equal pixels give equal bytes."""
    with written_whole(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def _check_kind(image: ImageFile) -> None:
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a camera's JPEG with its previews
        raise InputError("holds several pictures (an animation or pages); save the one you mean as a file of its own.")
    if _is_deep(image):
        found = "16 bits a channel"
    elif image.mode not in _READ:
        found = _REFUSED.get(image.mode, f"pixels of mode {image.mode}")
    else:
        return
    raise InputError(f"holds {found}; convert it to 8-bit RGB or grayscale, or leave it out.")


def _is_deep(image: ImageFile) -> bool:
    """Whether a channel has 16 bits. Pillow silently cuts colour to 8; only the decoder's raw mode shows it."""
    return ";16" in image.mode or any(re.search(r";16[BLN]", str(tile.args)) for tile in image.tile)


def _without_alpha(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    opacity = np.asarray(colours.getchannel("A"))
    if (transparent := int((opacity < 255).sum())) > 0:
        raise InputError(
            f"{transparent} of its {opacity.size} pixels are transparent, so their colour depends on a background; "
            "flatten it onto one, or leave it out."
        )
    return colours


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises on a bad file into one error that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: not found.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read as a file: {error.strerror}.") from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        found = (
            "is empty"
            if empty
            else f"is not an 8-bit image in any of the formats {', '.join(_FORMATS)}, or too damaged to tell"
        )
        raise InputError(f"{path}: {found}; fetch or convert it again, or leave it out.") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error} Cut it into smaller images, or leave it out.") from None
    except _BROKEN as error:
        raise InputError(f"{path}: is damaged or cut off ({error}); fetch it again, or leave it out.") from None
