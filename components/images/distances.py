"""Image distances to train a network by: one number per batch, for images `B C h w` in [0, 1]."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

DistanceName = Literal["l1", "psnr", "charbonnier"]

Distance = Callable[[Tensor, Tensor], Tensor]


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean over the images of `10 log10(mean (a - b)^2 + 1e-8)`: the negated PSNR, in dB (NAFNet)."""
    squares = (restored - target).square().mean(dim=(1, 2, 3))
    return 10 / math.log(10) * torch.log(squares + 1e-8).mean()


def charbonnier(restored: Tensor, target: Tensor) -> Tensor:
    """`mean sqrt((a - b)^2 + 1e-6)` (MPRNet, equation 4; Uformer, equation 5)."""
    return ((restored - target).square() + 1e-6).sqrt().mean()


DISTANCES: dict[DistanceName, Distance] = {"l1": F.l1_loss, "psnr": psnr_loss, "charbonnier": charbonnier}
