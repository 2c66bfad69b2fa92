"""Objects between DVC's cache and its remote: every one is proved by size and hash, whichever way it goes.

DVC's own push takes an object for stored if one of its name is there, and its pull takes what comes for what it asked
for; servers that store no bytes and say success have been seen. Objects that are there but wrong are replaced here.
"""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pipeline.messages import PipelineError
from pipeline.patience import patiently
from pipeline.project import unfinished
from pipeline.storage.cache_objects import CacheObject
from pipeline.storage.faults import Missing, Unavailable
from pipeline.storage.remote_url import remote_url
from pipeline.storage.stores import Store, md5_of, tag_of_parts

_THREADS = 16
_EMPTY = "d41d8cd98f00b204e9800998ecf8427e"  # MD5 of no bytes
_READ_ONLY = 0o444  # what DVC's cache takes as a sign that an object is whole

Answer = TypeVar("Answer")


class Remote:
    """DVC's remote: what `$DVC_REMOTE_URL` names."""

    def __init__(self, store: Store) -> None:
        """Take the store, and the seconds to bear with one that is away from `$STORAGE_PATIENCE`."""
        self.store = store
        patience = os.environ.get("STORAGE_PATIENCE", "60")
        try:
            self.patience = float(patience)
        except ValueError:
            self.patience = math.nan
        if not 0 <= self.patience < math.inf:
            raise PipelineError(f"STORAGE_PATIENCE: {patience!r}: expected a number of seconds, 0 or more.")

    def holds(self, item: CacheObject) -> bool:
        """Whether an object is there and, as far as the server tells without reading it, right."""

        def ask() -> bool:
            try:
                stat = self.store.stat(item.key)
            except Missing:
                return False
            if stat.tag is None or "-" in stat.tag or len(stat.tag) != len(item.md5):
                return stat.size > 0 or item.md5 == _EMPTY
            return stat.tag == item.md5

        return self._patiently(item.key, ask)

    def push(self, items: Iterable[CacheObject]) -> tuple[int, int]:
        """Store objects that are not there, or not right, and prove each.

        Returns:
            How many were stored, and their bytes.

        Raises:
            PipelineError: one is not in the cache, or could not be stored.
        """
        sizes = _in_threads(self._push_one, items)
        stored = [size for size in sizes if size is not None]
        return len(stored), sum(stored)

    def fetch(self, items: Iterable[CacheObject]) -> None:
        """Bring objects that the cache lacks into it, each proved by its hash.

        Raises:
            PipelineError: one is not there, or damaged.
        """
        _in_threads(self._fetch_one, items)

    def secure(self, items: Iterable[CacheObject]) -> bool:
        """Whether the remote has all objects, once those that the cache has are pushed."""

        def one(item: CacheObject) -> bool:
            if in_cache(item):
                self._push_one(item)
                return True
            return self.holds(item)

        return all(_in_threads(one, items))

    def get(self, key: str, path: Path) -> None:
        """Read an object that proves itself by its name; whoever reads the file does that."""
        self._patiently(key, lambda: self.store.get(key, path))

    def keys(self, prefix: str) -> list[str]:
        """Keys below a prefix, the oldest first."""
        return self._patiently(prefix, lambda: self.store.keys(prefix))

    def _push_one(self, item: CacheObject) -> int | None:
        if not item.path.exists():
            raise PipelineError(
                f"{item.path}: not in the cache, so it can't be pushed: was the cache cleared meanwhile?"
            )
        size = item.path.stat().st_size

        def store() -> None:
            self.store.put(item.key, item.path, item.md5)
            if not self._is_right(item, size):
                raise Unavailable(f"{self._found(item)} were stored of {size}, though the server said success")

        if self._patiently(item.key, lambda: self._is_right(item, size)):
            return None
        if md5_of(item.path) != item.md5:
            raise PipelineError(f"{item.path}: damaged in the cache. Delete it and run the stage again.")
        self._patiently(item.key, store)
        return size

    def _is_right(self, item: CacheObject, size: int) -> bool:
        """By size and ETag; where the ETag is no MD5 of ours, by reading the object back."""
        try:
            stat = self.store.stat(item.key)
            if stat.size != size:
                return False
            if stat.tag == item.md5 or (stat.tag and "-" in stat.tag and stat.tag == tag_of_parts(item.path)):
                return True
            return self.store.md5(item.key) == item.md5
        except Missing:
            return False

    def _found(self, item: CacheObject) -> str:
        try:
            return f"{self.store.stat(item.key).size} bytes"
        except Missing:
            return "no bytes"

    def _fetch_one(self, item: CacheObject) -> None:
        if in_cache(item):
            return

        def read() -> None:
            with unfinished(item.path.parent) as partial:
                self.store.get(item.key, partial)
                if md5_of(partial) != item.md5:
                    size = partial.stat().st_size
                    if self.store.stat(item.key).size != size:
                        raise Unavailable(f"{size} bytes of it came")
                    raise PipelineError(
                        f"{self.store.name(item.key)}: damaged: {size} bytes with another MD5. `dvc push` does not "
                        "replace it: delete it there, then push it, or run the stage that makes it again."
                    )
                partial.chmod(_READ_ONLY)
                partial.replace(item.path)

        try:
            self._patiently(item.key, read)
        except Missing:
            raise PipelineError(
                f"{self.store.name(item.key)}: no such object. `dvc push` it from where it was made, "
                "or run the stage that makes it again."
            ) from None

    def _patiently(self, key: str, act: Callable[[], Answer]) -> Answer:
        """Try again, at growing intervals, while the fault may pass."""
        try:
            return patiently(act, self.patience, Unavailable)
        except Unavailable as fault:
            raise PipelineError(
                f"{self.store.name(key)}: {fault}. Gave up after {self.patience:g} s; run it again."
            ) from None


def open_remote() -> Remote | None:
    """The remote of the environment, or None."""
    url = remote_url()
    return Remote(Store(url)) if url else None


def in_cache(item: CacheObject) -> bool:
    """Whether the cache has an object; DVC writes whole files only, and marks them as read-only."""
    try:
        mode = item.path.stat().st_mode & 0o777
    except FileNotFoundError:
        return False
    return mode == _READ_ONLY or md5_of(item.path) == item.md5


def _in_threads(act: Callable[[CacheObject], Answer], items: Iterable[CacheObject]) -> list[Answer]:
    with ThreadPoolExecutor(_THREADS) as threads:
        running = [threads.submit(act, item) for item in dict.fromkeys(items)]
        try:
            return [one.result() for one in running]
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
