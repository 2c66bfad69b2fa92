"""DVC's run cache, one stage at a time; DVC itself would copy all of it, both ways, in every task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import load_yaml

from pipeline.project import unfinished
from pipeline.storage.cache_objects import CacheObject, contents, roots
from pipeline.storage.faults import Missing
from pipeline.storage.remote import Remote
from pipeline.storage.stores import md5_of


def cache_key(stage: Any) -> str | None:
    """DVC's key for a run of a stage whose dependencies have their hashes; None if DVC keeps no runs of it."""
    if stage.always_changed or not (stage.cmd and stage.deps) or any(out.persist for out in stage.outs):
        return None
    return str(_get_cache_hash(to_single_stage_lockfile(stage), key=True))


class RunCache:
    """What earlier runs of a stage made from the same inputs, in the cache and in the remote."""

    def __init__(self, repo: Repo, remote: Remote | None, *, push: bool) -> None:
        """Take the project and its remote; `push` sends outputs of an earlier run that only the cache has."""
        self.push = push
        self.cache = repo.stage_cache
        self.folder = Path(self.cache.cache_dir)
        self.remote = remote

    def find(self, stage: Any, key: str) -> dict[str, Any] | None:
        """The dvc.lock entry of an earlier run whose outputs all still exist.

        Args:
            stage: the stage.
            key: what identifies the run (`run_key`).
        """
        for entry in self._entries(key):
            earlier = self.cache._create_stage(entry, wdir=stage.wdir)  # noqa: SLF001 -- DVC has no public way
            if self._complete(earlier.outs):
                return entry
        return None

    def keep(self, stage: Any) -> None:
        """Push DVC's record of the run that has just ended; its outputs must already be pushed."""
        if self.remote and (key := cache_key(stage)):
            value = _get_cache_hash(to_single_stage_lockfile(stage))
            path = self._folder(key) / value
            self.remote.push([CacheObject(self._key(key, value), path, md5_of(path))])

    def _complete(self, outs: list[Any]) -> bool:
        if self.remote is None:
            return all(item.path.exists() for item in roots(outs))
        if not self.push:
            return all(map(self.remote.holds, roots(outs)))
        folders = [item for item in roots([out for out in outs if out.hash_info.isdir]) if not item.path.exists()]
        if not all(self.remote.holds(item) for item in folders):
            return False
        self.remote.fetch(folders)
        return self.remote.secure([*contents(outs).values()]) and self.remote.secure(roots(outs))

    def _entries(self, key: str) -> Iterator[dict[str, Any]]:
        """Entries of the runs with a key, newest first; those of the cache before those of the remote."""
        here = self._folder(key)
        known = sorted(here.iterdir(), key=lambda path: path.stat().st_mtime) if here.exists() else []
        for path in reversed(known):
            if entry := _read(path, path.name):
                yield entry
            else:
                _remove(path)
        if self.remote is None:
            return
        for found in reversed(self.remote.keys(f"runs/{key[:2]}/{key}")):
            path = here / found.rpartition("/")[2]
            if not path.exists() and (entry := self._fetched(self.remote, found, path)):
                yield entry

    def _fetched(self, remote: Remote, found: str, path: Path) -> dict[str, Any] | None:
        """An entry of the remote, if it is intact; it is then stored in the cache."""
        try:
            with unfinished(self.folder) as partial:  # not in the entry's own folder, where DVC takes it for one
                remote.get(found, partial)
                entry = _read(partial, path.name)
                if entry:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    partial.replace(path)
        except Missing:
            return None  # deleted since it was listed
        return entry

    def _folder(self, key: str) -> Path:
        return self.folder / key[:2] / key

    @staticmethod
    def _key(key: str, value: str) -> str:
        return f"runs/{key[:2]}/{key}/{value}"


def _read(path: Path, name: str) -> dict[str, Any] | None:
    """An entry, if it is intact: its name is the hash of its content."""
    try:
        entry = dict(load_yaml(str(path)))
        return entry if _get_cache_hash(dict(entry)) == name else None
    except (DvcException, AttributeError, TypeError, ValueError):
        return None


def _remove(path: Path) -> None:
    """Remove a damaged entry, which DVC would keep, and its folder if that is now empty, which trips DVC up."""
    path.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
