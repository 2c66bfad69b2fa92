"""The L1 distance between two relations over all pairs of positions, without ever holding a whole matrix."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Relation = Callable[[Tensor, Tensor], Tensor]
"""Symmetric; maps `b C n` and `b C m` to `b n m`, where each entry depends only on its own two positions."""


class _Limits(NamedTuple):
    """Largest side of a block, and largest number of entries at once over all samples processed together."""

    side: int
    entries: int


_ON_CPU = _Limits(512, 2**19)  # 2 MB, which fits its caches
_ELSEWHERE = _Limits(1024, 2**24)  # 64 MB: few blocks, each large enough to keep the device busy


def pairwise_l1(student: Tensor, teacher: Tensor, relation: Relation) -> Tensor:
    """Mean over samples and pairs of positions of `|relation(student) - relation(teacher)|`.

    Equal to the plain expression, but only blocks of its `n n` matrices exist at a time: each contributes to the loss
    and, in the same pass, to the gradient, so that what is saved for the backward pass is only as large as the
    features. The blocks below the diagonal mirror those above it and are not computed, so it is also faster.

    Args:
        student: `B C n`; the gradient flows to these only.
        teacher: `B D n`, of any width.
        relation: the relation that is compared, applied to both.
    """
    loss: Tensor = _PairwiseL1.apply(student, teacher.detach(), relation)  # type: ignore[no-untyped-call]
    return loss


class _PairwiseL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, relation: Relation) -> Tensor:
        samples, _, positions = student.shape
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(student) if needs_gradient else None
        total = student.new_zeros(())
        for group, rows, columns in _blocks(student):
            on_diagonal = rows == columns
            with torch.set_grad_enabled(needs_gradient):
                ours = student[group, :, rows].detach().requires_grad_(needs_gradient)
                others = ours if on_diagonal else student[group, :, columns].detach().requires_grad_(needs_gradient)
                theirs = relation(teacher[group, :, rows], teacher[group, :, columns])
                part = (relation(ours, others) - theirs).abs().sum()
                if not on_diagonal:
                    part = 2 * part  # and its mirror image
            total += part.detach()
            if gradient is not None:
                found = torch.autograd.grad(part, [ours] if on_diagonal else [ours, others])
                for where, value in zip((rows, columns), found, strict=False):
                    gradient[group, :, where] += value
        scale = 1 / (samples * positions**2)
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(scale))
        return total * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None


def _blocks(features: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Samples, rows and columns of the blocks on and above the diagonal."""
    samples, _, positions = features.shape
    limits = _ON_CPU if features.device.type == "cpu" else _ELSEWHERE
    side = math.ceil(positions / math.ceil(positions / limits.side))
    group = max(1, limits.entries // side**2)
    for first in range(0, samples, group):
        for row in range(0, positions, side):
            for column in range(row, positions, side):
                yield slice(first, first + group), slice(row, row + side), slice(column, column + side)
