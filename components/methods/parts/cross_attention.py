"""SKD's attention of the teacher's features to the student's, and its distance in the space of a Gaussian kernel."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_EPSILON = 1e-12


def cross_channel(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """The student's channels, mixed as the teacher's channels attend to them: `softmax(T_f S_f^T / lambda) S_f`.

    Args:
        student: `B C N`, N positions.
        teacher: `B C N`; its channels are the queries.
        temperature: factor of lambda.

    Returns:
        `B C N`; each channel is a convex combination of the student's.
    """
    return _attend(teacher, student, temperature)


def cross_spatial(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """The student's positions, mixed as the teacher's positions attend to them: `S_f softmax(T_f^T S_f / lambda)`.

    The softmax runs over the student's positions, so that each position of the result is a convex combination of them.

    Args:
        student: `B C N`, N positions.
        teacher: `B C N`; its positions are the queries.
        temperature: factor of lambda.

    Returns:
        `B C N`.
    """
    return _attend(teacher.transpose(1, 2), student.transpose(1, 2), temperature).transpose(1, 2)


def _attend(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Softmax of `sqrt(d) cos(query, key) / temperature` over the keys, times the keys without normalisation.

    As in scaled dot-product attention, lambda is sqrt(d), for vectors of d entries whose root mean square is 1. With
    features that were not normalised, up to 255, one weight would be 1 and all others 0.
    """
    scale = math.sqrt(keys.shape[-1]) / temperature
    # One head, contiguous: for such tensors torch has kernels that never hold all weights and are twice as fast.
    values = keys.contiguous()
    query, key = (F.normalize(rows, dim=-1)[:, None] for rows in (queries.contiguous(), values))
    return F.scaled_dot_product_attention(query, key, values[:, None], scale=scale)[:, 0]


def kernel_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over samples of `GK = 1 - exp(-d^2 / (2 sigma^2))`, with a bandwidth sigma per sample (ours).

    d^2 is the mean squared difference at corresponding positions; sigma^2 is that mean over all pairs of a student's
    and a teacher's position, whether they correspond or not, and passes no gradient. So `d^2 <= 2 sigma^2` for any
    features, and the gradient never falls below 1/e of that of `d^2 / (2 sigma^2)`. A fixed sigma, or the usual median
    over the pairs (0 where most of a crop is flat), does saturate.

    Args:
        student: `B C N`, N positions.
        teacher: `B C N`.
    """
    squared = (student - teacher).square().mean((1, 2))
    with torch.no_grad():
        # The mean over all pairs of |s_p - t_q|^2, computed without forming the pairs.
        spread = student.var(2, correction=0) + teacher.var(2, correction=0)
        bandwidth = (spread + (student.mean(2) - teacher.mean(2)).square()).mean(1)
    return -torch.expm1(-squared / (2 * bandwidth).clamp_min(_EPSILON)).mean()


def pooled(features: Tensor, tokens: int) -> Tensor:
    """Features averaged over squares, the smallest ones that leave at most `tokens` positions.

    Args:
        features: `B C h w`; returned unchanged if they have at most `tokens` positions.
        tokens: at least 1.

    Returns:
        `B C ceil(h/k) ceil(w/k)`; a square that extends past the border averages only the part inside.
    """
    height, width = features.shape[2:]
    side = 1
    while math.ceil(height / side) * math.ceil(width / side) > tokens:
        side += 1
    return features if side == 1 else F.avg_pool2d(features, side, ceil_mode=True)
