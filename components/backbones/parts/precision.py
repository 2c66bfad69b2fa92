"""What mixed precision must not touch."""

import contextlib

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32 where mixed precision made them coarser; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()


def full_precision(values: Tensor) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on the device of `values`; for a tensor without data (`meta`) it does nothing.

    It converts nothing: what autocast has already made coarser stays so, see `at_least_float32`.
    """
    device = values.device.type
    return contextlib.nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
