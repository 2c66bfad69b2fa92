"""PSNR and SSIM as published tables measure them, and the steps that come before: quantise, crop the border, take luma.

The tables' protocol is that of the MATLAB scripts of RCAN ("Image Super-Resolution Using Very Deep Residual Channel
Attention Networks", 2018) and of BasicSR; a task composes it from these functions.
"""

import math
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from components.run.errors import InputError

Values = NDArray[np.uint8] | NDArray[np.float64]
"""`H W` or `H W C`, 0..255."""

Level = TypeVar("Level", np.uint8, np.float64)

PEAK = 255.0
LUMA = (65.481, 128.553, 24.966)
"""Shares of red, green and blue in BT.601 luma, in levels: together the 219 from black (16) to white (235)."""
LARGEST_PSNR = 100.0
"""In dB; the value for identical images."""

_WINDOW = cv2.getGaussianKernel(11, 1.5, cv2.CV_64F)
_MARGIN = len(_WINDOW) // 2
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2


def quantise(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Turn a network's output into the image a user would save: 0..1, clipped -> 0..255, halves to even.

    Raises:
        InputError: a value is not finite, which would become black.
    """
    if not np.isfinite(image).all():
        raise InputError("a network makes values that are not finite: no image; take other weights, or train again.")
    quantised: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * PEAK).astype(np.uint8)
    return quantised


def crop_border(image: NDArray[Level], border: int) -> NDArray[Level]:
    """Crop `border` pixels from each of the four sides of `H W ...`.

    Raises:
        InputError: nothing would be left.
    """
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        raise InputError(
            f"an image of {width}x{height} pixels is all border ({border} pixels a side): use larger images."
        )
    return image[border : height - border, border : width - border]


def to_luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Luma Y of ITU-R BT.601 in studio range: `H W 3` RGB, 0..255 -> `H W`, 16..235, not rounded.

    MATLAB's `rgb2ycbcr` of an image of doubles. (For uint8 images it rounds, which changes PSNR by up to 0.1 dB.)
    """
    luma: NDArray[np.float64] = image @ (np.array(LUMA) / PEAK) + 16
    return luma


def to_rounded_luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """`to_luma` rounded to whole levels: MATLAB's `rgb2ycbcr` of a uint8 image.

    Integer arithmetic keeps halves exact on every machine; they are rounded up.
    """
    shares, white = np.rint(np.array(LUMA) * 1000).astype(np.int64), int(PEAK) * 1000
    levels = (image @ shares + 16 * white + white // 2) // white
    return np.asarray(levels, np.float64)


def psnr(first: Values, second: Values) -> float:
    """Peak signal-to-noise ratio, `10 log10(255^2 / MSE)` in dB, over all values of two images of 0..255.

    Limited to 100 dB, the value for identical images: JSON has no infinity, and it would swallow a set's mean.

    Raises:
        InputError: the two differ in shape.
    """
    _check_shapes(first, second)
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return min(10 * math.log10(PEAK**2 / error), LARGEST_PSNR) if error else LARGEST_PSNR


def ssim(first: Values, second: Values) -> float:
    """Mean structural similarity of two images of 0..255, 1 for identical ones.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, equation 13: Gaussian
    window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, only where the window is entirely inside.
    For `H W C` it is the mean over the channels (as in BasicSR; MATLAB's `ssim` takes colour as a volume instead).

    Raises:
        InputError: the two differ in shape, or a side is shorter than the window.
    """
    _check_shapes(first, second)
    height, width = first.shape[:2]
    if min(height, width) < len(_WINDOW):
        raise InputError(f"SSIM needs at least 11x11 pixels, found {width}x{height}: use larger images.")
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _local_mean(a), _local_mean(b)
    means, energy = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _local_mean(a * b) - means
    variances = _local_mean(a**2 + b**2) - energy
    return float(np.mean((2 * means + _C1) * (2 * covariance + _C2) / ((energy + _C1) * (variances + _C2))))


def volume_ssim(first: Values, second: Values) -> float:
    """Mean structural similarity of two colour images of 0..255, taken as volumes `H W C`: MATLAB's `ssim`.

    The window is a Gaussian of 11x11x11 with sigma 1.5, also across the channels, and the borders of all three axes are
    repeated: no pixel is left out. Deblurring tables report it (NAFNet's `calculate_ssim(ssim3d=True)`, the MATLAB
    scripts of MPRNet and Restormer); for blurred channels it is much higher than the mean over the channels.

    Raises:
        InputError: the two differ in shape.
    """
    _check_shapes(first, second)
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _volume_mean(a), _volume_mean(b)
    means, energy = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _volume_mean(a * b) - means
    variances = _volume_mean(a**2) + _volume_mean(b**2) - energy
    return float(np.mean((2 * means + _C1) * (2 * covariance + _C2) / ((energy + _C1) * (variances + _C2))))


def _volume_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean under the cubic window with repeated borders: `H W C` -> `H W C`."""
    channels = values.shape[2]
    seen = np.clip(np.arange(channels)[:, None] + np.arange(-_MARGIN, _MARGIN + 1), 0, channels - 1)
    across = np.zeros((channels, channels))
    np.add.at(across, (np.arange(channels)[:, None], seen), _WINDOW[:, 0])
    filtered = cv2.sepFilter2D(values, cv2.CV_64F, _WINDOW, _WINDOW, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(filtered.reshape(values.shape) @ across.T)


def _local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean under the window, where it is entirely inside: `H W ...` -> `H-10 W-10 ...`."""
    filtered = cv2.sepFilter2D(values, cv2.CV_64F, _WINDOW, _WINDOW)
    return np.asarray(filtered[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])


def _check_shapes(first: Values, second: Values) -> None:
    if first.shape != second.shape:
        raise InputError(f"images of different shape cannot be compared: {first.shape} and {second.shape}.")
