"""The kinds of pixels: 8 or 16 bits, as files hold them, and floating point, for images that no file holds."""

import numpy as np
from numpy.typing import NDArray

from components.images.metrics import PEAK, quantise

Degraded = NDArray[np.uint8] | NDArray[np.float32]
"""`H W 3` RGB: uint8 of 0..255, or float32 in which black is 0 and white 1.

Floats may lie outside 0..1: noise is not clipped.
"""


Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""`h w C`, in the full range of their type: 0..255 or 0..65535."""


def to_float(image: Degraded) -> NDArray[np.float32]:
    """Scale uint8 so that black is 0 and white 1; floats already have this scale."""
    if image.dtype == np.uint8:
        return np.divide(image, np.float32(PEAK), dtype=np.float32)
    return image.astype(np.float32, copy=False)


def to_bytes(image: Degraded) -> NDArray[np.uint8]:
    """The image a user would save: floats clipped and rounded to 8 bits."""
    return np.asarray(image, np.uint8) if image.dtype == np.uint8 else quantise(np.asarray(image, np.float32))
