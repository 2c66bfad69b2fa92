"""DCKD's bank of degradations, which produces its negatives (`dckd_model.py` of the release)."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from components.methods.parts.draws import generator, sample_generators
from components.run.params import Params

_BLUR_SIDES = (3, 5, 7, 9, 11)
_BLUR_SIGMA = (0.1, 2.0)
_NOISE_SIGMA = (1.0, 30.0)
_ENLARGE_PROBABILITY = 0.25
_ENLARGED = (1.0, 1.5)
_REDUCED = (0.5, 1.0)
_MODES = ("area", "bilinear", "bicubic")


class Bank(Params):
    """Probability of each degradation; the release trains with noise alone.

    Attributes:
        blur: Gaussian blur, drawn once for the whole batch.
        resize: resizing up or down and, after the noise, back; drawn once for the whole batch.
        noise: Gaussian noise of a strength drawn for each sample.
        gray: a sample's noise is the same in its three channels.
    """

    blur: float = Field(ge=0, le=1)
    resize: float = Field(ge=0, le=1)
    noise: float = Field(ge=0, le=1)
    gray: float = Field(ge=0, le=1)


def degrade(images: Tensor, bank: Bank, seeds: Tensor, *numbers: int) -> Tensor:
    """One degraded copy of a batch: blur, resize, noise, resize back, each with its probability.

    Args:
        images: `B 3 h w` in [0, 1]; never changed in place.
        bank: the probabilities.
        seeds: `B`, the samples' seeds, from which their noise is drawn.
        numbers: seed of the run, step and index of the copy, from which whatever is drawn once for the batch is drawn.

    Returns:
        `B 3 h w`; in [0, 1] except for the overshoot of resizing back bicubically, as released.
    """
    once = generator(*numbers)
    degraded = images
    if _happens(bank.blur, once):
        degraded = _blur(degraded, once)
    resized = _happens(bank.resize, once)
    if resized:
        degraded = _resize(degraded, once)
    if _happens(bank.noise, once):
        degraded = _noise(degraded, bank.gray, once, sample_generators(seeds, numbers[-1]))
    if resized:
        degraded = _interpolate(degraded, images.shape[-2:], once)
    return degraded


def _happens(probability: float, once: torch.Generator) -> bool:
    return torch.rand((), generator=once).item() < probability


def _uniform(low: float, high: float, once: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=once).item()


def _pick(items: tuple[int, ...] | tuple[str, ...], once: torch.Generator) -> int | str:
    return items[int(torch.randint(len(items), (), generator=once))]


def _blur(images: Tensor, once: torch.Generator) -> Tensor:
    channels = images.shape[1]
    for axis in (-2, -1):
        side = int(_pick(_BLUR_SIDES, once))
        sigma = _uniform(*_BLUR_SIGMA, once)
        offsets = torch.arange(side, device=images.device, dtype=images.dtype) - side // 2
        kernel = torch.exp(-offsets.pow(2) / (2 * sigma**2))
        shape = (1, 1, side, 1) if axis == -2 else (1, 1, 1, side)
        weight = (kernel / kernel.sum()).view(shape).expand(channels, 1, *shape[2:])
        edge = side // 2
        padding = (0, 0, edge, edge) if axis == -2 else (edge, edge, 0, 0)
        images = F.conv2d(F.pad(images, padding, mode="reflect"), weight, groups=channels)
    return images


def _resize(images: Tensor, once: torch.Generator) -> Tensor:
    factor = _uniform(*(_ENLARGED if _happens(_ENLARGE_PROBABILITY, once) else _REDUCED), once)
    height, width = images.shape[-2:]
    return _interpolate(images, (math.floor(height * factor), math.floor(width * factor)), once)


def _interpolate(images: Tensor, size: tuple[int, ...], once: torch.Generator) -> Tensor:
    mode = str(_pick(_MODES, once))
    return F.interpolate(images, size=tuple(size), mode=mode, align_corners=None if mode == "area" else False)


def _noise(images: Tensor, gray: float, once: torch.Generator, samples: list[torch.Generator]) -> Tensor:
    channels, height, width = images.shape[1:]
    # The release draws one gray field for the whole batch and scales it by each sample's strength.
    field = torch.randn(1, height, width, generator=once).expand(channels, height, width)
    noises = []
    for sample in samples:
        sigma = _uniform(*_NOISE_SIGMA, sample) / 255
        noise = field if _happens(gray, sample) else torch.randn(channels, height, width, generator=sample)
        noises.append(sigma * noise)
    return (images + torch.stack(noises).to(images)).clamp(0, 1)
