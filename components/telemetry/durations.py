"""How long each stage took when it last ran here: it differs in every run, so it is no output that DVC hashes."""

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
    """Note the seconds of what happens inside, where it ends well and DVC runs it (it names the stage in `DVC_STAGE`).

    Of several processes the first notes. Of a training that goes on from a checkpoint it is the last part.
    """
    began = monotonic()
    yield
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if os.environ.get("RANK", "0") != "0" or not _NAME.fullmatch(stage):
        return
    try:
        write_json(DURATIONS / f"{stage}.json", {"seconds": round(monotonic() - began, 1)})
    except OSError as error:  # what the step wrote is whole
        _LOG.warning("%s: %s. The page will not say how long %s took.", DURATIONS, error.strerror, stage)
