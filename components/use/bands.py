"""A photograph through a network, in bands of rows: gray stays gray, opacity is enlarged separately from the colour."""

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.backbones.tiling import Span, restored_bands
from components.exporting.opening import Restorer
from components.images.bicubic import taps
from components.images.metrics import LUMA
from components.images.photographs import Photograph
from components.images.pixels import Samples
from components.run.errors import InputError


def restored_rows(network: Restorer, photograph: Photograph, tile: int = 512, overlap: int = 64) -> Iterator[Samples]:
    """Restore a photograph, from top to bottom.

    A gray one goes through the network as three equal channels, and the result is the luma of its output. Colour under
    transparent pixels is restored like any other; their opacity is enlarged by bicubic interpolation.

    Args:
        network: restores a tile.
        photograph: of 8 or 16 bits.
        tile: largest side that goes through at once, in the photograph's pixels.
        overlap: width that neighbouring tiles share, likewise.

    Yields:
        `rows width*scale C`, of the photograph's channels and depth.

    Raises:
        InputError: the network's output is not finite; black would be written in its place.
    """
    colour, scale = photograph.colour, network.scale
    height, width = colour.shape[:2]
    peak = float(np.iinfo(colour.dtype).max)

    def run(rows: Span, columns: Span) -> Tensor:
        part = colour[rows.start : rows.stop, columns.start : columns.stop].astype(np.float32) / peak
        image = torch.from_numpy(part).permute(2, 0, 1)[None].expand(1, 3, -1, -1)
        return network(image)

    top = 0
    for band in restored_bands(run, height, width, scale, tile, overlap):
        if colour.shape[2] == 1:
            weights = band.new_tensor(LUMA).view(1, 3, 1, 1) / sum(LUMA)
            band = (band * weights).sum(1, keepdim=True)  # noqa: PLW2901
        if not band.isfinite().all():
            raise InputError("the network makes values of it that are not finite, not a picture; take another student.")
        values = band[0].permute(1, 2, 0).numpy()
        rounded = np.rint(np.clip(values, 0, 1) * peak).astype(colour.dtype)
        if photograph.transparent:
            opacity = enlarged_rows(photograph.samples[..., -1], scale, top, top + len(rounded))
            rounded = np.concatenate([rounded, opacity[..., None]], 2)
        top += len(rounded)
        yield rounded


def enlarged_rows(channel: Samples, scale: int, start: int, stop: int) -> Samples:
    """Rows `start:stop` of a channel, `h w`, enlarged by MATLAB's bicubic interpolation; rounded only at the end."""
    if scale == 1:
        return channel[start:stop]
    indices, weights = taps(len(channel), Fraction(scale))
    tall = _weighed(channel, indices[start:stop], weights[start:stop])
    wide = _weighed(tall.T, *taps(channel.shape[1], Fraction(scale))).T
    peak = np.iinfo(channel.dtype).max
    return cast("Samples", np.clip(np.floor(wide + 0.5), 0, peak).astype(channel.dtype))


def _weighed(
    lines: NDArray[np.generic], indices: NDArray[np.intp], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = np.zeros((len(indices), lines.shape[1]))
    for index, weight in zip(indices.T, weights.T, strict=True):
        total += weight[:, None] * lines[index]
    return total
