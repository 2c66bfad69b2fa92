"""What mixed precision must not touch."""

import contextlib

import torch
from torch import Tensor


def at_least_single(values: Tensor) -> Tensor:
    """float32 where mixed precision made them coarser, else as they are."""
    return values if values.dtype == torch.float64 else values.float()


def without_autocast(values: Tensor) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on the device of `values`; on tensors without data there is none to leave."""
    device = values.device.type
    return contextlib.nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
