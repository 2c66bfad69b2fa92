"""What a kill of DVC leaves half-written, on which every later run of DVC would fail: mended, or named with the way."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.messages import PipelineError, say

_LOCK = "dvc.lock"


def mend_remains(folder: Path, cache: Path) -> None:
    """Remove what is half-written and holds nothing: DVC's list of running stages, and records of runs not yet made.

    Args:
        folder: of the project.
        cache: DVC's cache.

    Raises:
        PipelineError: DVC is just writing there.
    """
    own = folder / ".dvc" / "tmp"
    for file in own.glob("**/rwlock"):
        _mend(file, file.with_name("rwlock.lock"), _lists_no_stages, Path.unlink)
    for run in cache.glob("runs/*/*"):
        _mend(run, own / "lock", _is_empty, Path.rmdir)


def lock_fault(folder: Path) -> Iterator[str]:
    """A dvc.lock that DVC would refuse."""
    file = folder / _LOCK
    if not file.is_file() or _is_whole(file):
        return
    words = ["git", "-C", str(folder), "cat-file", "-e", f"HEAD:./{_LOCK}"]
    committed = subprocess.run(words, capture_output=True, check=False).returncode == 0
    way = f"`git checkout HEAD {_LOCK}` brings the committed one back" if committed else f"remove it: `rm {_LOCK}`"
    yield (
        f"{file}: not whole, as a kill of DVC or a merge leaves it; {way}. Nothing is lost: what was run since then "
        "comes from DVC's run cache, without running again."
    )


def _mend(path: Path, guard: Path, is_broken: Callable[[Path], bool], remove: Callable[[Path], None]) -> None:
    """Remove `path` if it is broken, while nobody else holds DVC's lock `guard`."""
    if not is_broken(path):
        return
    from dvc.lock import LockError, make_lock  # noqa: PLC0415 -- takes a second

    try:
        with make_lock(str(guard)):
            if is_broken(path):
                remove(path)
                say(f"{path}: removed; a kill of DVC left it half-written")
    except LockError:
        raise PipelineError(f"{path}: DVC runs here, and writes it now. Try again once it has ended.") from None


def _lists_no_stages(file: Path) -> bool:
    """Whether a list of running stages, by path and process, is not what DVC writes."""
    try:
        found = json.loads(file.read_bytes())
        holders = [*found.get("write", {}).values(), *(one for some in found.get("read", {}).values() for one in some)]
        return not found.keys() <= {"read", "write"} or not all(isinstance(one["pid"], int) for one in holders)
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, AttributeError, KeyError):
        return True


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _is_whole(file: Path) -> bool:
    """Whether every stage of a dvc.lock has its command, and every file its path and its hash."""
    try:
        found = yaml.load(file.read_bytes(), yaml.CSafeLoader)  # as safe as safe_load, and ten times as fast
        return found["schema"] == "2.0" and all(map(_is_entry, (found.get("stages") or {}).values()))
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return False


def _is_entry(entry: dict[str, Any]) -> bool:
    files = [one for kind in ("deps", "outs") if kind in entry for one in entry[kind]]
    hashed = all(isinstance(one["path"], str) and isinstance(one.get("md5", ""), str) for one in files)
    return isinstance(entry["cmd"], str | list) and hashed and all(map(dict, (entry.get("params") or {}).values()))
