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
from components.backbones.parts.head_body_tail import conv3x3
from components.backbones.parts.lewin import LeWinBlock, LeWinLevel
from components.run.errors import InputError
from components.run.params import Positive

Shifted = Literal["everywhere", "above_bottleneck", "nowhere"]

_HALVINGS = 4


class Uformer(Backbone):
    """Uformer; each of the nine levels is a stage: four of the encoder, the bottleneck, four of the decoder.

    A stage that changes the size begins by doing so. The context is the image and the features of those encoder levels
    that the decoder has not joined yet; the next stage puts a level's features there, so that features that replace
    them are the ones joined.

    Official parameter names: `input_proj.proj.0`, `encoderlayer_{k}.blocks.{j}.*`, `dowsample_{k}.conv.0`, `conv.*`,
    `upsample_{k}.deconv.0`, `decoderlayer_{k}.blocks.{j}.*`, `output_proj.proj.0`. Indices are computed, not loaded
    from official files. The official network takes squares; this one takes any multiples. Published:

    * Uformer-B, 50.9 million parameters: the defaults
    * Uformer-S, 20.8 million: 2 blocks in every level; Uformer-T, 5.3 million: the same with 16 channels. The paper
      counts both without modulators, 20.6 and 5.2 million; the release has them.

    Args:
        scale: 1.
        channels: width of the first level; it doubles with each halving of the size.
        blocks: of the encoder's four levels and the bottleneck; the decoder mirrors them.
        heads: attention heads of the first level; they double with the width.
        window: side of the windows; sides of an image are multiples of 16 of them.
        mlp_ratio: hidden width of the MLPs, as a multiple of the channels.
        drop_path_rate: probability of stochastic depth in the bottleneck while training; the encoder rises to it, the
            decoder falls from it.
        modulated: whether the decoder has modulators.
        shifted: where every other block shifts its windows. Officially that is everywhere, but in the bottleneck only
            if the network is made for images larger than 16 windows a side: the release trains on 256 pixels for
            GoPro and on 128 for SIDD, but tests both with a network made for 128, so without.
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 32,
        blocks: Annotated[tuple[Positive, ...], Field(min_length=5, max_length=5)] = (1, 2, 8, 8, 2),
        heads: Positive = 1,
        window: Annotated[int, Field(gt=1)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 4.0,
        drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1,
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

        def level(number: int, rates: Sequence[float], *, decoder: bool = False) -> LeWinLevel:
            """Level after `number` halvings; twice as wide in the decoder, which joins features from below and skip."""
            times = 2**number * (2 if decoder else 1)
            shift = window // 2 if number < shifting else 0
            make = partial(LeWinBlock, times * channels, times * heads, window, modulated=decoder and modulated)
            return LeWinLevel([make(index % 2 * shift, mlp_ratio, rate) for index, rate in enumerate(rates)])

        *counts, bottom = blocks
        rates = np.linspace(0, drop_path_rate, sum(counts)).tolist()
        starts = [sum(counts[:number]) for number in range(_HALVINGS)]
        rates_of = [rates[start : start + count] for start, count in zip(starts, counts, strict=True)]
        self.input_proj = _named("proj", conv3x3(3, channels), nn.LeakyReLU())
        for number in range(_HALVINGS):
            width = channels * 2**number
            self.add_module(f"encoderlayer_{number}", level(number, rates_of[number]))
            self.add_module(f"dowsample_{number}", _named("conv", nn.Conv2d(width, 2 * width, 4, 2, 1)))
        self.conv = level(_HALVINGS, [drop_path_rate] * bottom)
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
        whole = image
        for axis in (2, 3):
            # Written as a number of cells, a symbolic size (a graph compiled for any) does not become nested divisions
            # when it is halved. An image whose size breaks the rule fails in `leave`.
            whole = whole.narrow(axis, 0, image.shape[axis] // self.multiple * self.multiple)
        return State(self.input_proj(whole), (image,))

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
            context, skip = context[:-1], context[-1]
            features = torch.cat((self.get_submodule(f"upsample_{index - _HALVINGS - 1}")(features), skip), 1)
        return State(self.get_submodule(name)(features), context)

    def leave(self, state: State) -> Tensor:
        """The output convolution, added to the image."""
        restored: Tensor = self.output_proj(state.features) + state.context[0]
        return restored


def _named(name: str, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))
