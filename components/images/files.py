"""Image files to pixels and back: every file that is read becomes `H W 3` RGB uint8, or the error says why not."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.images.photographs import read_photograph
from components.run.errors import InputError
from components.run.files import written_whole

_LARGEST = 178_956_970
"""Pixels of the largest image: twice Pillow's limit against decompression bombs."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a BMP, JPEG, PNG, TIFF or WebP file as `H W 3` RGB, 0..255.

    Grayscale and black-and-white become three equal channels, a palette becomes its colours, an alpha channel that is
    opaque everywhere is dropped, and the EXIF orientation is applied. Colour profiles are ignored.

    Raises:
        InputError: the file is missing, is not an image, is damaged, cut off or suspiciously large, or needs the user's
            choice of how to turn it into 8-bit RGB: transparency, more than 8 bits, CMYK, animation.
    """
    return read_image_and_mode(path)[0]


def read_image_and_mode(path: Path) -> tuple[NDArray[np.uint8], str]:
    """Read an image like `read_image`, and how its file stores pixels, by Pillow's name (`RGB`, `L`, `P`, ...)."""
    photograph = read_photograph(path, _LARGEST)
    if photograph.samples.dtype != np.uint8:
        raise InputError(f"{path}: holds 16 bits a channel; convert it to 8-bit RGB or grayscale, or leave it out.")
    opacity = photograph.samples[..., -1]
    if photograph.transparent and (transparent := int((opacity < 255).sum())) > 0:
        raise InputError(
            f"{path}: {transparent} of its {opacity.size} pixels are transparent, so their colour depends on a "
            "background; flatten it onto one, or leave it out."
        )
    colour = np.asarray(photograph.colour, np.uint8)
    return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else np.array(colour), photograph.mode


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write `H W 3` RGB as PNG, whole or not at all; equal pixels give equal bytes."""
    with written_whole(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")
