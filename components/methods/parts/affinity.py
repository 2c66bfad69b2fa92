"""The feature comparisons of FAKD's repository (`feature_transformation.py`).

Each function computes a relation from the student's and from the teacher's features at one tap (`B C h w`), and returns
the mean absolute difference of the two relations. The small constants are the released ones.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from components.methods.parts.collectives import all_gather_with_gradient
from components.methods.parts.pairwise import pairwise_l1

_EPSILON = 1e-8
_ATTENTION_EPSILON = 1e-6

Pool = Literal["max", "average"]


def spatial(student: Tensor, teacher: Tensor) -> Tensor:
    """SA: compares the cosine similarities of all pairs of positions, `B h*w h*w` (the paper's equations 2 and 3)."""
    return pairwise_l1(_unit_positions(student), _unit_positions(teacher), _products)


def channel(student: Tensor, teacher: Tensor) -> Tensor:
    """CA: compares the cosine similarities of all pairs of channels, `B C C`."""
    return F.l1_loss(_channel_affinity(student), _channel_affinity(teacher))


def batch(student: Tensor, teacher: Tensor) -> Tensor:
    """IA: compares the products of all pairs of samples of the whole batch, `B B`, each row divided by its norm."""
    return F.l1_loss(
        _sample_affinity(all_gather_with_gradient(student)), _sample_affinity(all_gather_with_gradient(teacher))
    )


def fsp(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """FSP: compares the products of the channels of two taps, averaged over positions, `B C C'`."""
    return F.l1_loss(_flow(*student), _flow(*teacher))


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """AT: compares the sums of squares over channels, divided by their norm over positions, `B h w`."""
    return F.l1_loss(_attention(student), _attention(teacher))


def mmd(student: Tensor, teacher: Tensor) -> Tensor:
    """MMD: compares `|m_p - m_q|` for all pairs of positions p and q, `B h*w h*w`; m is the mean over channels."""
    ours, theirs = (features.flatten(2).mean(1, keepdim=True) for features in (student, teacher))
    return pairwise_l1(ours, theirs, _distances)


def rbf(student: Tensor, teacher: Tensor, order: int, gamma: float) -> Tensor:
    """RBF: compares `exp(-gamma |a - b|^2)`, where a and b are the unit feature vectors of two positions.

    This equals `exp(-2 gamma) exp(2 gamma a.b)`; the second factor is expanded into a Taylor series up to `order`.
    """
    factors = [math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power) for power in range(order + 1)]

    def series(one: Tensor, other: Tensor) -> Tensor:
        products = _products(one, other)
        total = torch.full_like(products, factors[-1])
        for factor in reversed(factors[:-1]):
            total = total * products + factor
        return total

    ours, theirs = (F.normalize(features.flatten(2), dim=1) for features in (student, teacher))
    return pairwise_l1(ours, theirs, series)


def pooled(features: Tensor, size: int, kind: Pool) -> Tensor:
    """Pool non-overlapping windows of `size` by `size`: `B C h w` -> `B C ceil(h/size) ceil(w/size)`."""
    if kind == "max":
        return F.max_pool2d(features, size, size, ceil_mode=True)
    return F.avg_pool2d(features, size, size, ceil_mode=True)


def _products(one: Tensor, other: Tensor) -> Tensor:
    return torch.bmm(one.transpose(1, 2), other)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    return (one.transpose(1, 2) - other).abs()


def _unit_positions(features: Tensor) -> Tensor:
    return _over_norm(features.flatten(2), 1, _EPSILON)


def _channel_affinity(features: Tensor) -> Tensor:
    rows = _over_norm(features.flatten(2), 2, _EPSILON)
    return torch.bmm(rows, rows.transpose(1, 2))


def _sample_affinity(features: Tensor) -> Tensor:
    rows = features.flatten(1)
    products = rows @ rows.T
    return _over_norm(products, 1, 0)


def _flow(first: Tensor, second: Tensor) -> Tensor:
    if first.shape[2] > second.shape[2]:
        first = F.adaptive_avg_pool2d(first, (second.shape[2], second.shape[3]))
    return torch.bmm(first.flatten(2), second.flatten(2).transpose(1, 2)) / first.shape[2:].numel()


def _attention(features: Tensor) -> Tensor:
    energies = features.pow(2).sum(1).flatten(1)
    return _over_norm(energies, 1, _ATTENTION_EPSILON)


def _over_norm(values: Tensor, dim: int, epsilon: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, dim=dim, keepdim=True)
    return values / (norms + epsilon)
