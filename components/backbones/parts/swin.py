"""Residual Swin blocks, the body of SwinIR (Liang et al., ICCVW 2021)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.parts.head_body_tail import conv3x3
from components.backbones.parts.window_attention import (
    WindowAttention,
    from_windows,
    linear,
    shifted_regions,
    to_windows,
)

AttentionKind = Callable[[int, int, int], WindowAttention]
MlpKind = Callable[[int, int], nn.Module]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, `B C h w` -> `B C h w`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name in nn.LayerNorm)
        """Normalise, scale and shift."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them; official names `fc1`, `fc2`."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = linear(channels, hidden)
        self.fc2 = linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """`... C` -> `... C`."""
        output: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return output


class StochasticDepth(nn.Module):
    """Drops each sample's residual with a probability while training, and scales up the rest (Huang et al., 2016).

    It has no parameters, and does nothing in evaluation mode.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, residual: Tensor) -> Tensor:
        """`B ...` -> `B ...`."""
        if not self.training or self.probability == 0:
            return residual
        shape = (len(residual), *[1] * (residual.dim() - 1))
        kept = torch.rand(shape, device=residual.device) >= self.probability
        return residual * kept.to(residual) / (1 - self.probability)


class SwinBlock(nn.Module):
    """Attention in windows and an MLP, each after a normalisation and added to its input.

    Official parameter names: `norm1`, `attn`, `norm2`, `mlp`.

    Args:
        channels: width.
        heads: attention heads.
        window: side of the windows.
        shift: how far up and left the image is rolled before it is cut into windows; 0 or half a window.
        mlp_ratio: hidden width of the MLP, as a multiple of the channels.
        drop_path_rate: probability of stochastic depth.
        attention: makes the attention within a window.
        mlp: makes the MLP, from the channels and the hidden width.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        drop_path_rate: float,
        attention: AttentionKind,
        mlp: MlpKind = Mlp,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = mlp(channels, int(channels * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(self, features: Tensor) -> Tensor:
        """`B h w C` -> `B h w C`; h and w are multiples of the window."""
        features = features + self.drop_path(self._attended(self.norm1(features)))
        output: Tensor = features + self.drop_path(self.mlp(self.norm2(features)))
        return output

    def _attended(self, features: Tensor) -> Tensor:
        height, width = features.shape[1:3]
        regions = None
        if self.shift:
            features = features.roll((-self.shift, -self.shift), (1, 2))
            regions = shifted_regions(height, width, self.window, self.shift, features.device)
        tokens = self._mixed(to_windows(features, self.window), regions)
        merged = from_windows(tokens, self.window, height, width)
        return merged.roll((self.shift, self.shift), (1, 2)) if self.shift else merged

    def _mixed(self, tokens: Tensor, regions: Tensor | None) -> Tensor:
        """The tokens of each window after attention."""
        mixed: Tensor = self.attn(tokens, regions)
        return mixed


class SwinLayer(nn.Module):
    """Swin blocks whose windows alternate between the grid and one shifted by half a window; official name `blocks`."""

    def __init__(self, blocks: Sequence[SwinBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Tensor) -> Tensor:
        """`B h w C` -> `B h w C`."""
        for block in self.blocks:
            features = block(features)
        return features


class ResidualSwinBlock(nn.Module):
    """Swin blocks and a convolution, added to the input (RSTB, figure 2a of SwinIR).

    Official parameter names: `residual_group.blocks.{j}`, `conv`.

    Args:
        channels: width.
        heads: attention heads of each block.
        window: side of the windows.
        mlp_ratio: hidden width of the MLPs, as a multiple of the channels.
        drop_path_rates: probability of stochastic depth of each block.
        attention: makes the attention within a window.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        mlp_ratio: float,
        drop_path_rates: Sequence[float],
        attention: AttentionKind = WindowAttention,
    ) -> None:
        super().__init__()
        shifts = [0 if index % 2 == 0 else window // 2 for index in range(len(drop_path_rates))]
        self.residual_group = SwinLayer(
            [
                SwinBlock(channels, heads, window, shift, mlp_ratio, probability, attention)
                for shift, probability in zip(shifts, drop_path_rates, strict=True)
            ]
        )
        self.conv = conv3x3(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`; h and w are multiples of the window."""
        mixed = self.residual_group(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        output: Tensor = self.conv(mixed) + features
        return output


def residual_swin_blocks(
    channels: int,
    depths: Sequence[int],
    heads: int,
    window: int,
    mlp_ratio: float,
    drop_path_rate: float,
    attention: AttentionKind = WindowAttention,
) -> nn.ModuleList:
    """Residual Swin blocks of `depths` Swin blocks each, shallow to deep; official name `layers`.

    The probability of stochastic depth rises evenly over all Swin blocks, from 0 to `drop_path_rate`.
    """
    rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
    starts = [sum(depths[:index]) for index in range(len(depths))]
    return nn.ModuleList(
        ResidualSwinBlock(channels, heads, window, mlp_ratio, rates[start : start + depth], attention)
        for start, depth in zip(starts, depths, strict=True)
    )
