"""How long each stage took when it last ran here: it differs in every run, so DVC must not hash it."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from components.run.files import write_json

DURATIONS = Path(".cache/durations")

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[\w@.+-]+")


@contextmanager
def timed() -> Iterator[None]:
    """Record how many seconds the block takes, if it succeeds and DVC runs it (which sets `DVC_STAGE` to the stage).

    Of several processes only the first records. For training resumed from a checkpoint, only the last part counts.
    """
    began = monotonic()
    yield
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if os.environ.get("RANK", "0") != "0" or not _NAME.fullmatch(stage):
        return
    try:
        write_json(DURATIONS / f"{stage}.json", {"seconds": round(monotonic() - began, 1)})
    except OSError as error:  # what the step wrote is complete
        _LOG.warning("%s: %s. The page will not say how long %s took.", DURATIONS, error.strerror, stage)
