"""NAFNet: simple baselines for image restoration (Chen et al., ECCV 2022), and its local statistics at test time."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.precision import at_least_float32
from components.run.errors import InputError
from components.run.params import Positive

Blocks = Annotated[tuple[Positive, ...], Field(min_length=1)]
"""Numbers of blocks, level by level."""

_EPSILON = 1e-6


def local_means(features: Tensor, window: int) -> Tensor:
    """Mean over a window around each position: `B C h w` -> `B C h w`.

    At a border the window is moved inwards; where the image is smaller, the window has the image's size (TLC: Chu et
    al., ECCV 2022, section 3.2). Of the four middle positions in an even window, the upper left is the centre.
    """
    for axis in (2, 3):
        length = features.shape[axis]
        first = (torch.arange(length, device=features.device) - (window - 1) // 2).clamp(max=length - window).clamp(0)
        behind = (first + window).clamp(max=length)
        sums = F.pad(features.cumsum(axis).transpose(axis, 3), (1, 0)).transpose(axis, 3)
        sizes = (behind - first).view((-1, 1) if axis == 2 else (1, -1))
        features = (sums.index_select(axis, behind) - sums.index_select(axis, first)) / sizes
    return features


class MeanOfChannels(nn.Module):
    """Mean of each channel: over the image, or in evaluation mode over a window of its positions.

    Args:
        window: side of the window; None for the mean over the image in every mode.
    """

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.window = window

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C 1 1`, or `B C h w`."""
        if self.window is None or self.training:
            return F.adaptive_avg_pool2d(features, 1)
        # Sums over a whole image are too long for half precision.
        return local_means(at_least_float32(features), self.window)


class ChannelNorm(nn.Module):
    """Layer normalisation of the channels at each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        last = features.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, _EPSILON).permute(0, 3, 1, 2)


class SimpleGate(nn.Module):
    """One half of the channels times the other: `B 2*C h w` -> `B C h w`."""

    def forward(self, features: Tensor) -> Tensor:
        """`B 2*C h w` -> `B C h w`."""
        one, other = features.chunk(2, dim=1)
        return one * other


class NafBlock(nn.Module):
    """A block without activations (figure 3c): gated depthwise convolution with channel attention, gated feed-forward.

    Both are residuals with learnt factors, `beta` and `gamma`, that start at zero.
    """

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__()
        wide = 2 * channels
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.sca = nn.Sequential(MeanOfChannels(window), nn.Conv2d(channels, channels, 1))
        self.sg = SimpleGate()
        self.conv4, self.conv5 = nn.Conv2d(channels, wide, 1), nn.Conv2d(channels, channels, 1)
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        gated = self.sg(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.conv3(gated * self.sca(gated)) * self.beta
        fed: Tensor = self.conv5(self.sg(self.conv4(self.norm2(features))))
        return features + fed * self.gamma


class Nafnet(Backbone):
    """NAFNet; official parameter names (`intro`, `encoders.{i}.{j}.*`, `downs.{i}`, `middle_blks.{j}`, `ups.{i}`, ...).

    A U-shape whose stages are its levels: encoders, middle, decoders; 9 in the published networks. Networks with
    different widths and numbers of blocks are tapped alike, as long as they have as many levels. The next stage down
    adds an encoder's features to the context, and the decoder of the same level takes them out. The last stage is the
    last decoder, whose features enter the convolution `ending`; `leave` adds the image.

    Height and width are multiples of 2 to the power of the number of encoders (`multiple`). The official network pads
    to that with zeros, on the right and below; `tiling.restore_tiled` pads by mirroring.

    The published protocols of deblurring measure NAFNetLocal (TLC): in evaluation, means over windows 1.5 times as
    large as the training patches replace means over the image. That is `local_window`, 384 for patches of 256; it
    has no weights, and does nothing in training mode.

    Args:
        scale: 1, since the output has the input's size.
        channels: width of the highest level; it doubles with each level below; 32 or 64 in the published networks.
        encoder: blocks of each encoder, from the highest level down: [1, 1, 1, 28] for deblurring on GoPro,
            [2, 2, 4, 8] for denoising on SIDD.
        middle: blocks between encoders and decoders: 1 on GoPro, 12 on SIDD.
        decoder: blocks of each decoder, from the lowest level up: [1, 1, 1, 1] on GoPro, [2, 2, 2, 2] on SIDD.
        local_window: side, in input pixels, of the windows over which channels are averaged in evaluation; None for
            the whole image.
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 32,
        encoder: Blocks = (1, 1, 1, 28),
        middle: Positive = 1,
        decoder: Blocks = (1, 1, 1, 1),
        local_window: Positive | None = None,
    ) -> None:
        levels = len(encoder)
        if scale != 1:
            raise InputError(f"nafnet: scale {scale} is not supported: its images have the input's size (scale 1)")
        if len(decoder) != levels:
            raise InputError(f"nafnet: {levels} encoders need as many decoders, not {len(decoder)}")
        if local_window is not None and local_window < 2**levels:
            raise InputError(
                f"nafnet: local_window {local_window} is less than a position of the lowest level: write at least "
                f"{2**levels}, or null for the whole image"
            )
        super().__init__()
        self.scale, self.depth, self.multiple = scale, 2 * levels + 1, 2**levels

        def level(index: int, blocks: int) -> nn.Sequential:
            window = None if local_window is None else local_window // 2**index
            return nn.Sequential(*(NafBlock(channels * 2**index, window) for _ in range(blocks)))

        self.intro, self.ending = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 3, 3, padding=1)
        self.encoders = nn.ModuleList(level(index, blocks) for index, blocks in enumerate(encoder))
        self.decoders = nn.ModuleList(level(levels - 1 - index, blocks) for index, blocks in enumerate(decoder))
        self.middle_blks = level(levels, middle)
        widths = [channels * 2**index for index in range(levels)]
        self.ups = nn.ModuleList(_up(2 * width) for width in reversed(widths))
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths)

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context is the image."""
        return State(self.intro(image), (image,))

    def stage(self, index: int, state: State) -> State:
        """One level, entered from above or from below; the context is the image and the encoders' skips."""
        features, (image, *skips) = state
        levels = len(self.encoders)
        if 0 < index <= levels:
            skips.append(features)
            features = self.downs[index - 1](features)
        if index > levels:
            features = self.ups[index - levels - 1](features) + skips.pop()
        features = self._levels[index](features)
        return State(features, (image, *skips))

    def leave(self, state: State) -> Tensor:
        """Convolve to the residual, and add the image."""
        residual: Tensor = self.ending(state.features)
        return residual + state.context[0]

    @property
    def _levels(self) -> Sequence[nn.Module]:
        return [*self.encoders, self.middle_blks, *self.decoders]


def _up(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))
