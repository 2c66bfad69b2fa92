import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from tests.containers.images import PROJECT, build_image


@pytest.fixture(scope="session")
def image(engine):
    """The tag of the working tree's image, built anew unless the engine's cache has it."""
    tag = "restoration-distillation:local"
    # Where several workers ask for it, the second finds what the first has built.
    with Path(tempfile.gettempdir(), f"restoration-distillation-image-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_image(PROJECT, tag)
    return tag
