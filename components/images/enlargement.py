"""MATLAB's bicubic enlargement by a whole factor as a convolution: what an exported network of any size can hold."""

from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from components.images.bicubic import taps

_REACH = 2
"""Input pixels to each side of its own that an output pixel is made of, for any factor."""


def enlarge_batch(images: Tensor, scale: int) -> Tensor:
    """Enlarge a batch as `resize_batch` does, by operations whose shapes follow the input's.

    `resize_batch` multiplies by a matrix that it computes from the size; in a traced graph that matrix would be a
    constant, and the graph good for one size alone.

    Args:
        images: `B C h w`, of any range.
        scale: output size over input size.

    Returns:
        `B C h*scale w*scale`, of the images' type.
    """
    channels = int(images.shape[1])
    kernels = torch.from_numpy(_kernels(scale)).to(images.device, images.dtype)
    for axis in (2, 3):
        images = images.index_select(axis, _mirrored(images, axis))
    return F.pixel_shuffle(F.conv2d(images, kernels.repeat(channels, 1, 1, 1), groups=channels), scale)


def _mirrored(images: Tensor, axis: int) -> Tensor:
    """Lines of an axis with `_REACH` more at both ends, mirrored with the edge repeated, over and over if they are few.

    The indices are counted from a tensor of the images' own, since a traced graph follows those alone.
    """
    length = images.shape[axis]
    positions = (torch.arange(length + 2 * _REACH, device=images.device) - _REACH).remainder(2 * length)
    return torch.minimum(positions, 2 * length - 1 - positions)


def _kernels(scale: int) -> NDArray[np.float64]:
    """`scale*scale 1 5 5`: weights of the input pixels around one, for each output pixel made from it.

    Computed outside of torch, so that a traced graph holds them and not how they came about.
    """
    middle = 2 * _REACH
    indices, weights = taps(2 * middle + 1, Fraction(scale))
    lines = np.zeros((scale, 2 * _REACH + 1))
    for phase, line in enumerate(lines):
        output = middle * scale + phase
        used = weights[output] != 0
        np.add.at(line, indices[output][used] - middle + _REACH, weights[output][used])
    return (lines[:, None, :, None] * lines[None, :, None, :]).reshape(scale**2, 1, *[2 * _REACH + 1] * 2)
