"""Where objects lie: a bucket behind an S3 API, or a folder. Keys are paths below the remote's URL."""

import errno
import hashlib
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from pipeline.messages import PipelineError

PART = 64 * 1024**2
"""Bytes in a part of an upload in several parts, and the largest upload in one."""


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
"""Faults of a place to write to."""


class Unavailable(Exception):  # noqa: N818 -- no error yet: the next try may do
    """A transfer failed for a reason that may pass."""


class Missing(Exception):  # noqa: N818 -- an answer, to some questions
    """There is no such object."""


@dataclass(frozen=True)
class Stat:
    """Size in bytes, time of the last change, and what the server says of the content: its ETag, where it has one."""

    size: int
    changed: float
    tag: str | None


class Store(ABC):
    """Objects by key. Transfers raise `Unavailable`, `Missing`, or a `PipelineError` that no other try would mend."""

    @abstractmethod
    def name(self, key: str) -> str:
        """What to call an object in a message."""

    @abstractmethod
    def stat(self, key: str) -> Stat:
        """Ask for an object without reading it."""

    @abstractmethod
    def get(self, key: str, path: Path) -> None:
        """Read an object into a file."""

    @abstractmethod
    def md5(self, key: str) -> str:
        """Read an object and return its MD5, 32 hex digits."""

    @abstractmethod
    def put(self, key: str, path: Path, md5: str) -> None:
        """Store a file with a known MD5 (32 hex digits)."""

    @abstractmethod
    def keys(self, prefix: str) -> list[str]:
        """Keys of the objects below a prefix, the oldest first."""


class FolderStore(Store):
    """Objects as files of a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made when the first object is put."""
        self.folder = folder

    @override
    def name(self, key: str) -> str:
        return str(self.folder / key)

    @override
    def stat(self, key: str) -> Stat:
        try:
            found = (self.folder / key).stat()
        except FileNotFoundError:
            raise Missing from None
        return Stat(found.st_size, found.st_mtime, None)

    @override
    def get(self, key: str, path: Path) -> None:
        with local_faults(path):
            try:
                shutil.copyfile(self.folder / key, path)
            except FileNotFoundError:
                if path.parent.exists():
                    raise Missing from None
                raise

    @override
    def md5(self, key: str) -> str:
        try:
            return md5_of(self.folder / key)
        except FileNotFoundError:
            raise Missing from None

    @override
    def put(self, key: str, path: Path, md5: str) -> None:
        target = self.folder / key
        partial = partial_of(target)
        with local_faults(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(path, partial)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

    @override
    def keys(self, prefix: str) -> list[str]:
        folder = self.folder / prefix
        files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime)
        return [path.relative_to(self.folder).as_posix() for path in files]


@contextmanager
def local_faults(path: Path) -> Iterator[None]:
    """A full disk is no fault of the server."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise PipelineError(
                f"{error.filename or path}: {error.strerror}. Free space or choose another place."
            ) from None
        raise


def partial_of(path: Path) -> Path:
    """A name beside `path` that no other process takes, on no other machine."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes, 32 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def tag_of_parts(path: Path) -> str:
    """The ETag that S3 gives to an upload in parts of `PART` bytes: MD5 of the parts' MD5s, and their number."""
    digests = []
    with path.open("rb") as file:
        while block := file.read(PART):
            digests.append(hashlib.md5(block, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
