"""The encoder and codebook of VQGAN (Esser et al., CVPR 2021), the frozen feature space of DCKD.

Parameter names follow the release of taming-transformers, so that its f=16, 1024 codes checkpoint loads:
`encoder.*`, `quant_conv.*`, `quantize.embedding.weight`.
"""

from collections.abc import Sequence
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.auxiliary.feature_space import FeatureSpace
from components.backbones.parts.precision import at_least_float32, full_precision
from components.run.params import Positive


class ResnetBlock(nn.Module):
    """GroupNorm, swish and convolution, twice, added to the (projected) input."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C' h w`."""
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        shortcut = features if self.nin_shortcut is None else self.nin_shortcut(features)
        return torch.add(shortcut, hidden)


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions, added to the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        normed = self.norm(features)
        query, key, value = (layer(normed).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(query, key, value)
        return torch.add(features, self.proj_out(attended.transpose(1, 2).reshape(features.shape)))


class Downsample(nn.Module):
    """Stride-2 convolution, padded on the right and below only, as released."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h/2 w/2`, rounded down."""
        halved: Tensor = self.conv(F.pad(features, (0, 1, 0, 1)))
        return halved


class Middle(nn.Module):
    """Block, attention, block at the coarsest size."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        middle: Tensor = self.block_2(self.attn_1(self.block_1(features)))
        return middle


class Level(nn.Module):
    """The blocks of one size; the coarsest level has attention after each, all others end by halving the size."""

    def __init__(self, inputs: int, outputs: int, blocks: int, groups: int, *, coarsest: bool) -> None:
        super().__init__()
        self.width = outputs
        self.block = nn.ModuleList(ResnetBlock(outputs if i else inputs, outputs, groups) for i in range(blocks))
        self.attn = nn.ModuleList(AttentionBlock(outputs, groups) for _ in range(blocks if coarsest else 0))
        self.downsample = None if coarsest else Downsample(outputs)

    def first(self, features: Tensor) -> Tensor:
        """Output of the first block, which is what is tapped."""
        tapped: Tensor = self.block[0](features)
        return tapped

    def rest(self, features: Tensor) -> Tensor:
        """Everything after the first block, whose output is `features`."""
        for index, block in enumerate(self.block):
            if index:
                features = block(features)
            if self.attn:
                features = self.attn[index](features)
        return features if self.downsample is None else self.downsample(features)


class ConvolutionalEncoder(nn.Module):
    """The convolutional encoder: an image to a latent `2**(levels-1)` times smaller."""

    def __init__(self, channels: int, multipliers: Sequence[int], blocks: int, latent: int, groups: int) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(inputs, outputs, blocks, groups, coarsest=index == len(widths) - 1)
            for index, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False))
        )
        self.mid = Middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], latent, 3, padding=1)

    def levels(self) -> list[Level]:
        """The levels, shallow to deep."""
        return [cast("Level", level) for level in self.down]

    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Output of the first block of each level, shallow to deep; nothing after the last is computed."""
        taps: list[Tensor] = []
        features = self.conv_in(image)
        for level, above in zip(self.levels(), [None, *self.levels()], strict=False):
            if above is not None:
                features = above.rest(taps[-1])
            taps.append(level.first(features))
        return tuple(taps)

    def latent(self, deepest: Tensor) -> Tensor:
        """The latent, from the deepest tap."""
        features = self.mid(self.levels()[-1].rest(deepest))
        latent: Tensor = self.conv_out(F.silu(self.norm_out(features)))
        return latent


class Codebook(nn.Module):
    """The code vectors, `codes size`."""

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, size)
        nn.init.uniform_(self.embedding.weight, -1.0 / codes, 1.0 / codes)

    def distances(self, latent: Tensor) -> Tensor:
        """Squared distance of every position's vector to every code: `B D h w` -> `B*h*w codes`."""
        # In bf16, these differences of large squares would be off by several units, and the nearest code wrong.
        with full_precision(latent):
            tokens = at_least_float32(latent).permute(0, 2, 3, 1).reshape(-1, latent.shape[1])
            codes = self.embedding.weight
            return tokens.pow(2).sum(1, keepdim=True) + codes.pow(2).sum(1) - 2 * tokens @ codes.t()


class VqganEncoder(FeatureSpace):
    """Encoder and codebook of a VQGAN: features at five depths, and distances to the codes.

    Args:
        channels: width of the first level; 128 as released.
        multipliers: width of each level as a multiple of `channels`; five levels make f = 16.
        blocks: residual blocks per level.
        latent: channels of the encoder's output.
        codes: size of the codebook.
        code_size: channels of a code.
        groups: groups of every GroupNorm; 32 as released; must divide every width.
    """

    released_names = ("encoder.", "quant_conv.", "quantize.embedding.")

    def __init__(
        self,
        channels: Positive = 128,
        multipliers: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 1, 2, 2, 4),
        blocks: Positive = 2,
        latent: Positive = 256,
        codes: Positive = 1024,
        code_size: Positive = 256,
        groups: Positive = 32,
    ) -> None:
        super().__init__()
        self.levels = len(multipliers)
        self.encoder = ConvolutionalEncoder(channels, multipliers, blocks, latent, groups)
        self.quant_conv = nn.Conv2d(latent, code_size, 1)
        self.quantize = Codebook(codes, code_size)

    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of the first block of each level (at the fifth, before its attention), shallow to deep.

        Args:
            image: `B 3 H W`.

        Returns:
            `B C_l H/2^l W/2^l` for each level l from 0.
        """
        return self.encoder.taps(image)

    def encode(self, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Taps, and squared distance of each token to each code (`B*h*w codes`), in one pass."""
        taps = self.encoder.taps(image)
        return taps, self.quantize.distances(self.quant_conv(self.encoder.latent(taps[-1])))
