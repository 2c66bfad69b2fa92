"""The frame that EDSR and its descendants share: head, body with a global skip, upsampling tail."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.run.errors import InputError

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K in [0, 1], subtracted by the official EDSR and RCAN."""

INNER_RANGE = 255.0
"""The official networks work on 0..255; their weights only fit that range."""


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def upsampler(scale: int, channels: int) -> nn.Sequential:
    """Sub-pixel convolutions: one of x3, or one of x2 for each factor of two; none for scale 1."""
    if scale not in {1, 2, 3, 4, 8}:
        raise InputError(f"scale {scale} is not supported: write 1, 2, 3, 4 or 8")
    factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    layers: list[nn.Module] = []
    for factor in factors:
        layers += [conv3x3(channels, channels * factor**2), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


def direct_upsampler(scale: int, channels: int) -> nn.Sequential:
    """A sub-pixel convolution from the features to the colours, whatever the scale."""
    return nn.Sequential(conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))


class ColourShift(nn.Module):
    """Converts between [0, 1] and the official networks' range: 0..255 with DIV2K's mean colour subtracted.

    Official checkpoints hold it as frozen 1x1 convolutions `sub_mean` and `add_mean`; it has no parameters here.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)

    def inward(self, image: Tensor) -> Tensor:
        """`B 3 h w` in [0, 1] -> the inner range."""
        return (image - self.mean) * INNER_RANGE

    def outward(self, image: Tensor) -> Tensor:
        """The inner range -> [0, 1]."""
        return image / INNER_RANGE + self.mean


class HeadBodyTail(Backbone):
    """Head convolution, stages, closing convolution, global skip, sub-pixel upsampling (EDSR, figure 3).

    Official parameter names: `head.0`, `body.{stage}`, `body.{stages}`, `tail.0.{0[,2]}`, `tail.1`.

    Args:
        scale: 1, 2, 3, 4 or 8.
        channels: width of the body.
        stages: modules from `B C h w` to `B C h w`, shallow to deep; made after the head, so that one seed always
            gives the same weights.
    """

    def __init__(self, scale: int, channels: int, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.scale = scale
        self.shift = ColourShift()
        self.head = nn.Sequential(conv3x3(3, channels))
        self.body = nn.Sequential(*stages, conv3x3(channels, channels))
        self.tail = nn.Sequential(upsampler(scale, channels), conv3x3(channels, 3))
        self.depth = len(self.body) - 1

    def enter(self, image: Tensor) -> State:
        """Features after the head convolution; the context is the global skip."""
        features: Tensor = self.head(self.shift.inward(image))
        return State(features, (features,))

    def stage(self, index: int, state: State) -> State:
        """One stage of the body; the last adds the closing convolution and the global skip."""
        features: Tensor = self.body[index](state.features)
        if index == self.depth - 1:
            features = self.body[-1](features) + state.context[0]
        return State(features, state.context)

    def leave(self, state: State) -> Tensor:
        """Upsample and return to [0, 1]."""
        return self.shift.outward(self.tail(state.features))

    def basicsr_names(self) -> dict[str, str]:
        """BasicSR's names of head, closing convolution and tail, as patterns, and their names here."""
        return {
            r"conv_first\.": "head.0.",
            r"conv_after_body\.": f"body.{self.depth}.",
            r"upsample\.": "tail.0.",
            r"conv_last\.": "tail.1.",
        }
