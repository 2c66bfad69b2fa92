"""Files that appear whole or not at all, and the checksums that prove it."""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20
_PARTIAL = ".{}.partial"
_TRIES = 100


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Yield a name in `folder` that no other writer has, for a file or a folder; what is left under it is removed.

    What killed writers left there is removed first, unless somebody else writes into the folder at that time. The name
    is short, so that it fits wherever the final one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    partial = _new_name(folder)
    try:
        # Each writer shares a lock that ends with its process: who has it alone sees only files of dead ones.
        with suppress(OSError):  # somebody writes, or the file system has no such locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(_PARTIAL.format("[0-9a-f]" * 8)):
                _remove(left)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            yield partial
        finally:
            _remove(partial)
    finally:
        os.close(descriptor)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on any error.

    Works for a file and for a folder (create the folder at the yielded name). What stood at `path` is replaced; of
    several writers at a time, the last one's stays.
    """
    try:
        with unfinished(path.parent) as partial:
            yield partial
            if partial.is_file():
                _flush(partial)
            _put(partial, path)
    except OSError as error:
        if error.filename is None:  # as on a full disk
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8, newline as given) to `path`, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with reproducible bytes (sorted keys, two spaces, final newline)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _put(partial: Path, path: Path) -> None:
    """Give `partial` its name. The system replaces a file by a file only: what else is there is moved aside first."""
    for left in reversed(range(_TRIES)):
        replaced = _new_name(path.parent)
        folders = partial.is_dir() or path.is_dir()
        try:
            if folders:
                with suppress(FileNotFoundError):
                    path.replace(replaced)
            partial.replace(path)
        except OSError:
            if not (folders and left):  # else another writer may have been faster: its result is replaced as well
                raise
        else:
            return
        finally:
            _remove(replaced)


def _new_name(folder: Path) -> Path:
    return folder / _PARTIAL.format(secrets.token_hex(4))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
