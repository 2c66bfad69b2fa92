"""Whole images through a network: padded to its size rule, and in overlapping tiles above a limit."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from components.backbones.backbone import Backbone


class Span(NamedTuple):
    """One tile along one axis: rows (or columns) `start:stop` of the degraded image."""

    start: int
    stop: int


@torch.inference_mode()
def restore(network: Backbone, image: Tensor, tile: int = 512, overlap: int = 64) -> Tensor:
    """Restore one image of any size.

    Up to `tile` pixels a side it goes through the network whole. Above, overlapping tiles go through one by one, and
    in the overlap they are blended linearly, so that no seam shows; where the network sees less than a quarter of the
    overlap around a pixel, the result is that of the whole image.

    Args:
        network: in evaluation mode, on the device to compute on.
        image: `1 3 h w` in [0, 1]; tiles are moved to the network's device one by one.
        tile: largest side that goes through at once, in degraded pixels.
        overlap: width that neighbouring tiles share, in degraded pixels.

    Returns:
        `1 3 h*scale w*scale` on the image's device, not clamped.
    """
    if overlap * 2 > tile:
        raise ValueError(f"the overlap ({overlap}) may be at most half the tile ({tile})")
    height, width = image.shape[-2:]
    if max(height, width) <= tile:
        return _run(network, image)
    scale = network.scale
    blended = image.new_zeros((1, 3, height * scale, width * scale))
    weight = image.new_zeros((1, 1, height * scale, width * scale))
    for rows in _spans(height, tile, overlap):
        for columns in _spans(width, tile, overlap):
            restored = _run(network, image[..., rows.start : rows.stop, columns.start : columns.stop])
            down = _ramp(rows, height, overlap, scale).to(image)
            across = _ramp(columns, width, overlap, scale).to(image)
            mask = down[:, None] * across[None, :]
            inside = (
                ...,
                slice(rows.start * scale, rows.stop * scale),
                slice(columns.start * scale, columns.stop * scale),
            )
            blended[inside] += restored * mask
            weight[inside] += mask
    return blended / weight


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad `B C h w` on the right and below to a multiple of a side: mirrored, or repeated where too few pixels are."""
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(images, (0, right, 0, bottom), mode=mode)


def _run(network: Backbone, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    device = next(network.parameters()).device
    restored: Tensor = network(pad_to_multiple(image.to(device), network.multiple))
    return restored[..., : height * network.scale, : width * network.scale].to(image)


def _spans(length: int, tile: int, overlap: int) -> Iterator[Span]:
    """Tiles of equal size that cover `length`; the last is shifted inwards."""
    if length <= tile:
        yield Span(0, length)
        return
    starts = range(0, length - overlap, tile - overlap)
    for start in starts:
        first = min(start, length - tile)
        yield Span(first, first + tile)


def _ramp(span: Span, length: int, overlap: int, scale: int) -> Tensor:
    """Weight along one axis: 1 inside, falling to 0 over the overlap with a neighbour.

    The outer quarter of the overlap weighs nothing, since there the tile's own border shows.
    """
    size, width, dead = (span.stop - span.start) * scale, overlap * scale, overlap * scale // 4
    position = torch.arange(size) + 0.5
    rise = ((position - dead) / max(width - 2 * dead, 1)).clamp(0, 1)
    ramp = torch.ones(size)
    if span.start > 0:
        ramp = torch.minimum(ramp, rise)
    if span.stop < length:
        ramp = torch.minimum(ramp, rise.flip(0))
    return ramp
