"""Checkpoints: a killed training goes on where it stood, to the same final bytes."""

import hashlib
import json
import logging
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from components.run.files import sha256_of, written_whole

CHECKPOINTS = Path(".cache/checkpoints")
"""Outside of DVC's outputs, which it deletes before a stage runs."""

_SOURCE = Path(__file__).parents[1]
_LOG = logging.getLogger(__name__)


def checkpoint_path(stage: str, values: dict[str, BaseModel], files: list[Path]) -> Path:
    """Where a training keeps its checkpoint: a name made from everything its result depends on.

    So a run never goes on from the checkpoint of another one: of other params, other input files, another version
    of the code or of torch.

    Args:
        stage: what is trained, for people who look into the folder.
        values: the checked params.
        files: the input files.
    """
    code = hashlib.sha256()
    for path in sorted(_SOURCE.rglob("*.py")):
        code.update(path.read_bytes())
    identity = {
        "values": {name: value.model_dump(mode="json") for name, value in values.items()},
        "files": [sha256_of(path) for path in files],
        "code": code.hexdigest(),
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return CHECKPOINTS / f"{stage}-{digest[:16]}.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    # By way of memory: torch's own writer hides what the system says, that the disk is full for instance.
    content = BytesIO()
    torch.save(state, content)
    with written_whole(path) as partial:
        partial.write_bytes(content.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint onto the CPU; None where there is none, or only a broken one: training anew mends that."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (EOFError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        _LOG.warning("%s: not a readable checkpoint (%s); training from the start.", path, type(error).__name__)
        return None
    return state
