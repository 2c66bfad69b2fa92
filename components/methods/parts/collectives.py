"""Reductions and rows of the whole batch, over all processes that share it; one process has it whole already."""

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor


def all_reduce_mean(values: Tensor) -> Tensor:
    """Mean over all elements and, under distribution, over all processes, with gradient.

    A loss that is not linear in means (a ratio of two) must take them over the whole batch, or it would change with
    the number of processes.
    """
    mean = values.mean()
    if _is_distributed():
        total: Tensor = torch.distributed.nn.functional.all_reduce(mean)  # type: ignore[no-untyped-call]
        return total / torch.distributed.get_world_size()
    return mean


def all_gather_rows(values: Tensor) -> Tensor:
    """Rows of the whole batch: under distribution those of all processes in the batch's order, without gradient.

    State that a method keeps of a batch must be made of these, or it would differ between processes.
    """
    rows = values.detach().contiguous()
    if not _is_distributed():
        return rows
    parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, rows)
    return torch.cat(parts)


def all_gather_with_gradient(values: Tensor) -> Tensor:
    """Rows of the whole batch, as `all_gather_rows` gives them, but with gradient to all of them.

    A loss that relates samples with one another must be made of these.
    """
    if not _is_distributed():
        return values
    return torch.cat(torch.distributed.nn.functional.all_gather(values.contiguous()))  # type: ignore[no-untyped-call]


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
