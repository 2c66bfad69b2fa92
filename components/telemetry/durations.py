"""What each stage took when it last ran here: it differs in every run, so DVC must not hash it."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time
from typing import Any

import psutil

from components.run.files import write_json
from components.telemetry.memory import PeakMemory

DURATIONS = Path(".cache/durations")

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[\w@.+-]+")
_trained: list[tuple[int, float]] = []


def count_training(steps: int, seconds: float) -> None:
    """Add training steps that this process has done: the part of a stage's time that grows with their number."""
    _trained.append((steps, seconds))


@contextmanager
def timed() -> Iterator[None]:
    """Record what the block takes, if it succeeds and DVC runs it (which sets `DVC_STAGE` to the stage).

    That is seconds since the process was started (importing torch takes some), the most memory of its processes, and
    steps and seconds of training. Of several processes only the first records, for all on its machine. For training
    resumed from a checkpoint, only the last part counts.
    """
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if os.environ.get("RANK", "0") != "0" or not _NAME.fullmatch(stage):
        yield
        return
    began = monotonic() - max(0.0, time() - psutil.Process().create_time())
    _trained.clear()
    with PeakMemory() as memory:
        yield
    found: dict[str, Any] = {"seconds": round(monotonic() - began, 1)}
    found["memory_bytes"] = memory.most * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if _trained:
        steps, seconds = map(sum, zip(*_trained, strict=True))
        found["training"] = {"steps": steps, "seconds": round(seconds, 1)}
    try:
        write_json(DURATIONS / f"{stage}.json", found)
    except OSError as error:  # what the step wrote is complete
        _LOG.warning("%s: %s. The page will not say how long %s took.", DURATIONS, error.strerror, stage)
