"""What a run is: its identity, the run that it is part of, and the tags that lead back to source, data and cluster."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.dependencies.code import PACKAGE, ROOT, TABLES, entries, files_of, modules_of
from components.run.params import Choice
from components.telemetry.hashes import LOCK_FILE, locked_inputs, md5_of

_GIT_SECONDS = 2.0
_LONGEST_PARAM = 2000

# Tag and the environment variable that it is read from.
_FROM_ENVIRONMENT = {
    "dvc.exp": "DVC_EXP_NAME",
    "dvc.exp.baseline": "DVC_EXP_BASELINE_REV",
    "kfp.run_id": "KFP_RUN_ID",
    "kfp.task": "KFP_POD_NAME",
    "image.digest": "IMAGE_DIGEST",
    "git.rev": "GIT_REVISION",
}


@dataclass(frozen=True)
class Context:
    """One stage's run.

    Attributes:
        stage: its name in dvc.yaml, or that of the step.
        identity: 64 hex digits, a hash of all that its result depends on: training resumed from a checkpoint has that
            of the killed run.
        parent: key of the pipeline's run that it is part of.
        parent_name: the same, readable for people.
        injected: id of a run that something else began for this stage or for its parent; '' = none.
        tags: for MLflow.
        params: for MLflow, by dotted names.
    """

    stage: str
    identity: str
    parent: str
    parent_name: str
    injected: str
    tags: dict[str, str]
    params: dict[str, str]


def read_context(step: str, words: Sequence[str], values: Mapping[str, Any]) -> Context:
    """The context of a step that is about to run in the working directory.

    Args:
        step: name of the step.
        words: its command line.
        values: its typed arguments.
    """
    stage = os.environ.get("DVC_STAGE", step).rpartition(":")[2]
    tags = {"dvc.stage": stage, "step": step, **_git()}
    for tag, name in _FROM_ENVIRONMENT.items():
        if value := os.environ.get(name):
            tags[tag] = value
    lock = Path(LOCK_FILE)
    if lock.is_file():
        tags["dvc.lock.md5"] = md5_of(lock)
    tags["dvc.stage_hash"] = identity = _identity(step, words, values, stage)
    parent, name = _parent(tags)
    return Context(stage, identity, parent, name, os.environ.get("MLFLOW_RUN_ID", ""), tags, params_of(values))


def _parent(tags: Mapping[str, str]) -> tuple[str, str]:
    """Key and name of the pipeline's run: a Kubeflow run, otherwise a DVC experiment, otherwise a revision."""
    if run := tags.get("kfp.run_id"):
        return f"kfp:{run}", f"kubeflow {run[:8]}"
    if experiment := tags.get("dvc.exp"):
        return f"dvc:{experiment}@{tags.get('dvc.exp.baseline', '')}", experiment
    revision = tags.get("git.rev", "")
    return f"git:{revision}", f"revision {revision[:7]}" if revision else "no revision"


def _git() -> dict[str, str]:
    """Revision and whether files differ from it; nothing where git does not answer."""
    command = ("git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = told.splitlines()
    revision = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    dirty = any(not line.startswith("#") for line in lines)
    return {"git.rev": revision, "git.dirty": str(dirty).lower()} if revision != "(initial)" else {}


def _identity(step: str, words: Sequence[str], values: Mapping[str, Any], stage: str) -> str:
    """SHA-256 of the command, the params, the inputs as in dvc.lock, and the code, as for a checkpoint."""
    code = {file: md5_of(ROOT / file) for file in files_of(modules_of([f"{PACKAGE}.{step}"], _entries_in(values)))}
    files = [value for value in values.values() if isinstance(value, Path)]
    known = {
        "step": step,
        "words": list(words),
        "params": params_of(values, longest=None),
        "inputs": locked_inputs(Path(LOCK_FILE), files, stage),
        "code": code,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _entries_in(values: Any) -> set[str]:
    """Modules of the tables' entries that the arguments name."""
    if isinstance(values, Choice):
        return {found[values.name] for found in map(entries, TABLES) if values.name in found}
    inside = vars(values) if isinstance(values, BaseModel) else values
    return set().union(*map(_entries_in, inside.values())) if isinstance(inside, Mapping) else set()


def params_of(values: Mapping[str, Any], longest: int | None = _LONGEST_PARAM) -> dict[str, str]:
    """The step's arguments, except files, as texts by dotted names: `student.training.steps`."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(value, Path | None):
            _flatten(name, _plain(value), found)
    return {name: value[:longest] for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value


def _flatten(name: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            _flatten(f"{name}.{key}", one, found)
    elif isinstance(value, list | tuple):
        found[name] = json.dumps(value, ensure_ascii=False, default=str)
    else:
        found[name] = str(value)
