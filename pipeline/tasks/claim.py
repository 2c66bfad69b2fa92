"""One task at a time makes a run's result where tasks share `$CHECKPOINT_DIR`; others wait for it, and take it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

from pipeline.messages import PipelineError, say

SECONDS = 30.0
"""How long an owner that died on another machine blocks; one that died on this machine does not."""


@contextmanager
def claimed(key: str | None) -> Iterator[bool]:
    """Claim a run, and yield whether another task had it before, so that its result may be there now.

    The owner shows every few seconds that it is alive, by a file: locks of the system don't hold on every file system
    that pods share. At the end, unless by an error, the run's checkpoints are removed.

    Args:
        key: of the run (`reproduce.run_key`); None claims nothing, nor does an unset `$CHECKPOINT_DIR`.

    Raises:
        PipelineError: nothing can be written there.
    """
    place = os.environ.get("CHECKPOINT_DIR")
    if not (place and key):
        yield False
        return
    checkpoints = Path(place).absolute() / key
    lease = SoftFileLease(f"{checkpoints}.owner", lease_duration=SECONDS, poll_interval=0.5)
    try:
        checkpoints.parent.mkdir(parents=True, exist_ok=True)
        try:
            lease.acquire(timeout=0)
            waited = False
        except Timeout:
            say(f"another task runs the same, as {lease.lock_file} says: waiting for its result")
            lease.acquire()
            waited = True
    except OSError as error:
        raise PipelineError(f"CHECKPOINT_DIR: {error.filename}: {error.strerror}.") from None
    try:
        yield waited
        if lease.compromise is None:  # else another task has it
            shutil.rmtree(checkpoints, ignore_errors=True)
    finally:
        lease.release()
