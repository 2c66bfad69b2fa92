"""Tensors and weights by formula, so that other programs can be given the same ones."""

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def closed_form(name: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> NDArray[np.float64]:
    """Fractions of index**2 times the golden ratio: the same bits on every machine."""
    index = np.arange(1, math.prod(shape) + 1, dtype=np.float64)
    fraction = (index * index * 0.6180339887498949 + zlib.crc32(name.encode()) / 2**32) % 1.0
    return (low + (high - low) * fraction).reshape(shape)


def parameter(name: str, shape: tuple[int, ...]) -> Tensor:
    """Weight of a network under its name, float64: small biases, factors around 1, variance of the fan-in."""
    values = closed_form(name, shape)
    if name.endswith("embedding.weight"):
        return torch.from_numpy(0.5 * values)
    if name.endswith("bias"):
        return torch.from_numpy(0.1 * values)
    return torch.from_numpy(1 + 0.3 * values if len(shape) == 1 else math.sqrt(3 / math.prod(shape[1:])) * values)


def fill(network: torch.nn.Module, factor: float = 1.0) -> None:
    """Give a network its closed-form weights times `factor`, in its own precision."""
    state = network.state_dict()
    network.load_state_dict({key: factor * parameter(key, tuple(value.shape)) for key, value in state.items()})
