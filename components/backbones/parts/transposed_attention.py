"""Attention between channels instead of positions, the core of Restormer (Zamir et al., CVPR 2022) and DRSformer."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.parts.swin import ChannelNorm
from components.run.errors import InputError

NormKind = Literal["with_bias", "bias_free"]

_EPSILON = 1e-5


class BiasFreeNorm(nn.Module):
    """Divides the channels of each pixel by their standard deviation, without subtracting their mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        spread = features.var(1, keepdim=True, unbiased=False) + _EPSILON
        return features * spread.rsqrt() * self.weight.view(-1, 1, 1)


class Norm(nn.Module):
    """Layer normalisation of each pixel of either kind; official name `body`."""

    def __init__(self, channels: int, kind: NormKind) -> None:
        super().__init__()
        self.body = ChannelNorm(channels, eps=_EPSILON) if kind == "with_bias" else BiasFreeNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        output: Tensor = self.body(features)
        return output


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def depthwise(channels: int, side: int = 3, dilation: int = 1) -> nn.Conv2d:
    """Convolution of each channel alone, without bias, that keeps the size."""
    padding = dilation * (side // 2)
    return nn.Conv2d(channels, channels, side, padding=padding, dilation=dilation, groups=channels, bias=False)


class TransposedAttention(nn.Module):
    """Multi-Dconv head transposed attention (MDTA, equation 1 of Restormer): channels attend to channels.

    Queries, keys and values are 1x1 and depthwise convolutions. Queries and keys are scaled to length 1 over all
    positions of the image, so that crops and tiles see other weights than the image they are cut from.

    Official parameter names: `temperature`, `qkv`, `qkv_dwconv`, `project_out`.

    Args:
        channels: a multiple of the heads.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(f"heads: {heads} can't share {channels} channels evenly: write a divisor")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = pointwise(channels, 3 * channels)
        self.qkv_dwconv = depthwise(3 * channels)
        self.project_out = pointwise(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        height, width = features.shape[-2:]
        joined = self.qkv_dwconv(self.qkv(features)).flatten(2).unflatten(1, (3, self.heads, -1))
        query, key, value = joined.unbind(1)
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1) * self.temperature
        mixed = self._weights(scores).to(value) @ value
        output: Tensor = self.project_out(mixed.flatten(1, 2).unflatten(-1, (height, width)))
        return output

    def _weights(self, scores: Tensor) -> Tensor:
        """How much of each channel (last axis) each channel takes, `B heads c c`."""
        return scores.softmax(-1)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward part, each after a normalisation and added to its input.

    Official parameter names: `norm1`, `attn`, `norm2`, `ffn`.
    """

    def __init__(self, channels: int, norm: NormKind, attention: nn.Module, feed_forward: nn.Module) -> None:
        super().__init__()
        self.norm1 = Norm(channels, norm)
        self.attn = attention
        self.norm2 = Norm(channels, norm)
        self.ffn = feed_forward

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        features = features + self.attn(self.norm1(features))
        output: Tensor = features + self.ffn(self.norm2(features))
        return output
