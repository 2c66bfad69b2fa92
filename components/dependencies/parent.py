"""A step ends with the DVC that runs it: otherwise it would go on, and later overwrite what a newer run has made."""

import os
import signal
import time
from contextlib import suppress
from threading import Thread

import psutil

STAGE = "DVC_STAGE"
"""Set by DVC for a stage's command, and so for all processes below it."""
_SECONDS = 0.5


def end_with_dvc() -> None:
    """Send SIGTERM to this process and those below it as soon as DVC no longer runs above it, as after `kill -9`.

    The kernel's own way (`PR_SET_PDEATHSIG`) knows the direct parent alone, on Linux alone; a shell or torchrun may
    stand between. A step that DVC does not run may outlive whoever started it.
    """
    if STAGE in os.environ:
        Thread(target=_watch, args=_link_to_dvc(), daemon=True).start()


def _link_to_dvc() -> tuple[psutil.Process, int]:
    """The uppermost process that DVC started, and DVC's own number."""
    below = psutil.Process()
    for above in below.parents():
        with suppress(psutil.AccessDenied):  # another user's is none of DVC's
            if STAGE in above.environ():
                below = above
                continue
        return below, above.pid
    return below, below.ppid()


def _watch(below: psutil.Process, dvc: int) -> None:
    with suppress(psutil.NoSuchProcess):
        while below.ppid() == dvc:
            time.sleep(_SECONDS)
    step = psutil.Process()
    # Nobody else would end a pool's workers; a training takes SIGTERM itself, and still needs its own.
    others = step.children(recursive=True) if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else []
    for process in (*others, step):
        with suppress(psutil.NoSuchProcess):
            process.terminate()
