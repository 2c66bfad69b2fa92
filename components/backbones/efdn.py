"""EFDN: edge-enhanced feature distillation network for efficient super-resolution (Wang, CVPRW 2022)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import conv3x3, direct_upsampler
from components.backbones.parts.spatial_attention import EnhancedSpatialAttention
from components.run.params import Positive

_ATTENTION_REDUCTION = 4


class Activated(nn.Module):
    """A convolution and a PReLU with a slope for each channel.

    Args:
        name: of the convolution in the release: `conv1x1`, or `rep_conv`, a 3x3 one into which the release has merged
            the edge-enhanced branches of its training.
        convolution: the convolution.
    """

    def __init__(self, name: str, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, convolution)
        self.act = nn.PReLU(convolution.out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        activated: Tensor = self.act(self.get_submodule(self.name)(features))
        return activated


class Attention(EnhancedSpatialAttention):
    """The attention as first published, with two more layers at the small size."""

    def __init__(self, channels: int) -> None:
        hidden = channels // _ATTENTION_REDUCTION
        super().__init__(channels, hidden)
        self.conv_max, self.conv3_ = conv3x3(hidden, hidden), conv3x3(hidden, hidden)

    def coarse(self, pooled: Tensor) -> Tensor:
        """`B hidden h w` -> `B hidden h w`."""
        seen: Tensor = self.conv3_(F.relu(self.conv3(F.relu(self.conv_max(pooled)))))
        return seen


class FeatureDistillationBlock(nn.Module):
    """Three layers in a row; half of their input and results is kept, fused, attended and added (figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Activated("conv1x1", nn.Conv2d(channels, channels, 1))
        self.conv2 = Activated("rep_conv", conv3x3(channels, channels))
        self.conv3 = Activated("rep_conv", conv3x3(channels, channels))
        self.branch = nn.ModuleList(nn.Conv2d(channels, channels // 2, 1) for _ in range(4))
        self.fuse = nn.Conv2d(4 * (channels // 2), channels, 1)
        self.att = Attention(channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        results = [features]
        for layer in (self.conv1, self.conv2, self.conv3):
            results.append(layer(results[-1]))
        kept = torch.cat([branch(result) for branch, result in zip(self.branch, results, strict=True)], dim=1)
        attended: Tensor = self.att(self.fuse(kept))
        return attended + features


class Efdn(Backbone):
    """EFDN; official parameter names (`head`, `cells.{k}.*`, `local_fuse.{k}`, `tail.0`).

    The 3x3 convolutions are the merged ones of the release's files, and train as they are. A stage is a block; from the
    second on, a 1x1 convolution fuses it with the first block's result, and from the third on with the second's; the
    last adds the global skip. The image is not clamped, unlike the release's.

    Args:
        scale: output size over input size.
        channels: width, at least 4; 48 in the paper.
        blocks: blocks; 4 in the paper.
    """

    def __init__(
        self, scale: int, channels: Annotated[int, Field(ge=_ATTENTION_REDUCTION)] = 48, blocks: Positive = 4
    ) -> None:
        super().__init__()
        self.scale, self.depth = scale, blocks
        self.head = conv3x3(3, channels)
        self.cells = nn.ModuleList(FeatureDistillationBlock(channels) for _ in range(blocks))
        self.local_fuse = nn.ModuleList(nn.Conv2d(2 * channels, channels, 1) for _ in range(blocks - 1))
        self.tail = direct_upsampler(scale, channels)

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context begins with the global skip."""
        features: Tensor = self.head(image)
        return State(features, (features,))

    def stage(self, index: int, state: State) -> State:
        """One block, fused with an earlier one; the context gets what later ones are fused with."""
        skip, *earlier = state.context
        features: Tensor = self.cells[index](state.features)
        if index <= 1:
            earlier.append(features)
        if index > 0:
            fused = earlier[0] if index == 1 else earlier[1]
            features = self.local_fuse[index - 1](torch.cat([fused, features], dim=1))
        if index == self.depth - 1:
            features = features + skip
        return State(features, (skip, *earlier))

    def leave(self, state: State) -> Tensor:
        """Upsample."""
        image: Tensor = self.tail(state.features)
        return image
