"""The U that Restormer and DRSformer share: four levels, each of half the size and twice the width."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.transposed_attention import pointwise
from components.run.errors import InputError
from components.run.params import Positive

FourNumbers = Annotated[tuple[Positive, ...], Field(min_length=4, max_length=4)]

Block = Callable[[int, int], nn.Module]
"""Makes a block from its width and its number of heads."""

_LEVELS = 4
_BOTTOM = _LEVELS - 1


class FourLevels(Backbone):
    """Three encoder levels, the latent one, three decoder levels that join the encoder's features, and a refinement.

    Each of them is a stage, so that networks with any number of blocks are compared level by level: seven stages, or
    eight with a refinement. A stage that changes the size begins by doing so. The last stage's features enter the
    output convolution. The context is the image and the features of those encoder levels that the decoder has not
    joined yet; the next stage puts a level's features there, so that features that replace them are the ones joined.

    Official parameter names: `patch_embed.proj`, `encoder_level{1,2,3}.{j}`, `down{k}_{k+1}.body.0`, `latent.{j}`,
    `up{k+1}_{k}.body.0`, `reduce_chan_level{3,2}`, `decoder_level{3,2,1}.{j}`, `refinement`, `output`.

    Args:
        scale: 1; the network keeps the size.
        channels: width of the first level.
        blocks: of each level of the encoder, the latent one last; the decoder mirrors them.
        heads: attention heads of each level.
        block: makes a block.
        refinement: makes the refinement from its width, or None.
    """

    multiple = 2**_BOTTOM
    scale = 1

    def __init__(
        self,
        scale: int,
        channels: int,
        blocks: tuple[int, ...],
        heads: tuple[int, ...],
        block: Block,
        refinement: Callable[[int], nn.Module] | None,
    ) -> None:
        if scale != 1:
            raise InputError(f"scale {scale} is not supported: the network keeps the size, write 1")
        if channels % 2:
            raise InputError(f"channels: {channels} can't be halved: write an even number")
        super().__init__()

        def level(number: int, width: int) -> nn.Sequential:
            return nn.Sequential(*(block(width, heads[number]) for _ in range(blocks[number])))

        width = [channels * 2**number for number in range(_LEVELS)]
        self.patch_embed = nn.Sequential(OrderedDict(proj=_conv3x3(3, channels)))
        self.encoder_level1 = level(0, width[0])
        self.down1_2 = _down(width[0])
        self.encoder_level2 = level(1, width[1])
        self.down2_3 = _down(width[1])
        self.encoder_level3 = level(2, width[2])
        self.down3_4 = _down(width[2])
        self.latent = level(3, width[3])
        self.up4_3 = _up(width[3])
        self.reduce_chan_level3 = pointwise(width[3], width[2])
        self.decoder_level3 = level(2, width[2])
        self.up3_2 = _up(width[2])
        self.reduce_chan_level2 = pointwise(width[2], width[1])
        self.decoder_level2 = level(1, width[1])
        self.up2_1 = _up(width[1])
        self.decoder_level1 = level(0, width[1])  # twice as wide as in the encoder
        self.depth = 2 * _LEVELS - 1
        if refinement is not None:
            self.refinement = refinement(width[1])
            self.depth += 1
        self.output = _conv3x3(width[1], 3)

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context is the image."""
        return State(self.patch_embed(image), (image,))

    def stage(self, index: int, state: State) -> State:
        """One level of the encoder, the latent level, one of the decoder, or the refinement."""
        features, context = state
        if 0 < index <= _BOTTOM:
            context = (*context, features)
            features = (self.down1_2, self.down2_3, self.down3_4)[index - 1](features)
        elif _BOTTOM < index < 2 * _LEVELS - 1:
            context, skip = context[:-1], context[-1]
            features = (self.up4_3, self.up3_2, self.up2_1)[index - _LEVELS](features)
            features = torch.cat((features, skip), 1)
            if index < 2 * _LEVELS - 2:
                features = (self.reduce_chan_level3, self.reduce_chan_level2)[index - _LEVELS](features)
        return State(self._level(index)(features), context)

    def leave(self, state: State) -> Tensor:
        """The output convolution, added to the image."""
        restored: Tensor = self.output(state.features) + state.context[0]
        return restored

    def _level(self, index: int) -> nn.Module:
        ascent = (self.decoder_level3, self.decoder_level2, self.decoder_level1)
        levels = (self.encoder_level1, self.encoder_level2, self.encoder_level3, self.latent, *ascent)
        return levels[index] if index < len(levels) else self.refinement


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _down(channels: int) -> nn.Module:
    """Half the size, twice the width; official name `body`."""
    return _named_body(_conv3x3(channels, channels // 2), nn.PixelUnshuffle(2))


def _up(channels: int) -> nn.Module:
    """Twice the size, half the width; official name `body`."""
    return _named_body(_conv3x3(channels, 2 * channels), nn.PixelShuffle(2))


def _named_body(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(body=nn.Sequential(*layers)))
