"""Fragments of dvc.lock: each task passes on its stage's entry and those of the stages above it.

DVC always lays dvc.lock out in the same way, so entries are kept as the text that DVC wrote: the merged file is, byte
for byte, what `dvc repro` would have written, and reading takes no time.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from dvc.utils.serialize import ParseError, dumps_yaml, parse_yaml

from pipeline.messages import PipelineError

LOCK_FILE = "dvc.lock"

Entries = dict[str, str]
"""What dvc.lock says about each stage, as text, by the stage's name."""

_HEAD = "schema: '2.0'\nstages:\n"
_SEAL = "# sha256 of what follows: "
_ENTRY = re.compile(r"^  (?=\S)", re.MULTILINE)
_OTHER_SECTION = re.compile(r"^\S", re.MULTILINE)
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def read_lock(path: Path) -> Entries:
    """Read dvc.lock or a fragment of it; an absent file has no entries.

    Raises:
        PipelineError: the file is incomplete, or is not a dvc.lock.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: can't be read: {error}.") from None
    if not text.strip():
        return {}
    seal, _, sealed = text.partition("\n")
    if seal.startswith(_SEAL):
        text = sealed
        whole = seal == _SEAL + _digest(text)
    else:
        whole = _is_whole(text)
    entries = text.removeprefix(_HEAD)
    if not whole or entries == text or _OTHER_SECTION.search(entries):
        raise PipelineError(f"{path}: truncated or damaged: not a complete {LOCK_FILE} of stages only.")
    found = {}
    for entry in _ENTRY.split(entries)[1:]:
        name = entry.partition("\n")[0].rstrip().removesuffix(":")
        found[str(yaml.safe_load(name)) if name[0] in "'\"" else name] = f"  {entry}"
    return found


def _is_whole(text: str) -> bool:
    """Whether every stage has its command and the hash of every output."""
    try:
        data = parse_yaml(text, LOCK_FILE)
        stages = dict(data["stages"])
        return all(
            "cmd" in entry and all(_MD5.fullmatch(str(out.get("md5"))) for out in entry.get("outs", []))
            for entry in stages.values()
        )
    except (ParseError, KeyError, TypeError, AttributeError, ValueError):
        return False


def read_fragments(paths: Iterable[Path]) -> Entries:
    """Read and join the fragments of the upstream tasks.

    Raises:
        PipelineError: one is absent, empty or damaged, or two of them disagree about a stage.
    """
    found: Entries = {}
    source: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise PipelineError(f"--upstream {path}: no such file. The upstream task must succeed first.")
        entries = read_lock(path)
        if not entries:
            raise PipelineError(f"--upstream {path}: holds no stage: the upstream task did not write its lock.")
        for name, entry in entries.items():
            if found.setdefault(name, entry) != entry:
                raise PipelineError(
                    f"{source[name]} and {path} disagree about stage {name!r}: "
                    "they come from different runs, or two tasks ran it with different results."
                )
            source.setdefault(name, path)
    return found


def merge(base: Entries, found: Mapping[str, str], order: Sequence[str]) -> Entries:
    """Lay newer entries over those of a dvc.lock, in the order in which `dvc repro` leaves them.

    DVC updates an entry in place, appends new ones as it runs them, and keeps those of stages that no longer exist.

    Args:
        base: entries of the revision's dvc.lock.
        found: newer ones.
        order: names of the graph's stages, in the order in which DVC runs them.
    """
    return base | {name: found[name] for name in order if name in found}


def entry_of(name: str, values: Mapping[str, Any]) -> str:
    """An entry as DVC writes it, from its values."""
    return str(dumps_yaml({"schema": "2.0", "stages": {name: dict(values)}})).removeprefix(_HEAD)


def lock_text(entries: Mapping[str, str]) -> str:
    """dvc.lock with these entries."""
    return _HEAD + "".join(entries.values())


def write_lock(path: Path, entries: Mapping[str, str]) -> None:
    """Write dvc.lock, or remove it if there are no entries, because DVC accepts no empty one."""
    if entries:
        path.write_text(lock_text(entries), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def fragment_text(entries: Mapping[str, str]) -> str:
    """A fragment with these entries, sealed, so that a truncated one can't pass for a complete one."""
    text = lock_text(entries)
    return f"{_SEAL}{_digest(text)}\n{text}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
