"""Self-attention in windows of an image (Liu et al., ICCV 2021), as in SwinIR."""

import torch
from torch import Tensor, nn

from components.run.errors import InputError

_HIDDEN = -100.0
"""What the official code adds to the score of a token in another region."""


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Linear layer with the initial weights of the official networks."""
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class WindowAttention(nn.Module):
    """Multi-head self-attention of the tokens of a window, with a learnt bias for each relative position.

    Official parameter names: `relative_position_bias_table`, `qkv`, `proj`. Official checkpoints hold the index into
    the table and the masks for a fixed input size as buffers; here they are computed.

    Args:
        channels: a multiple of the heads.
        heads: attention heads.
        window: side of the window.
    """

    position: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(f"heads: {heads} can't share {channels} channels evenly: write a divisor")
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv: nn.Module = linear(channels, 3 * channels)
        self.proj = linear(channels, channels)
        rows, columns = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
        down, across = (axis[:, None] - axis + window - 1 for axis in (rows, columns))
        self.register_buffer("position", down * (2 * window - 1) + across, persistent=False)

    def forward(self, tokens: Tensor, regions: Tensor | None) -> Tensor:
        """Let the tokens of each window attend to each other, if they are of the same region.

        Args:
            tokens: `B n w*w C`, the n windows of each image.
            regions: `n w*w`, the region of each token; None if each window is one region.
        """
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.position].permute(2, 0, 1)
        if regions is not None:
            differ = regions[:, None, :, None] != regions[:, None, None, :]
            bias = bias + differ.to(bias) * _HIDDEN
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
        mixed = scores.softmax(-1).to(value) @ value
        output: Tensor = self.proj(mixed.transpose(2, 3).flatten(3))
        return output


def to_windows(features: Tensor, window: int) -> Tensor:
    """Cut `B h w C` into windows, row by row: `B n w*w C`."""
    batch, height, width, channels = features.shape
    tiled = features.reshape(batch, height // window, window, width // window, window, channels)
    return tiled.transpose(2, 3).reshape(batch, -1, window**2, channels)


def from_windows(tokens: Tensor, window: int, height: int, width: int) -> Tensor:
    """Inverse of `to_windows`."""
    batch, _, _, channels = tokens.shape
    tiled = tokens.reshape(batch, height // window, width // window, window, window, channels)
    return tiled.transpose(2, 3).reshape(batch, height, width, channels)


def shifted_regions(height: int, width: int, window: int, shift: int, device: torch.device | None = None) -> Tensor:
    """Region of each token of a rolled image, `n w*w`: tokens of different regions were not adjacent before the roll.

    There are three bands along each axis: all but the last window, and the two parts of the last window.
    """
    down, across = (_bands(side, window, shift, device) for side in (height, width))
    regions = 3 * down[:, None] + across
    return to_windows(regions[None, :, :, None], window)[0, :, :, 0]


def _bands(side: int, window: int, shift: int, device: torch.device | None) -> Tensor:
    """Band of each position along an axis: 0, 1 or 2."""
    position = torch.arange(side, device=device)
    # Compared with `side`, not with the length of `position`, which would be a constant in an exported graph.
    return (position >= side - window).float() + (position >= side - shift).float()
