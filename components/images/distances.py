"""Distances between two images that a network may be trained by: one number a batch, `B C h w` in [0, 1]."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

DistanceName = Literal["l1", "psnr", "charbonnier"]

Distance = Callable[[Tensor, Tensor], Tensor]


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """`10 log10(mean (a - b)^2 + 1e-8)` of each image, their mean: the PSNR with its sign turned, in dB (NAFNet)."""
    squares = (restored - target).square().mean(dim=(1, 2, 3))
    return 10 / math.log(10) * torch.log(squares + 1e-8).mean()


def charbonnier(restored: Tensor, target: Tensor) -> Tensor:
    """`mean sqrt((a - b)^2 + 1e-6)` (MPRNet, equation 4; Uformer, equation 5)."""
    return ((restored - target).square() + 1e-6).sqrt().mean()


DISTANCES: dict[DistanceName, Distance] = {"l1": F.l1_loss, "psnr": psnr_loss, "charbonnier": charbonnier}
