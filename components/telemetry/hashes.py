"""DVC's hashes of outputs, computed without DVC: they tie a tracked run to the data that it made."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

LOCK_FILE = "dvc.lock"
_BLOCK = 1 << 20
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where available


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes as 32 hex digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def dvc_md5(path: Path) -> str:
    """An output's hash in dvc.lock: a file's MD5, or for a folder that of its list of files, and `.dir`."""
    if not path.is_dir():
        return md5_of(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listed = [{"md5": md5_of(path / name), "relpath": name} for name in names]
    text = json.dumps(listed, sort_keys=True).encode()
    return f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}.dir"


def size_of(path: Path, enough: int) -> int:
    """Bytes of a file or of a folder's files; counting stops at more than `enough`."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += Path(folder, name).stat().st_size
            if total > enough:
                return total
    return total


def locked_inputs(lock: Path, paths: Iterable[Path], stage: str) -> dict[str, str]:
    """Hashes in dvc.lock of other stages' outputs that equal, contain or lie in one of the paths."""
    try:
        stages = yaml.load(lock.read_text(encoding="utf-8"), _LOADER)["stages"]  # noqa: S506 -- a safe loader
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return {}
    wanted = list(paths)
    return {
        out["path"]: out["md5"]
        for name, entry in sorted(stages.items())
        if name != stage
        for out in entry.get("outs", ())
        if "md5" in out
        and any(Path(out["path"]).is_relative_to(path) or path.is_relative_to(out["path"]) for path in wanted)
    }
