"""Restormer: efficient transformer for high-resolution image restoration (Zamir et al., CVPR 2022)."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.parts.four_levels import FourLevels, FourNumbers
from components.backbones.parts.transposed_attention import (
    NormKind,
    TransformerBlock,
    TransposedAttention,
    depthwise,
    pointwise,
)
from components.run.errors import InputError
from components.run.params import Positive


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward part (GDFN, equation 2): one half of the hidden channels gates the other.

    Official parameter names: `project_in`, `dwconv`, `project_out`.
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = pointwise(channels, 2 * hidden)
        self.dwconv = depthwise(2 * hidden)
        self.project_out = pointwise(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        gate, content = self.dwconv(self.project_in(features)).chunk(2, 1)
        output: Tensor = self.project_out(F.gelu(gate) * content)
        return output


class Restormer(FourLevels):
    """Restormer, for RGB and without bias in its convolutions, as in every published file but the dual-pixel one.

    Stages and parameter names: see `FourLevels`; a block has `norm{1,2}.body`, `attn` and `ffn`. Published: the
    defaults for deraining and deblurring, `bias_free` for denoising; the student in DCKD has 24 channels, levels of 2,
    3, 3 and 4 blocks, and a refinement of 2.

    Args:
        scale: 1.
        channels: width of the first level; 48 in the paper.
        blocks: of each of the four levels.
        refinement: blocks after the decoder, at full size.
        heads: attention heads of the four levels.
        expansion: hidden width of the feed-forward parts, as a multiple of the channels.
        norm: `with_bias` or `bias_free` layer normalisation.
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 48,
        blocks: FourNumbers = (4, 6, 6, 8),
        refinement: Positive = 4,
        heads: FourNumbers = (1, 2, 4, 8),
        expansion: Annotated[float, Field(gt=0)] = 2.66,
        norm: NormKind = "with_bias",
    ) -> None:
        if int(channels * expansion) < 1:
            raise InputError(f"expansion: {expansion:g} leaves none of {channels} channels: write more")

        def block(width: int, heads: int) -> nn.Module:
            return TransformerBlock(width, norm, TransposedAttention(width, heads), GatedFeedForward(width, expansion))

        def refined(width: int) -> nn.Module:
            return nn.Sequential(*(block(width, heads[0]) for _ in range(refinement)))

        super().__init__(scale, channels, blocks, heads, block, refined)
