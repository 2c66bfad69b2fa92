"""SIGTERM, which Kubernetes sends to a pod that must stop: the stage ends first, then its folder is deleted."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.messages import say

_GRACE = 20  # seconds that a stage has to end; Kubernetes kills the pod after 30


@contextmanager
def stopping(folder: Path | None) -> Iterator[None]:
    """Within it, SIGTERM ends every process below this one, removes `folder`, and exits with 143."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        import psutil  # noqa: PLC0415 -- only a stopped pod needs it

        say("stopped by SIGTERM: the stage is stopped too")
        running = psutil.Process().children(recursive=True)
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(running, timeout=_GRACE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + number)  # not an exception: threads that wait for a server would delay it

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
