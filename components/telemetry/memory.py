"""The most memory that a process and those that it starts take together."""

import contextlib
import re
import resource
import sys
import threading
from pathlib import Path
from typing import Self

import psutil

SECONDS = 2.0
_STATUS = Path("/proc/self/status")
_UNIT = 1 if sys.platform == "darwin" else 1024  # of what getrusage says


def own_peak() -> int:
    """The most bytes that this process had in memory at a time, as the system counts them.

    Linux tells that in its process table; getrusage there gives the peak of the process that started this one, if that
    was higher.
    """
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


class PeakMemory(threading.Thread):
    """Measures while its block runs, in a thread that sleeps otherwise.

    Attributes:
        most: bytes, once the block has ended: this process's own peak, or more, if at one of the measurements this
            process and its children had more together. Pages that children share count once.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__(name="memory", daemon=True)
        self.most = 0
        self._seconds, self._over, self._process = seconds, threading.Event(), psutil.Process()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self.most = max(self.most, own_peak())

    def run(self) -> None:
        """Measure until the block ends."""
        while not self._over.wait(self._seconds):
            found = int(self._process.memory_info().rss)
            for child in self._process.children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                    found += int(child.memory_full_info().uss)
            self.most = max(self.most, found)
