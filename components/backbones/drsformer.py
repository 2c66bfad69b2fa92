"""DRSformer: learning a sparse transformer network for effective image deraining (Chen et al., CVPR 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import State
from components.backbones.parts.expert_compensator import ExpertCompensator
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

_KEPT = ((1, 2), (2, 3), (3, 4), (4, 5))
"""Shares of the channels to which each channel attends."""


class SparseAttention(TransposedAttention):
    """Top-k sparse attention (TKSA, equations 2 to 4): transposed attention to the nearest channels only.

    Four such attentions, to the nearest 1/2, 2/3, 3/4 and 4/5 of the channels, are added with learnt factors. They
    share scores and values, so their weights are summed first and multiply the values once (officially four times).

    Official parameter names: those of `TransposedAttention`, and `attn{1..4}`.

    Args:
        channels: a multiple of the heads, at least two per head.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        width = channels // heads
        if width < 2:
            raise InputError(f"heads: {heads} leave {width} of {channels} channels each, none to choose: write fewer")
        self.kept = tuple(width * share // whole for share, whole in _KEPT)
        self.attn1, self.attn2, self.attn3, self.attn4 = (nn.Parameter(torch.tensor([0.2])) for _ in _KEPT)

    def _weights(self, scores: Tensor) -> Tensor:
        most = self.kept[-1]
        nearest = scores.topk(most, dim=-1).indices
        places = torch.arange(most, device=scores.device).expand_as(nearest)
        rank = torch.full_like(scores, most, dtype=places.dtype).scatter(-1, nearest, places)
        weights = (self.attn1, self.attn2, self.attn3, self.attn4)
        parts = [
            weight * scores.masked_fill(rank >= kept, -torch.inf).softmax(-1)
            for weight, kept in zip(weights, self.kept, strict=True)
        ]
        return torch.stack(parts).sum(0)


class MixedScaleFeedForward(nn.Module):
    """Mixed-scale feed-forward part (MSFN, equation 5): depthwise 3x3 and 5x5 convolutions that exchange halves.

    Official parameter names: `project_in`, `dwconv{3x3,5x5}`, `dwconv{3x3,5x5}_1`, `project_out`.
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = pointwise(channels, 2 * hidden)
        self.dwconv3x3, self.dwconv5x5 = depthwise(2 * hidden, 3), depthwise(2 * hidden, 5)
        self.dwconv3x3_1, self.dwconv5x5_1 = (
            nn.Conv2d(2 * hidden, hidden, side, padding=side // 2, groups=hidden, bias=False) for side in (3, 5)
        )
        self.project_out = pointwise(2 * hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        features = self.project_in(features)
        small = self.dwconv3x3(features).relu().chunk(2, 1)
        large = self.dwconv5x5(features).relu().chunk(2, 1)
        first, second = (torch.cat(halves, 1) for halves in zip(small, large, strict=True))
        mixed = torch.cat((self.dwconv3x3_1(first).relu(), self.dwconv5x5_1(second).relu()), 1)
        output: Tensor = self.project_out(mixed)
        return output


class DrsFormer(FourLevels):
    """DRSformer: Restormer's U with sparse attention, and with mixtures of experts at its two ends.

    Stages and parameter names: see `FourLevels`; a block has `norm{1,2}.body`, `attn` and `ffn`. The experts
    `encoder_level0` belong to the first stage; `refinement` is a last stage of its own. Published for Rain200H, DID and
    DDN: the defaults; for Rain200L and SPA: without experts.

    Args:
        scale: 1.
        channels: width of the first level; 48 in the paper.
        blocks: of each of the four levels.
        heads: attention heads of the four levels.
        expansion: hidden width of the feed-forward parts, as a multiple of the channels.
        norm: `with_bias` or `bias_free` layer normalisation.
        experts: whether there are mixtures of experts.
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 48,
        blocks: FourNumbers = (4, 6, 6, 8),
        heads: FourNumbers = (1, 2, 4, 8),
        expansion: Annotated[float, Field(gt=0)] = 2.66,
        norm: NormKind = "with_bias",
        experts: bool = True,
    ) -> None:
        if int(channels * expansion) < 1:
            raise InputError(f"expansion: {expansion:g} leaves none of {channels} channels: write more")

        def block(width: int, heads: int) -> nn.Module:
            return TransformerBlock(width, norm, SparseAttention(width, heads), MixedScaleFeedForward(width, expansion))

        super().__init__(scale, channels, blocks, heads, block, ExpertCompensator if experts else None)
        self.encoder_level0 = ExpertCompensator(channels) if experts else nn.Identity()

    def stage(self, index: int, state: State) -> State:
        """As in `FourLevels`; the first begins with experts."""
        if index == 0:
            state = state._replace(features=self.encoder_level0(state.features))
        return super().stage(index, state)
