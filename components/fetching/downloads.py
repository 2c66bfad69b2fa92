"""Downloads that survive broken connections, restarts, changed files, and each other."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from components.fetching.deadline import in_time
from components.fetching.servers import Answer, Ask, Interrupted
from components.images.datasets import shown
from components.run.errors import InputError
from components.telemetry.progress import Progress

RETRY = Retry(total=5, backoff_factor=1.0, backoff_jitter=1.0, backoff_max=60.0)
"""Every server's: six tries without a new byte, after waits of 0, 2, 4, 8 and 16 seconds, plus up to one of jitter."""
LONGEST_WAIT = 300.0
"""Longest wait in seconds that a server may ask for; the download gives up if it asks for more."""

_log = logging.getLogger(__name__)


def download(ask: Ask, url: str, partial: Path, retry: Retry = RETRY) -> None:
    """Download the whole file to `partial`, resuming after the bytes there if the server still has that version.

    The version is stored beside it (`.version`); if the server names none, every try starts over.

    Raises:
        InputError: the server refuses, or every try failed; the bytes received so far stay for the next run.
    """
    furthest, left = _size(partial), retry
    while True:
        version = _version(partial)
        try:
            with in_time(ask, url, _size(partial) if version else 0, version) as answer:
                _receive(answer, partial, shown(url).rpartition("/")[2])
        except Interrupted as trouble:
            if trouble.changed:
                discard(partial)
            if _size(partial) > furthest:
                furthest, left = _size(partial), retry
            left = _once_more(left, trouble, f"{shown(url)}: {trouble}")
        else:
            return


def discard(partial: Path) -> None:
    """Remove a partial file and its version."""
    partial.unlink(missing_ok=True)
    _version_file(partial).unlink(missing_ok=True)


def keep(partial: Path, kept: Path, sealed: bool) -> None:
    """Give a complete file its final name; a sealed one (its checksum is known) no longer needs a server's version."""
    partial.replace(kept)
    if sealed:
        _version_file(partial).unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder, so that two runs never write the same partial file; the second waits."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info(f"{folder}: another run is downloading; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _receive(answer: Answer, partial: Path, title: str) -> None:
    with (
        partial.open("ab" if answer.start else "wb") as file,
        closing(Progress(title, answer.total or 0, unit="B", start=answer.start)) as progress,
    ):
        if not answer.start:
            _version_file(partial).write_text(answer.version, encoding="utf-8")
        for block in answer.blocks:
            _append(file, block)
            progress.advance(len(block))
    if answer.total is None and not _size(partial):  # also where a connection ends within its headers
        raise Interrupted("no bytes came")
    if answer.total is not None and _size(partial) != answer.total:
        raise Interrupted(f"received {_size(partial)} of {answer.total} bytes")


def _append(file: IO[bytes], block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:
        error.filename = file.name  # a full disk's error names no file
        raise


def _once_more(left: Retry, trouble: Interrupted, message: str) -> Retry:
    try:
        left = left.increment(error=trouble)
    except MaxRetryError:
        raise InputError(
            f"{message}; gave up. The bytes received so far are kept: check the url, and run again to resume."
        ) from None
    wait = left.get_backoff_time() if trouble.wait is None else trouble.wait
    if wait > LONGEST_WAIT:
        raise InputError(f"{message} and asks to wait {wait:.0f} seconds. Run again after that to resume.") from None
    _log.info(f"{message}; trying again in {wait:.0f} s")
    time.sleep(wait)
    return left


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version(partial: Path) -> str:
    file = _version_file(partial)
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _version_file(partial: Path) -> Path:
    return partial.with_suffix(".version")
