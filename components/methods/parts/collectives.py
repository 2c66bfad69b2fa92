"""Means and rows of the whole batch, over all processes that share it; a single process already has all of it."""

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor


def all_reduce_mean(values: Tensor) -> Tensor:
    """Mean over all elements and, in distributed training, over all processes, with gradient.

    A loss that is not linear in means (a ratio of two, say) must take them over the whole batch; otherwise it would
    depend on the number of processes.
    """
    mean = values.mean()
    if _is_distributed():
        total: Tensor = torch.distributed.nn.functional.all_reduce(mean)  # type: ignore[no-untyped-call]
        return total / torch.distributed.get_world_size()
    return mean


def all_gather_rows(values: Tensor) -> Tensor:
    """Rows of the whole batch, without gradient; in distributed training, those of all processes in the batch's order.

    State that a method keeps from a batch must be computed from these; otherwise it would differ between processes.
    """
    rows = values.detach().contiguous()
    if not _is_distributed():
        return rows
    parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, rows)
    return torch.cat(parts)


def all_gather_with_gradient(values: Tensor) -> Tensor:
    """Rows of the whole batch as from `all_gather_rows`, but with gradient to all of them.

    A loss that relates samples to each other must be computed from these.
    """
    if not _is_distributed():
        return values
    return torch.cat(torch.distributed.nn.functional.all_gather(values.contiguous()))  # type: ignore[no-untyped-call]


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
