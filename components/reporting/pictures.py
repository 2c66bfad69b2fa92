"""Pictures as bytes: embedded in the page, and separate files for the Markdown twin."""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import PurePath

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image as PillowImage

from components.tasks.task import Image

_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".webp": "image/webp"}
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_COLOURS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[np.newaxis], cv2.COLORMAP_INFERNO)[0, :, ::-1].tobytes()
"""256 times red, green, blue."""


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        file: its name.
        data: its bytes, as in the file.
        alt: what it shows, for those who can't see it.
        width: in pixels.
        height: in pixels.
    """

    file: str
    data: bytes
    alt: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a data URI, so that the page loads nothing."""
        return f"data:{_TYPES[PurePath(self.file).suffix]};base64,{base64.b64encode(self.data).decode()}"

    @property
    def drawing(self) -> Markup:
        """A chart as an element that takes the page's colours."""
        return Markup(_STYLE.sub("", self.data.decode()))  # noqa: S704 - drawn here, every text in it escaped


def whole_photograph(file: str, image: Image, alt: str) -> Picture:
    """Encode `H W 3` RGB as lossless WebP, a quarter smaller than PNG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, format="WEBP", lossless=True, quality=60, method=4)
    return Picture(file, buffer.getvalue(), alt, image.shape[1], image.shape[0])


def photograph(file: str, image: Image, alt: str) -> Picture:
    """Encode `H W 3` RGB as PNG."""
    return _png(file, PillowImage.fromarray(image), alt)


def error_map(file: str, error: NDArray[np.float64], largest: float, alt: str) -> Picture:
    """Encode errors `H W` as colours, from 0 (black) to `largest` or more (light yellow)."""
    levels = np.rint(np.clip(error / largest, 0, 1) * 255).astype(np.uint8)
    coloured = PillowImage.fromarray(levels)
    coloured.putpalette(_COLOURS)
    return _png(file, coloured, alt)


def error_scale(file: str, largest: float) -> Picture:
    """The colours of the error maps, from 0 at the left to `largest` at the right."""
    levels = np.tile(np.linspace(0, largest, 256), (8, 1))
    return error_map(
        file, levels, largest, f"Colours from black (0) through purple and orange to light yellow ({largest:g})"
    )


def _png(file: str, image: PillowImage.Image, alt: str) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return Picture(file, buffer.getvalue(), alt, image.width, image.height)
