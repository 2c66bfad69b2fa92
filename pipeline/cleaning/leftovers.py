"""Files that steps keep beside their outputs, of stages that dvc.yaml does not have any more."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.messages import PipelineError
from pipeline.project import CHECKPOINTS, leftovers

_DAY = 24 * 3600


@dataclass(frozen=True)
class Leftover:
    """A file that no stage needs.

    Attributes:
        kind: what it is, in one word.
        path: where it lies.
        size: in bytes.
        held: why it is kept all the same, or ''.
    """

    kind: str
    path: Path
    size: int
    held: str = ""


def leftover_files(commands: Mapping[str, str]) -> list[Leftover]:
    """Files of stages that are none of these, by their commands; those that may be in use are `held`."""
    found = [(kind, path) for kind, paths in leftovers(commands).items() for path in paths]
    opened = _open_files() if found else frozenset()
    return [Leftover(kind, path, path.stat().st_size, _held(path, opened)) for kind, path in found]


def named_checkpoints(paths: Iterable[Path]) -> list[Leftover]:
    """Checkpoints that a person names, whatever their age.

    Raises:
        PipelineError: a file is not there, or is no checkpoint.
    """
    found = list(paths)
    for path in found:
        if not path.is_file() or path.resolve().parent != CHECKPOINTS.resolve():
            raise PipelineError(f"--checkpoint {path}: no file of {CHECKPOINTS}.")
    return [Leftover("checkpoint", CHECKPOINTS / path.name, path.stat().st_size) for path in found]


def _held(path: Path, opened: frozenset[str]) -> str:
    if str(path.resolve()) in opened:
        return "a process has it open"
    if time.time() - path.stat().st_mtime < _DAY:
        return "it was changed within a day"
    return ""


def _open_files() -> frozenset[str]:
    """Files that processes of this user have open."""
    found: set[str] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found.update(file.path for file in process.open_files())
    return frozenset(found)
