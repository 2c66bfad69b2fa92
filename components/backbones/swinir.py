"""SwinIR: image restoration using Swin Transformer (Liang et al., ICCVW 2021)."""

from collections import OrderedDict
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import DIV2K_MEAN, conv3x3, direct_upsampler, upsampler
from components.backbones.parts.swin import ChannelNorm, residual_swin_blocks
from components.backbones.tiling import pad_to_multiple
from components.run.errors import InputError
from components.run.params import Positive

_TAIL_CHANNELS = 64
_DERIVED = ("relative_position_index", "attn_mask")


class SwinIr(Backbone):
    """SwinIR; each residual Swin block is a stage, the last with the closing norm, convolution and global skip.

    Official parameter names: `conv_first`, `patch_embed.norm`, `layers.{i}.residual_group.blocks.{j}.*`,
    `layers.{i}.conv`, `norm`, `conv_after_body`, and depending on the tail `conv_before_upsample.0`,
    `upsample.{0[,2[,4]]}`, `conv_last`. Indices and masks are computed, not loaded from official files, so that a file
    saved for another image size fits.

    An image that is not a whole number of windows is padded inside by mirroring, on the right and below as officially,
    and the result is cut back; the features then have the padded size. The published networks:

    * classical, 11.9 million parameters at x4: the defaults; its student in DCKD: 60 channels, depths of 4 x 6
    * lightweight, 0.9 million: 60 channels, depths of 4 x 6, `pixelshuffledirect`
    * denoising: the defaults at scale 1

    Args:
        scale: 1, 2, 3, 4 or 8. At 1 there is no upsampler: a convolution gives the residual, added to the image.
        channels: width; 180 in the paper.
        depths: Swin blocks of each residual block; 6 x 6 in the paper.
        heads: attention heads.
        window: side of the windows.
        mlp_ratio: hidden width of the MLPs, as a multiple of the channels.
        drop_path_rate: probability of stochastic depth in the last Swin block while training.
        upsampling: `pixelshuffle` through 64 channels, or `pixelshuffledirect` to the colours; unused at scale 1.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int,
        channels: Positive = 180,
        depths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (6,) * 6,
        heads: Positive = 6,
        window: Annotated[int, Field(gt=1)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 2.0,
        drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        upsampling: Literal["pixelshuffle", "pixelshuffledirect"] = "pixelshuffle",
    ) -> None:
        super().__init__()
        if int(channels * mlp_ratio) < 1:
            raise InputError(f"mlp_ratio: {mlp_ratio:g} leaves none of {channels} channels: write more")
        self.scale, self.depth, self.multiple = scale, len(depths), window
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_first = conv3x3(3, channels)
        self.patch_embed = nn.Sequential(OrderedDict(norm=ChannelNorm(channels)))
        self.layers = residual_swin_blocks(channels, depths, heads, window, mlp_ratio, drop_path_rate)
        self.norm = ChannelNorm(channels)
        self.conv_after_body = conv3x3(channels, channels)
        tail = _tail(scale, channels, upsampling)
        self.tail = tuple(tail)
        for name, module in tail.items():
            self.add_module(name, module)

    @classmethod
    def is_derived(cls, name: str) -> bool:
        """Whether a key of a published checkpoint is an index, or a mask for a fixed image size."""
        return name.endswith(_DERIVED)

    def enter(self, image: Tensor) -> State:
        """Normalised features after the first convolution; the context is its raw output, and the image."""
        shallow = self.conv_first(pad_to_multiple(image, self.multiple) - self.mean)
        return State(self.patch_embed(shallow), (shallow, image))

    def stage(self, index: int, state: State) -> State:
        """One residual Swin block; the last adds the closing norm, convolution and global skip."""
        features: Tensor = self.layers[index](state.features)
        if index == self.depth - 1:
            features = self.conv_after_body(self.norm(features)) + state.context[0]
        return State(features, state.context)

    def leave(self, state: State) -> Tensor:
        """Upsample, and cut to the image's size; at scale 1 add the image."""
        features, (_, image) = state
        for name in self.tail:
            features = self.get_submodule(name)(features)
        height, width = image.shape[-2:]
        restored = features[..., : height * self.scale, : width * self.scale]
        return restored + (image if self.scale == 1 else self.mean)


def _tail(scale: int, channels: int, upsampling: str) -> dict[str, nn.Module]:
    """Modules that turn the last features into an image, in order, by official names."""
    steps = upsampler(scale, _TAIL_CHANNELS)
    if scale == 1:
        return {"conv_last": conv3x3(channels, 3)}
    if upsampling == "pixelshuffledirect":
        return {"upsample": direct_upsampler(scale, channels)}
    return {
        "conv_before_upsample": nn.Sequential(conv3x3(channels, _TAIL_CHANNELS), nn.LeakyReLU()),
        "upsample": steps,
        "conv_last": conv3x3(_TAIL_CHANNELS, 3),
    }
