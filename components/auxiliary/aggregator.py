"""DCTSwin, the aggregator of MTKD: several teachers' restored images become one (Jiang et al., ECCV 2024)."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.parts.head_body_tail import ColourShift, conv3x3, upsampler
from components.backbones.parts.swin import ChannelNorm, residual_swin_blocks
from components.backbones.parts.window_attention import WindowAttention
from components.backbones.tiling import pad_to_multiple
from components.run.params import Positive

_REGION_DIGITS = 1
_FIRST_CORRECTION = 0.1


class FrequencyAttention(WindowAttention):
    """Window attention between the coefficients of the window's 2-D cosine transform, which is then inverted.

    The transform is DCT-II without normalisation, as in the release (`torch_dct`). The release also transforms the map
    of a rolled image's regions, and lets two coefficients attend to each other where the transformed map has the same
    value for both. So in an image that is not rolled, whose map is constant and not 0, the mean of a window attends
    only to itself; in the inner windows of a rolled image, whose region is 0, all coefficients attend to each other;
    and at its border the map decides by accident, because a coefficient belongs to no region. This is kept, because
    the published results include it; the map is rounded, so that the comparison does not depend on the last bit.
    """

    transform: Tensor
    inverse: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__(channels, heads, window)
        transform = torch.kron(cosine_transform(window), cosine_transform(window))
        self.register_buffer("transform", transform.float(), persistent=False)
        inverse = transform.T / transform.pow(2).sum(1)  # its rows are orthogonal
        self.register_buffer("inverse", inverse.float(), persistent=False)

    def forward(self, tokens: Tensor, regions: Tensor | None) -> Tensor:
        """As `WindowAttention.forward`."""
        if regions is None:
            regions = tokens.new_ones(1, tokens.shape[2])
        # Not a matrix product, which autocast would round.
        regions = (self.transform * regions[:, None]).sum(-1).round(decimals=_REGION_DIGITS)
        attended: Tensor = self.inverse @ super().forward(self.transform @ tokens, regions)
        return attended


class Aggregator(nn.Module):
    """Restored images of several teachers -> one image: unshuffle, frequency attention, upsampling.

    Official parameter names (`DCTSwin_arch.py`): `conv_first`, `patch_embed.norm`, `layers.{i}.*` as in SwinIR, `norm`,
    `conv_after_body`, `conv_before_upsample.0`, `upsample.{0[,2]}`, `conv_last`.

    Args:
        scale: of the teachers; their images are unshuffled by it, so that attention works at the degraded size.
        teachers: number of them.
        channels: width; 96 in the paper.
        depths: blocks of each residual Swin block.
        heads: attention heads.
        window: side of the windows, at the degraded size.
        mlp_ratio: hidden width of the MLPs, as a multiple of the channels.
        drop_path_rate: probability of stochastic depth in the last block; 0.1 by default in the release.
        tail: width of the upsampling tail; 64 in the release.
        residual: whether to add the mean of the teachers' images, each with a learnt weight, to an output that starts
            small (ours; the release makes the image from scratch, which takes its half million steps).
    """

    def __init__(
        self,
        scale: int,
        teachers: int,
        channels: Positive = 96,
        depths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (4, 4),
        heads: Positive = 6,
        window: Annotated[int, Field(gt=1)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 2.0,
        drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        tail: Positive = 64,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.window = scale, window
        self.shift = ColourShift()
        self.unshuffle = nn.PixelUnshuffle(scale)
        self.conv_first = conv3x3(3 * teachers * scale**2, channels)
        self.patch_embed = nn.Sequential(OrderedDict(norm=ChannelNorm(channels)))
        self.layers = residual_swin_blocks(
            channels, depths, heads, window, mlp_ratio, drop_path_rate, FrequencyAttention
        )
        self.norm = ChannelNorm(channels)
        self.conv_after_body = conv3x3(channels, channels)
        self.conv_before_upsample = nn.Sequential(conv3x3(channels, tail), nn.LeakyReLU())
        self.upsample = upsampler(scale, tail)
        if scale == 1:  # as released, unlike in the other networks
            self.upsample = nn.Sequential(conv3x3(tail, tail))
        self.conv_last = conv3x3(tail, 3)
        self.trust: nn.Parameter | None = None
        if residual:
            self.trust = nn.Parameter(torch.zeros(teachers))
            with torch.no_grad():
                for value in self.conv_last.parameters():
                    value.mul_(_FIRST_CORRECTION)

    def enter(self, images: Sequence[Tensor]) -> Tensor:
        """Shallow features `B C h w` of the teachers' images `B 3 h*scale w*scale`, padded to whole windows."""
        padded = pad_to_multiple(torch.cat(tuple(images), 1), self.window * self.scale)
        features: Tensor = self.conv_first(self.unshuffle(padded))
        return features

    def embed(self, features: Tensor) -> Tensor:
        """Input of the layers."""
        embedded: Tensor = self.patch_embed(features)
        return embedded

    def leave(self, features: Tensor, shallow: Tensor, images: Sequence[Tensor]) -> Tensor:
        """The image, `B 3 h*scale w*scale`, from the features after the layers."""
        deep = self.conv_after_body(self.norm(features)) + shallow
        height, width = images[0].shape[-2:]
        inner: Tensor = self.conv_last(self.upsample(self.conv_before_upsample(deep)))[..., :height, :width]
        if self.trust is None:
            return self.shift.outward(inner)
        # Not a matrix product here either.
        mean = (self.trust.softmax(0).view(-1, 1, 1, 1, 1) * torch.stack(tuple(images))).sum(0)
        return mean + inner

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        """Aggregate the teachers' images, always in the same order; each is `B 3 H W`, around [0, 1]."""
        shallow = self.enter(images)
        features = self.embed(shallow)
        for layer in self.layers:
            features = layer(features)
        return self.leave(features, shallow, images)


def cosine_transform(size: int) -> Tensor:
    """Matrix of DCT-II without normalisation: `y_k = 2 sum_n x_n cos(pi k (2n + 1) / 2 size)`, float64."""
    index = torch.arange(size, dtype=torch.float64)
    return 2 * torch.cos(math.pi / (2 * size) * index[:, None] * (2 * index + 1))
