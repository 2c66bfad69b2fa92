"""RCAN: image super-resolution using very deep residual channel attention networks (Zhang et al., ECCV 2018)."""

from torch import Tensor, nn

from components.backbones.parts.head_body_tail import HeadBodyTail, conv3x3
from components.backbones.parts.layouts import Layout
from components.run.errors import InputError
from components.run.params import Positive


class ChannelAttention(nn.Module):
    """Weighs channels by a bottleneck over their means (equations 6 to 9)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        weights: Tensor = self.conv_du(self.avg_pool(features))
        return features * weights


class ResidualChannelAttentionBlock(nn.Module):
    """Two convolutions and a channel attention, added to the input."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(channels, channels),
            nn.ReLU(inplace=True),
            conv3x3(channels, channels),
            ChannelAttention(channels, reduction),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        residual: Tensor = self.body(features)
        return residual + features


class ResidualGroup(nn.Module):
    """Residual channel attention blocks and a closing convolution, added to the input."""

    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(ResidualChannelAttentionBlock(channels, reduction) for _ in range(blocks)), conv3x3(channels, channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        residual: Tensor = self.body(features)
        return residual + features


class Rcan(HeadBodyTail):
    """RCAN; official parameter names (`head.0`, `body.{g}.body.{b}.body.*`, `body.{groups}`, `tail.*`).

    Args:
        scale: 1, 2, 3, 4 or 8.
        channels: width of the body; 64 in the paper.
        groups: residual groups, each a stage; 10 in the paper.
        blocks: blocks in a group; 20 in the paper, 6 in the published students.
        reduction: how many times fewer channels the attention's bottleneck has; 16 in the paper.
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 64,
        groups: Positive = 10,
        blocks: Positive = 20,
        reduction: Positive = 16,
    ) -> None:
        if reduction > channels:
            raise InputError(f"rcan: reduction {reduction} leaves none of {channels} channels: write less")
        super().__init__(scale, channels, (ResidualGroup(channels, blocks, reduction) for _ in range(groups)))
        self.blocks = blocks

    def layouts(self) -> tuple[Layout, ...]:
        """BasicSR's names, and those of FAKD's students; they subtract the same mean in the same range."""
        inside = {
            r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.([02])\.": r"body.\1.body.\2.body.\3.",
            r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1\.": r"body.\1.body.\2.body.3.conv_du.0.",
            r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3\.": r"body.\1.body.\2.body.3.conv_du.2.",
            r"body\.(\d+)\.conv\.": rf"body.\1.body.{self.blocks}.",
        }
        fakd = {r"body_group(\d+)\.": r"body.\1.", r"body_tail\.": f"body.{self.depth}."}
        return (
            Layout.renaming("BasicSR's", self.basicsr_names() | inside),
            Layout.renaming("FAKD's", fakd),
        )
