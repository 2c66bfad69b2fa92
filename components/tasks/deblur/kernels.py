"""Motion kernels: read from files, and images blurred by them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.images.files import read_image
from components.images.matlab_files import load_matlab
from components.run.errors import InputError

Kernel = NDArray[np.float64]
"""`h w`: how the light of one point spreads; its values are not negative, their sum is 1."""

LARGEST_SIDE = 256


def read_kernels(path: Path) -> list[Kernel]:
    """Read every kernel of a MATLAB file (`.mat`, before version 7.3), or the one that an image shows.

    In a `.mat` file, kernels are its numeric arrays `h w`, and those inside its cell arrays, in order.

    Raises:
        InputError: the file is missing, is neither of these, or holds no kernel or an array that can't be one.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found.")
    if path.suffix.lower() != ".mat":
        image = read_image(path)
        if (image != image[..., :1]).any():
            raise InputError(f"{path}: a kernel is a gray image, but this one has colours.")
        return [_normalised(image[..., 0], str(path))]
    values = load_matlab(path, instead="write each kernel as a gray PNG")
    found = [(f"{path}: {name}", value) for name, value in values.items()]
    kernels = [_normalised(array, where) for where, value in found for array in _arrays(value, where)]
    if not kernels:
        raise InputError(f"{path}: holds no array, so no kernel.")
    return kernels


def blur(image: NDArray[np.uint8], kernel: Kernel) -> NDArray[np.float32]:
    """Convolve `H W C` of 0..255 with a kernel `h w`: a bright point becomes a picture of the kernel.

    Each channel is blurred alone, in stored levels, as in KAIR; borders are mirrored including the edge, and the
    kernel's centre is at `[h // 2, w // 2]`. The result is not rounded.
    """
    height, width = kernel.shape
    # OpenCV correlates: rotated by 180 degrees, the kernel convolves, and its centre moves to the other side.
    centre = (width - 1 - width // 2, height - 1 - height // 2)
    # Floats from the start: filtering from uint8 to float takes OpenCV three times as long.
    levels = image.astype(np.float32)
    blurred = cv2.filter2D(levels, cv2.CV_32F, kernel[::-1, ::-1], anchor=centre, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def _arrays(value: Any, where: str) -> list[NDArray[Any]]:
    """The numeric arrays of a variable: itself, or what the cells hold."""
    if value.dtype == object:
        return [array for cell in value.flat for array in _arrays(np.asarray(cell), where)]
    if value.dtype.kind not in "fiub":
        raise InputError(f"{where}: holds {_kind(value)}, not a kernel (numbers, height x width).")
    return [value]


def _kind(value: NDArray[Any]) -> str:
    return "text" if value.dtype.kind in "US" else f"values of the kind {value.dtype}"


def _normalised(array: NDArray[Any], where: str) -> Kernel:
    if array.ndim != 2 or min(array.shape) < 1 or not 1 < max(array.shape) <= LARGEST_SIDE:
        raise InputError(
            f"{where}: an array of {_shape(array)} is not a kernel; write one of 2 to {LARGEST_SIDE} a side."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise InputError(
            f"{where}: an array of {_shape(array)} with values of {values.min():g} to {values.max():g} is not a "
            "motion kernel: its values must be finite, not negative, and not all 0."
        )
    shares: Kernel = values / values.sum()
    return shares


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape)) or "one number"
