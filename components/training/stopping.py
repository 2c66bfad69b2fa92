"""Ctrl-C, and SIGTERM, which a pod gets seconds before it is killed: a training keeps its state before it stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from accelerate import Accelerator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether one of the processes was asked to stop.

    Args:
        accelerator: with several processes, all of them stop at the same row of the history.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.number: int | None = None

    def note(self, number: int, _: FrameType | None) -> None:
        """Take the signal; alone, a second Ctrl-C stops at once."""
        if self.number == number == signal.SIGINT and self._accelerator.num_processes == 1:
            raise KeyboardInterrupt
        self.number = number

    def wanted(self, row: bool) -> bool:
        """Whether to stop after this step; at a row of the history (`row`) all processes ask each other."""
        if self._accelerator.num_processes == 1:
            return self.number is not None
        if not row:
            return False
        asked = torch.tensor(float(self.number is not None), device=self._accelerator.device)
        if wanted := bool(self._accelerator.reduce(asked, reduction="sum") > 0):
            self.number = self.number or signal.SIGTERM  # who was not asked must not take the result for a whole one
        return wanted


@contextmanager
def stopping(accelerator: Accelerator) -> Iterator[Stop]:
    """Within it, Ctrl-C and SIGTERM are only noted, unless they are ignored; they take effect at its end."""
    stop = Stop(accelerator)
    noted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, stop.note) for number in noted}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if stop.number is not None:
        signal.raise_signal(stop.number)
        raise KeyboardInterrupt  # whoever handles the signal, half a training is no result
