"""IDN: fast and accurate single image super-resolution via information distillation network (Hui et al., CVPR 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.backbone import State
from components.backbones.parts.layouts import Layout
from components.backbones.parts.luma import LumaBackbone
from components.run.errors import InputError
from components.run.params import Positive

_SIDE = 17
_SLOPE = 0.05
_GROUPS = 4


def _activated(convolution: nn.Module, features: Tensor) -> Tensor:
    return F.leaky_relu(convolution(features), _SLOPE)


class DistillationBlock(nn.Module):
    """Enhancement unit and compression unit (figure 2).

    After three convolutions, a quarter of the channels bypasses the next three; input and bypassed quarter, side by
    side, are added to the result (equation 6); a 1x1 convolution restores the width of the input.

    Args:
        channels: width of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // 4
        widths = (channels, channels - part, channels - 2 * part, channels)
        deeper = (channels - part, channels, channels - part, channels + part)
        groups = (1, _GROUPS, 1)
        self.kept = part
        self.conv = nn.ModuleList(
            nn.Conv2d(given, made, 3, padding=1, groups=shared)
            for steps in (widths, deeper)
            for given, made, shared in zip(steps, steps[1:], groups, strict=False)
        )
        self.down = nn.Conv2d(channels + part, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        deep = features
        for convolution in self.conv[:3]:
            deep = _activated(convolution, deep)
        kept, deep = deep[:, : self.kept], deep[:, self.kept :]
        for convolution in self.conv[3:]:
            deep = _activated(convolution, deep)
        return _activated(self.down, torch.cat([features, kept], dim=1) + deep)


class Idn(LumaBackbone):
    """IDN on luma: a residual by a 17x17 deconvolution, added to MATLAB's bicubic enlargement.

    The architecture of the Caffe release (Zheng222/IDN-Caffe): 64 channels, of which 16 are distilled, convolutions in
    4 groups, LeakyReLU 0.05. There the deconvolution leaves out the first `scale - 1` rows and columns, which the
    release then crops from its images; here it covers them too, and every other pixel equals the release's.

    Caffe's names `conv{3..6}_{1..6}` and `down{1..4}` are `blocks.{i}.conv.{j}` and `blocks.{i}.down` here; an `.npz`
    of its arrays, `LAYER.0` for weights and `LAYER.1` for biases, loads as it is. Initial weights are torch's own.

    Args:
        scale: 1 to 8; 2, 3 and 4 are published.
        channels: width, a multiple of 16; 64 in the paper.
        blocks: distillation blocks, each a stage; 4 in the paper.
    """

    def __init__(self, scale: int, channels: Positive = 64, blocks: Positive = 4) -> None:
        super().__init__()
        if not 1 <= scale <= 8:
            raise InputError(f"scale {scale} is not supported by idn: write 1 to 8")
        if channels % 16:
            raise InputError(f"idn: {channels} channels can't be cut into quarters of 4 groups: write a multiple of 16")
        self.scale, self.depth = scale, blocks
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(DistillationBlock(channels) for _ in range(blocks))
        self.upsample = nn.ConvTranspose2d(channels, 1, _SIDE, stride=scale, padding=_SIDE // 2 - (scale - 1))

    def enter_luma(self, luma: Tensor) -> State:
        """Features after two convolutions; the context is the luma itself."""
        return State(_activated(self.conv2, _activated(self.conv1, luma)), (luma,))

    def stage(self, index: int, state: State) -> State:
        """One distillation block."""
        features: Tensor = self.blocks[index](state.features)
        return state._replace(features=features)

    def leave_luma(self, state: State) -> Tensor:
        """Deconvolve, and add the enlarged luma."""
        enlarged = self.enlarge(state.context[0])
        residual: Tensor = self.upsample(state.features)
        return residual[..., : enlarged.shape[-2], : enlarged.shape[-1]] + enlarged

    def layouts(self) -> tuple[Layout, ...]:
        """Caffe's names."""
        names: dict[str, str] = {}
        for block in range(self.depth):
            names |= {rf"conv{block + 3}_{layer + 1}\.": f"blocks.{block}.conv.{layer}." for layer in range(6)}
            names |= {rf"down{block + 1}\.": f"blocks.{block}.down."}
        return (Layout.renaming("Caffe's", {**names, r"(?<=\.)0$": "weight", r"(?<=\.)1$": "bias"}),)
