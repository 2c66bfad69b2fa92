"""Where objects lie: what a remote's URL names, by DVC's own file systems. Keys are paths below the URL."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dvc.fs import RemoteMissingDepsError, get_cloud_fs
from dvc_objects.fs.base import ObjectFileSystem
from dvc_objects.fs.utils import as_atomic

from pipeline.messages import PipelineError
from pipeline.project import unfinished, without_secrets
from pipeline.storage.faults import Missing, Unavailable, told
from pipeline.storage.remote_url import PACKAGES, VARIABLE

PART = 16 * 1024**2
"""Bytes in a part of an upload in several parts; what is smaller than two of them is uploaded in one."""

_BLOCK = 4 * 1024**2
_S3_SETTINGS = {
    "retries": {"total_max_attempts": 1},  # `patiently` tries again
    "connect_timeout": 10,
    "max_pool_connections": 80,
    # Not every server of this API knows the checksums that are sent by default; ours is the MD5.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


@dataclass(frozen=True)
class Stat:
    """Size in bytes, and what the server says of the content: its ETag, where it has one."""

    size: int
    tag: str | None


class Store:
    """Objects by key. Transfers raise `Unavailable`, `Missing`, or a `PipelineError` that no other try would mend."""

    def __init__(self, url: str) -> None:
        """Take what `remote_url` gives: a URL, or the path of a folder, which is made when the first object is put.

        Endpoint, region and keys come from the environment alone.

        Raises:
            PipelineError: DVC's package for this kind of URL is not installed, or the place can't be reached.
        """
        scheme = urlsplit(url).scheme if "://" in url else ""
        self.url, self.host = without_secrets(url).rstrip("/"), ""
        try:
            kind, config, self.root = get_cloud_fs({}, url=url if scheme else os.path.normpath(url))
            self.dvc: Any = kind(**config)
        except (ImportError, RemoteMissingDepsError):
            raise PipelineError(
                f"{VARIABLE}: {scheme}:// needs the package {PACKAGES[scheme]}, which is not installed here."
            ) from None
        if scheme == "s3":
            settings = self.dvc.fs_args.get("config_kwargs", {}) | _S3_SETTINGS
            self.dvc.fs_args.update(cache_regions=False, config_kwargs=settings)
        if scheme == "ssh":
            # DVC's own client asks for passwords at the terminal, and trusts any host.
            self.dvc.fs_args.update(client_factory=None, known_hosts=())
        try:
            with told(self.url):
                self.fs: Any = self.dvc.fs
        except (Missing, Unavailable) as fault:
            raise PipelineError(f"{self.url}: can't be reached: {fault or 'there is no such place'}.") from None
        if scheme == "s3":
            self.fs.retries, self.fs.max_concurrency = 1, 4
            self.host = f" at {urlsplit(self.fs.s3.meta.endpoint_url).netloc.rpartition('@')[2]}"

    def name(self, key: str) -> str:
        """What to call an object in a message."""
        return f"{self.url}/{key}{self.host}"

    def stat(self, key: str) -> Stat:
        """Ask for an object without reading it."""
        path = self._path(key)
        with told(self.name(key)):
            if self.dvc.protocol == "s3":  # where `info` finds no object, it lists what may lie below its name
                bucket, _, name = path.partition("/")
                head = self.fs.call_s3("head_object", Bucket=bucket, Key=name)
                return Stat(head["ContentLength"], head.get("ETag", "").strip('"') or None)
            self.fs.invalidate_cache()
            found = self.fs.info(path)
        if found["type"] == "directory":
            raise Missing
        return Stat(found["size"], None)

    def get(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        with told(self.name(key), path):
            self.fs.get_file(self._path(key), str(path))

    def md5(self, key: str) -> str:
        """Read an object and return its MD5, 32 hex digits."""
        found = hashlib.md5(usedforsecurity=False)
        with told(self.name(key)), self.fs.open(self._path(key), "rb", block_size=_BLOCK) as file:
            while block := file.read(_BLOCK):
                found.update(block)
        return found.hexdigest()

    def put(self, key: str, path: Path, md5: str) -> None:
        """Store a file with a known MD5 (32 hex digits), under its name once it is whole."""
        target = self._path(key)
        with self._writing(key, path):
            if not isinstance(self.dvc, ObjectFileSystem):
                with as_atomic(self.dvc, target, create_parents=True) as partial, path.open("rb") as file:
                    self.dvc.upload_fobj(file, partial)
            elif self.dvc.protocol == "s3":
                sum_of_one = b64encode(bytes.fromhex(md5)).decode()
                self.fs.put_file(str(path), target, chunksize=PART, ContentMD5=sum_of_one)
            else:
                self.fs.put_file(str(path), target)

    @contextmanager
    def _writing(self, key: str, path: Path) -> Iterator[None]:
        try:
            with told(self.name(key), path):
                yield
        except Missing:
            raise PipelineError(f"{self.name(key)}: nothing can be stored there. Check {VARIABLE}.") from None

    def keys(self, prefix: str) -> list[str]:
        """Keys of the objects below a prefix, the oldest first."""
        with told(self.name(prefix)):
            self.fs.invalidate_cache()
            found = sorted(self.fs.find(self._path(prefix)), key=self.fs.modified)
        return [one[len(self._path("")) :] for one in found]

    def _path(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}"


def write_whole(path: Path, text: str) -> None:
    """Write a file, and the folders above it, so that a fault leaves what stood there; a device is written to."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path = Path(os.path.realpath(path))  # a link stays one
    try:
        with unfinished(path.parent) as partial:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
    except OSError as error:
        error.filename = str(path)  # a full disk's error names no file
        raise


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
