"""The Haar wavelet transform of images."""

import torch
import torch.nn.functional as F
from torch import Tensor


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal 2-D Haar transform; an odd side is padded with a zero (PyWavelets' mode `zero`).

    Args:
        images: `B C h w`.

    Returns:
        The approximation, `B C h/2 w/2`, and the details, `3 B C h/2 w/2`: horizontal, vertical and diagonal (the
        differences down, across, and in both directions).
    """
    height, width = images.shape[-2:]
    images = F.pad(images, (0, width % 2, 0, height % 2))
    upper, lower = images[..., ::2, :], images[..., 1::2, :]
    total, down = upper + lower, upper - lower
    bands = [(part[..., ::2] + sign * part[..., 1::2]) / 2 for part in (total, down) for sign in (1, -1)]
    approximation, vertical, horizontal, diagonal = bands
    return approximation, torch.stack([horizontal, vertical, diagonal])


def wavelet_distance(one: Tensor, other: Tensor, levels: int) -> Tensor:
    """L1 between the sub-bands of two images: the three details of each level, and the last approximation.

    `sum_bands mean|W_band(one) - W_band(other)|`; the transform is linear, so it is applied to the difference.

    Args:
        one: `B C h w`.
        other: of the same shape.
        levels: how many times the approximation is transformed.
    """
    approximation = one - other
    bands = []
    for _ in range(levels):
        approximation, details = haar(approximation)
        bands.append(details.abs().mean((1, 2, 3, 4)).sum())
    return torch.stack([*bands, approximation.abs().mean()]).sum()
