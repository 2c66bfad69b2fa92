"""Run a function in a process of its own, whose memory is limited: what it raised, and what it took."""

import resource
import time
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from components.telemetry.memory import own_peak

ROOM = 2 << 30
LONGEST = 100


class Ended(NamedTuple):
    """The error, how many seconds it took, and how many bytes more than before were in memory at a time."""

    error: BaseException | None
    seconds: float
    memory: int


def bounded(act, *arguments) -> Ended:
    """Call `act` in a fork of this process, which may take 2 GiB more than this one has, and 100 seconds."""
    receiver, sender = get_context("fork").Pipe(duplex=False)
    child = get_context("fork").Process(target=_measure, args=(sender, act, arguments))
    child.start()
    sender.close()
    try:
        if receiver.poll(LONGEST):
            return Ended(*receiver.recv())
        return Ended(TimeoutError(f"not done after {LONGEST} seconds"), LONGEST, 0)
    finally:
        child.kill()
        child.join()


def _measure(sender, act, arguments) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.RLIM_INFINITY))
    before, began, error = own_peak(), time.monotonic(), None
    try:
        act(*arguments)
    except Exception as raised:  # noqa: BLE001 - whatever it is, the test compares it
        error = raised
    sender.send((error, time.monotonic() - began, own_peak() - before))
