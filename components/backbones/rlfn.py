"""RLFN: residual local feature network for efficient super-resolution (Kong et al., CVPRW 2022)."""

import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import INNER_RANGE, conv3x3, direct_upsampler
from components.backbones.parts.spatial_attention import EnhancedSpatialAttention
from components.run.params import Positive

_SLOPE = 0.05


class ResidualLocalFeatureBlock(nn.Module):
    """Three convolutions, added to the input, then a 1x1 convolution and spatial attention (figure 2d)."""

    def __init__(self, channels: int, hidden: int, attention_channels: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r = conv3x3(channels, hidden), conv3x3(hidden, hidden)
        self.c3_r = conv3x3(hidden, channels)
        self.c5 = nn.Conv2d(channels, channels, 1)
        self.esa = EnhancedSpatialAttention(channels, attention_channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        residual = features
        for convolution in (self.c1_r, self.c2_r, self.c3_r):
            residual = F.leaky_relu(convolution(residual), _SLOPE)
        attended: Tensor = self.esa(self.c5(residual + features))
        return attended


class Rlfn(Backbone):
    """RLFN; official parameter names (`conv_1`, `block_{k}.{c1_r,c2_r,c3_r,c5}`, `block_{k}.esa.*`, `conv_2`, ...).

    It works on images of 0..255. A stage is a block; the last adds the closing convolution and the global skip.
    RLFN-S has 48 channels; the winner of NTIRE 2022 has 46, of which its blocks make 48, and 4 blocks.

    Args:
        scale: output size over input size.
        channels: width; 52 in the paper.
        blocks: residual local feature blocks; 6 in the paper.
        hidden_channels: width between the convolutions of a block; null for `channels`.
        attention_channels: width of the spatial attention; 16 in the paper.
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 52,
        blocks: Positive = 6,
        hidden_channels: Positive | None = None,
        attention_channels: Positive = 16,
    ) -> None:
        super().__init__()
        self.scale, self.depth = scale, blocks
        self.conv_1 = conv3x3(3, channels)
        for index in range(1, blocks + 1):
            block = ResidualLocalFeatureBlock(channels, hidden_channels or channels, attention_channels)
            self.add_module(f"block_{index}", block)
        self.conv_2 = conv3x3(channels, channels)
        self.upsampler = direct_upsampler(scale, channels)

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context is the global skip."""
        features: Tensor = self.conv_1(image * INNER_RANGE)
        return State(features, (features,))

    def stage(self, index: int, state: State) -> State:
        """One block; the last stage adds the closing convolution and the global skip."""
        features: Tensor = self.get_submodule(f"block_{index + 1}")(state.features)
        if index == self.depth - 1:
            features = self.conv_2(features) + state.context[0]
        return state._replace(features=features)

    def leave(self, state: State) -> Tensor:
        """Upsample and return to [0, 1]."""
        image: Tensor = self.upsampler(state.features) / INNER_RANGE
        return image
