"""Locally-enhanced window blocks, the body of Uformer (Wang et al., CVPR 2022)."""

import torch
from torch import Tensor, nn

from components.backbones.parts.swin import SwinBlock, SwinLayer
from components.backbones.parts.window_attention import WindowAttention, linear


class SplitProjection(nn.Module):
    """Queries projected separately from keys and values; official names `to_q`, `to_kv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = linear(channels, channels)
        self.to_kv = linear(channels, 2 * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """`... C` -> `... 3*C`."""
        return torch.cat((self.to_q(tokens), self.to_kv(tokens)), -1)


class LeWinAttention(WindowAttention):
    """Window attention with the official names of Uformer."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__(channels, heads, window)
        self.qkv = SplitProjection(channels)


class LocallyEnhancedMlp(nn.Module):
    """An MLP with a depthwise 3x3 convolution in its middle (LeFF, figure 3b).

    Official parameter names: `linear1.0`, `dwconv.0`, `linear2.0`.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(linear(channels, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(linear(hidden, channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B h w C` -> `B h w C`."""
        wide = self.dwconv(self.linear1(features).permute(0, 3, 1, 2))
        output: Tensor = self.linear2(wide.permute(0, 2, 3, 1))
        return output


class LeWinBlock(SwinBlock):
    """Locally-enhanced window block (LeWin, equations 2 and 3), with a modulator in the decoder.

    The modulator (section 3.3) is a learnt value for each token, added to those of every window before attention.

    Official parameter names: those of `SwinBlock`, and `modulator`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        drop_path_rate: float,
        modulated: bool,
    ) -> None:
        super().__init__(channels, heads, window, shift, mlp_ratio, drop_path_rate, LeWinAttention, LocallyEnhancedMlp)
        self.modulator = nn.Embedding(window**2, channels) if modulated else None

    def _mixed(self, tokens: Tensor, regions: Tensor | None) -> Tensor:
        return super()._mixed(tokens if self.modulator is None else tokens + self.modulator.weight, regions)


class LeWinLevel(SwinLayer):
    """The blocks of one level, `B C h w` -> `B C h w`; official name `blocks`."""

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
