"""Whole images through a network: padded to its size rule, and in overlapping tiles above a limit."""

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from components.backbones.backbone import Backbone


class Span(NamedTuple):
    """One tile along one axis: rows (or columns) `start:stop` of the degraded image."""

    start: int
    stop: int


RunTile = Callable[[Span, Span], Tensor]
"""Restores the tile of these rows and columns."""


@torch.inference_mode()
def restore_tiled(network: Backbone, image: Tensor, tile: int = 512, overlap: int = 64) -> Tensor:
    """Restore one image of any size.

    An image of at most `tile` pixels a side goes through the network whole. A larger one goes through in overlapping
    tiles, one by one, which are blended linearly in the overlap, so that no seam shows; if the network sees less than
    a quarter of the overlap around a pixel, the result is that of the whole image.

    Args:
        network: in evaluation mode, on the device to compute on.
        image: `1 3 h w` in [0, 1]; tiles are moved to the network's device one by one.
        tile: largest side that goes through at once, in degraded pixels.
        overlap: width that neighbouring tiles share, in degraded pixels.

    Returns:
        `1 3 h*scale w*scale` on the image's device, not clamped.
    """
    height, width = image.shape[-2:]

    def run(rows: Span, columns: Span) -> Tensor:
        return run_padded(network, image[..., rows.start : rows.stop, columns.start : columns.stop])

    return torch.cat(list(restored_bands(run, height, width, network.scale, tile, overlap)), -2)


def restored_bands(
    run: RunTile, height: int, width: int, scale: int, tile: int = 512, overlap: int = 64
) -> Iterator[Tensor]:
    """Restore one image in bands of rows, from top to bottom, each yielded once no further tile changes it.

    So an image of any height needs memory only for one row of tiles and its overlap with the next.

    Args:
        run: restores the tile of these rows and columns of the degraded image: `1 3 rows*scale columns*scale`.
        height: of the degraded image.
        width: of the degraded image.
        scale: output size over input size.
        tile: largest side of a tile, in degraded pixels.
        overlap: width that neighbouring tiles share, in degraded pixels.

    Yields:
        `1 3 rows width*scale`, not clamped; `height*scale` rows in all.
    """
    if overlap * 2 > tile:
        raise ValueError(f"the overlap ({overlap}) may be at most half the tile ({tile})")
    if max(height, width) <= tile:
        yield run(Span(0, height), Span(0, width))
        return
    bands, across = list(_spans(height, tile, overlap)), list(_spans(width, tile, overlap))
    sums = torch.zeros(1, 4, 0, width * scale)  # three planes of colours times weights, one of weights
    for rows, following in zip_longest(bands, bands[1:]):
        down = _ramp(rows, height, overlap, scale)
        for columns in across:
            restored = run(rows, columns)
            mask = (down[:, None] * _ramp(columns, width, overlap, scale)[None, :]).to(restored)
            if columns.start == 0:
                sums = _extended(sums.to(restored), len(down))
            inside = sums[..., columns.start * scale : columns.stop * scale]
            inside[:, :3] += restored * mask
            inside[:, 3:] += mask
        done = ((following.start if following else height) - rows.start) * scale
        yield sums[:, :3, :done] / sums[:, 3:, :done]
        sums = sums[:, :, done:]


def run_padded(network: Backbone, image: Tensor) -> Tensor:
    """Run a whole image of any size, `1 3 h w`, through a network, padded to its size rule."""
    height, width = image.shape[-2:]
    device = next(network.parameters()).device
    restored: Tensor = network(pad_to_multiple(image.to(device), network.multiple))
    return restored[..., : height * network.scale, : width * network.scale].to(image)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad `B C h w` on the right and below to a multiple: mirrored, or with edge pixels repeated in small images."""
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(images, (0, right, 0, bottom), mode=mode)


def _extended(sums: Tensor, rows: int) -> Tensor:
    """Add rows of zeros below, up to `rows` in all."""
    return F.pad(sums, (0, 0, 0, rows - sums.shape[-2]))


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

    The outer quarter of the overlap has weight 0, because the tile's own border shows there.
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
