"""MATLAB's bicubic resizing of batches on any device, in floating point and without rounding."""

import functools
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from components.images.bicubic import taps

_OFFSETS = range(-2, 3)
"""Offsets of the neighbours that the kernel reaches when it enlarges."""


def resize_batch(images: Tensor, scale: Fraction) -> Tensor:
    """Resize a batch as `components.images.bicubic` does, but without rounding to bytes; differentiable.

    Args:
        images: `B C h w`, of any range.
        scale: output size over input size, above 0; in a graph that is compiled or exported, a whole one up to 8.

    Returns:
        `B C ceil(h*scale) ceil(w*scale)`, of the images' type.
    """
    if (torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()) and scale.denominator == 1:
        weights = images.new_tensor(_PHASES[scale.numerator])
        rows = _enlarge_last(images.transpose(-1, -2), weights).transpose(-1, -2)
        return _enlarge_last(rows, weights)
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


def _enlarge_last(images: Tensor, weights: Tensor) -> Tensor:
    """Enlarge the last side by a whole factor: `... w` -> `... w*scale`, with the weights of `_phases`.

    The same as with `_matrix` up to rounding, for a graph whose sides are dynamic: NumPy needs concrete numbers.
    """
    length = images.shape[-1]
    lines = torch.arange(length, device=images.device)
    near = []
    for offset in _OFFSETS:
        place = lines + offset
        place = torch.where(place < 0, -1 - place, place)
        place = torch.where(place < length, place, 2 * length - 1 - place).clamp(min=0)
        near.append(images[..., place])
    return (torch.stack(near, -1) @ weights.T).flatten(-2)


def _phases(scale: int) -> list[list[float]]:
    """`scale 5`: the weights of an input line and its neighbours in the output lines it becomes."""
    middle = -_OFFSETS[0]
    indices, weights = taps(len(_OFFSETS), Fraction(scale))
    phases = np.zeros((scale, len(_OFFSETS)))
    inside = slice(middle * scale, (middle + 1) * scale)
    np.add.at(phases, (np.arange(scale)[:, None], indices[inside]), weights[inside])
    listed: list[list[float]] = phases.tolist()
    return listed


# Computed before a compiler looks, which can't follow NumPy: torch's mark for a constant function loads the compiler,
# which takes as long as torch itself, in every step.
_PHASES = {scale: _phases(scale) for scale in range(1, 9)}
