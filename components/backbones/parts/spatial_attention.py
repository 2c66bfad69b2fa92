"""Enhanced spatial attention of residual feature aggregation networks (Liu et al., CVPR 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.parts.head_body_tail import conv3x3

_WINDOW, _STRIDE = 7, 3
_LEAST_SIDE = 2 * _WINDOW + 1
"""Of what the strided convolution and the pooling window fit into once."""


class EnhancedSpatialAttention(nn.Module):
    """Weighs positions by features that are seen at a sixth of the size (section 3.3), as RLFN shortens it.

    Features of fewer than 15 rows or columns, which the official networks refuse, are seen with their last ones
    repeated.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1, self.conv_f = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, hidden, 1)
        self.conv2, self.conv3 = nn.Conv2d(hidden, hidden, 3, stride=2), conv3x3(hidden, hidden)
        self.conv4 = nn.Conv2d(hidden, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        reduced = self.conv1(features)
        height, width = features.shape[2:]
        missing = (0, _at_least(width, _LEAST_SIDE) - width, 0, _at_least(height, _LEAST_SIDE) - height)
        pooled = F.max_pool2d(self.conv2(F.pad(reduced, missing, mode="replicate")), _WINDOW, _STRIDE)
        wide = F.interpolate(self.coarse(pooled), (height, width), mode="bilinear", align_corners=False)
        return features * torch.sigmoid(self.conv4(wide + self.conv_f(reduced)))

    def coarse(self, pooled: Tensor) -> Tensor:
        """The layers between pooling and enlarging: `B hidden h w` -> `B hidden h w`."""
        seen: Tensor = self.conv3(pooled)
        return seen


def _at_least(side: int, least: int) -> int:
    """The larger of both; a graph for all sizes leaves it open."""
    if isinstance(side, Tensor):  # while torch traces
        return side.clamp(min=least)
    larger: int = torch.sym_max(side, least)  # type: ignore[no-untyped-call]
    return larger
