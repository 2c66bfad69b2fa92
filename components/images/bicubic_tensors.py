"""MATLAB's bicubic resizing of batches on any device, in floating point and without rounding."""

import functools
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from components.images.bicubic import taps
from components.images.enlargement import enlarge_batch


def resize_batch(images: Tensor, scale: Fraction) -> Tensor:
    """Resize a batch as `components.images.bicubic` does, but without rounding to bytes; differentiable.

    Args:
        images: `B C h w`, of any range.
        scale: output size over input size, above 0.

    Returns:
        `B C ceil(h*scale) ceil(w*scale)`, of the images' type.
    """
    if torch.onnx.is_in_onnx_export() and scale.denominator == 1:
        return enlarge_batch(images, scale.numerator)
    height, width = images.shape[-2:]
    rows, columns = (_matrix(side, scale).to(images.device, images.dtype) for side in (height, width))
    return rows @ images @ columns.T


@functools.lru_cache(maxsize=16)
def _matrix(length: int, scale: Fraction) -> Tensor:
    """`ceil(length*scale) length`, float64: the weight of each input line in each output line."""
    indices, weights = taps(length, scale)
    matrix = np.zeros((len(indices), length))
    np.add.at(matrix, (np.arange(len(indices))[:, None], indices), weights)
    return torch.from_numpy(matrix)
