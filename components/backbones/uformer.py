"""Uformer: a general U-shaped transformer for image restoration (Wang et al., CVPR 2022)."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.head_body_tail import conv3x3
from components.backbones.swin import SwinBlock, SwinLayer
from components.backbones.window_attention import WindowAttention, linear
from components.run.errors import InputError
from components.run.params import Positive

Shifted = Literal["everywhere", "above_bottleneck", "nowhere"]

_HALVINGS = 4


class SplitProjection(nn.Module):
    """Queries apart from keys and values; official names `to_q`, `to_kv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = linear(channels, channels)
        self.to_kv = linear(channels, 2 * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """`... C` -> `... 3*C`."""
        return torch.cat((self.to_q(tokens), self.to_kv(tokens)), -1)


class LeWinAttention(WindowAttention):
    """Window attention with the official names of Uformer."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__(channels, heads, window)
        self.qkv = SplitProjection(channels)


class LocallyEnhancedMlp(nn.Module):
    """An MLP with a depthwise 3x3 convolution in its middle (LeFF, figure 3b).

    Official parameter names: `linear1.0`, `dwconv.0`, `linear2.0`.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(linear(channels, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(linear(hidden, channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B h w C` -> `B h w C`."""
        wide = self.dwconv(self.linear1(features).permute(0, 3, 1, 2))
        output: Tensor = self.linear2(wide.permute(0, 2, 3, 1))
        return output


class LeWinBlock(SwinBlock):
    """Locally-enhanced window block (LeWin, equations 2 and 3), in the decoder with a modulator.

    The modulator (section 3.3) is what is learnt to be added to the tokens of every window before their attention.

    Official parameter names: those of `SwinBlock`, and `modulator`.
    """

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, mlp_ratio: float, dropped: float, modulated: bool
    ) -> None:
        super().__init__(channels, heads, window, shift, mlp_ratio, dropped, LeWinAttention, LocallyEnhancedMlp)
        self.modulator = nn.Embedding(window**2, channels) if modulated else None

    def _mixed(self, tokens: Tensor, regions: Tensor | None) -> Tensor:
        return super()._mixed(tokens if self.modulator is None else tokens + self.modulator.weight, regions)


class Level(SwinLayer):
    """The blocks of one level, `B C h w` -> `B C h w`; official name `blocks`."""

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Uformer(Backbone):
    """Uformer; each of the nine levels is a stage: four of the encoder, the bottleneck, four of the decoder.

    A stage that changes the size begins with that. The context is the image and the features of the encoder's levels
    that the decoder has not joined yet; a level's features are put there by the next stage, so that what replaces them
    is joined.

    Official parameter names: `input_proj.proj.0`, `encoderlayer_{k}.blocks.{j}.*`, `dowsample_{k}.conv.0`, `conv.*`,
    `upsample_{k}.deconv.0`, `decoderlayer_{k}.blocks.{j}.*`, `output_proj.proj.0`. Indices of official files are not
    loaded but computed. The official network is for squares; this one is for any multiples. Published:

    * Uformer-B, 50.9 million parameters: the defaults
    * Uformer-S, 20.6 million: blocks of 2 everywhere; Uformer-T, 5.2 million: that and 16 channels

    Args:
        scale: 1.
        channels: width of the first level; it doubles with each halving of the size.
        blocks: of the four levels of the encoder and of the bottleneck; the decoder mirrors them.
        heads: attention heads of the first level; they double with the width.
        window: side of the windows; the size rule is 16 of them.
        mlp_ratio: hidden width of the MLPs over the channels.
        dropped: probability of stochastic depth in the bottleneck while training; it rises to that and falls again.
        modulated: whether the decoder has modulators.
        shifted: where every other block shifts its windows. Officially that is everywhere, but in the bottleneck only
            where the network was made for images larger than 16 windows (128 pixels, the default).
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 32,
        blocks: Annotated[tuple[Positive, ...], Field(min_length=5, max_length=5)] = (1, 2, 8, 8, 2),
        heads: Positive = 1,
        window: Annotated[int, Field(gt=1)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 4.0,
        dropped: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        modulated: bool = True,
        shifted: Shifted = "above_bottleneck",
    ) -> None:
        if scale != 1:
            raise InputError(f"scale {scale} is not supported: uformer keeps the size, write 1")
        if int(channels * mlp_ratio) < 1:
            raise InputError(f"mlp_ratio: {mlp_ratio:g} leaves none of {channels} channels: write more")
        super().__init__()
        self.scale, self.depth = 1, 2 * _HALVINGS + 1
        self.multiple = window * 2**_HALVINGS

        shifting = {"everywhere": _HALVINGS + 1, "above_bottleneck": _HALVINGS, "nowhere": 0}[shifted]

        def level(number: int, rates: Sequence[float], *, decoder: bool = False) -> Level:
            """Level behind `number` halvings; the decoder's are twice as wide, of what comes up and what is joined."""
            times = 2**number * (2 if decoder else 1)
            shift = window // 2 if number < shifting else 0
            make = partial(LeWinBlock, times * channels, times * heads, window, modulated=decoder and modulated)
            return Level([make(index % 2 * shift, mlp_ratio, rate) for index, rate in enumerate(rates)])

        *counts, bottom = blocks
        rates = np.linspace(0, dropped, sum(counts)).tolist()
        starts = [sum(counts[:number]) for number in range(_HALVINGS)]
        rates_of = [rates[start : start + count] for start, count in zip(starts, counts, strict=True)]
        self.input_proj = _named("proj", conv3x3(3, channels), nn.LeakyReLU())
        for number in range(_HALVINGS):
            width = channels * 2**number
            self.add_module(f"encoderlayer_{number}", level(number, rates_of[number]))
            self.add_module(f"dowsample_{number}", _named("conv", nn.Conv2d(width, 2 * width, 4, 2, 1)))
        self.conv = level(_HALVINGS, [dropped] * bottom)
        incoming = channels * 2**_HALVINGS
        for index, number in enumerate(reversed(range(_HALVINGS))):
            width = channels * 2**number
            self.add_module(f"upsample_{index}", _named("deconv", nn.ConvTranspose2d(incoming, width, 2, 2)))
            self.add_module(f"decoderlayer_{index}", level(number, rates_of[number][::-1], decoder=True))
            incoming = 2 * width
        self.output_proj = _named("proj", conv3x3(incoming, 3))

    @classmethod
    def is_derived(cls, name: str) -> bool:
        """Whether a key of a published checkpoint is an index of relative positions."""
        return name.endswith("relative_position_index")

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context is the image."""
        return State(self.input_proj(image), (image,))

    def stage(self, index: int, state: State) -> State:
        """One level."""
        features, context = state
        name = "conv"
        if index < _HALVINGS:
            name = f"encoderlayer_{index}"
        if 0 < index <= _HALVINGS:
            context = (*context, features)
            features = self.get_submodule(f"dowsample_{index - 1}")(features)
        elif index > _HALVINGS:
            name = f"decoderlayer_{index - _HALVINGS - 1}"
            *context, skip = context
            features = torch.cat((self.get_submodule(f"upsample_{index - _HALVINGS - 1}")(features), skip), 1)
        return State(self.get_submodule(name)(features), tuple(context))

    def leave(self, state: State) -> Tensor:
        """The output convolution, added to the image."""
        restored: Tensor = self.output_proj(state.features) + state.context[0]
        return restored


def _named(name: str, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))
