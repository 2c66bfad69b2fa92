"""Checkpoints: a killed training resumes where it stopped, and ends with the same bytes."""

import hashlib
import json
import logging
import pickle
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from components.dependencies.code import ROOT, files_of
from components.run.files import sha256_of, written_whole

_LOG = logging.getLogger(__name__)
_DIGITS = 16
_SHOWN = 8

Identity = Mapping[str, str]
"""Everything that the result of a training depends on, by name: `params recipe.steps`, `code components/...`."""
STEPS = ".steps"
"""How the names of a training's number of steps end."""


def identity_of(values: Mapping[str, BaseModel], files: Iterable[Path], modules: Iterable[str]) -> dict[str, str]:
    """Everything that a training depends on: params, input files, the code that it runs, and torch.

    Args:
        values: the checked params.
        files: the input files.
        modules: the code, as dotted names.
    """
    found = {"torch": str(torch.__version__)}
    for name, value in values.items():
        found |= {f"params {key}": text for key, text in _flat(name, value.model_dump(mode="json"))}
    found |= {f"file {path}": sha256_of(path) for path in files}
    return found | {f"code {file}": sha256_of(ROOT / file) for file in files_of(modules)}


def checkpoint_path(folder: Path, name: str, identity: Identity) -> Path:
    """Where a training keeps its checkpoint: a file named after it and everything that its result depends on.

    So a run never resumes from a checkpoint made with other params, input files, code or another torch. Where the
    schedule allows it, the number of steps is left out: a run of more steps goes on from one of fewer.

    Args:
        folder: of all checkpoints.
        name: of what is trained.
        identity: see `identity_of`.
    """
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()
    return folder / f"{name}-{digest[:_DIGITS]}.pt"


def tell_of_others(path: Path, name: str, identity: Identity) -> None:
    """Log which checkpoints of the same training are not used, why, and how to resume from one on purpose.

    Args:
        path: the training's own checkpoint; if it exists, no other is needed.
        name: of what is trained.
        identity: of this training.
    """
    if path.exists():
        return
    # Runs that share a place for checkpoints have a folder each.
    for other in sorted(path.parent.resolve().parent.glob(f"*/{name}-{'[0-9a-f]' * _DIGITS}.pt")):
        if state := load_checkpoint(other):
            found = state.get("identity", {})
            differing = [key for key in {**found, **identity} if found.get(key) != identity.get(key)]
            why = " (here every step depends on their number)" if any(key.endswith(STEPS) for key in differing) else ""
            more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
            _LOG.warning(
                "%s: a checkpoint of this training at step %s, not used because this has changed since: %s%s%s. "
                "To resume from it anyway, stop this run and `mv %s %s`.",
                other,
                state["step"],
                "; ".join(_change(key, found, identity) for key in differing[:_SHOWN]),
                more,
                why,
                other,
                path,
            )


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    # Through memory, because torch's own writer hides the system's errors, such as a full disk.
    content = BytesIO()
    torch.save(state, content)
    with written_whole(path) as partial:
        partial.write_bytes(content.getbuffer())


def load_checkpoint(path: Path, steps: int | None = None) -> dict[str, Any] | None:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file.
        steps: of the training that goes on from it; None if none does.

    Returns:
        None if there is none, it is broken, or it lies behind the last step, so that training starts afresh.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (EOFError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        _LOG.warning("%s: not a readable checkpoint (%s); training from the start.", path, type(error).__name__)
        return None
    if steps is not None and state["step"] > steps:
        _LOG.warning("%s: at step %s, and the training has %s; training from the start.", path, state["step"], steps)
        return None
    return state


def _change(key: str, before: Identity, now: Identity) -> str:
    """One difference, with both values if they are readable; hashes only say that something has changed."""
    if key.startswith("code ") and key not in now:
        return f"{key} (no longer run)"
    if key.startswith("code ") and key not in before:
        return f"{key} (newly run)"
    return f"{key} ({before.get(key)} -> {now.get(key)})" if key.startswith(("params ", "torch")) else key


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, one in value.items() for pair in _flat(f"{name}.{key}", one)]
    return [(name, json.dumps(value))]
