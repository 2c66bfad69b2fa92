"""EDSR: enhanced deep residual networks for single image super-resolution (Lim et al., CVPRW 2017)."""

import torch
from torch import Tensor, nn

from components.backbones.parts.head_body_tail import HeadBodyTail, conv3x3
from components.backbones.parts.layouts import Layout
from components.run.params import Positive


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, scaled and added to the input; no batch normalisation (figure 2c)."""

    def __init__(self, channels: int, residual_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels))
        self.residual_scale = residual_scale

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        residual: Tensor = self.body(features)
        return torch.add(features, residual, alpha=self.residual_scale)


class Edsr(HeadBodyTail):
    """EDSR; official parameter names (`head.0`, `body.{i}.body.{0,2}`, `body.{blocks}`, `tail.0.*`, `tail.1`).

    Args:
        scale: 1, 2, 3, 4 or 8.
        channels: width of the body; 64 in the baseline, 256 in the full network.
        blocks: residual blocks; 16 in the baseline, 32 in the full network.
        residual_scale: factor of each residual; 1 in the baseline, 0.1 in the full network.
    """

    def __init__(self, scale: int, channels: Positive = 64, blocks: Positive = 16, residual_scale: float = 1.0) -> None:
        super().__init__(scale, channels, (ResidualBlock(channels, residual_scale) for _ in range(blocks)))

    def layouts(self) -> tuple[Layout, ...]:
        """BasicSR's names, and those of FAKD's students; they subtract the same mean in the same range.

        FAKD cuts the body into three parts; the first block of each is at a third of all blocks, rounded down.
        """
        inside = {rf"body\.(\d+)\.conv{number}\.": rf"body.\1.body.{place}." for number, place in ((1, 0), (2, 2))}
        starts = {part: part * self.depth // 3 for part in range(3)}
        fakd = {
            rf"body{part + 1}\.{place - start}\.": f"body.{place}."
            for part, start in starts.items()
            for place in range(start, starts.get(part + 1, self.depth + 1))
        }
        return (
            Layout.renaming("BasicSR's", self.basicsr_names() | inside),
            Layout.renaming("FAKD's", fakd),
        )
