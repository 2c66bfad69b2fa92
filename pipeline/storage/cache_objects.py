"""The files of DVC's cache that outputs consist of."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc_data.hashfile.tree import Tree


@dataclass(frozen=True)
class CacheObject:
    """A file of DVC's cache.

    Attributes:
        key: its key in the remote.
        path: where it lies in the cache, or will.
        md5: its content's, 32 hex digits.
    """

    key: str
    path: Path
    md5: str


def _object(out: Any, digest: str) -> CacheObject:
    """The object in DVC's layout: `files/md5/ab/cdef...`, `.dir` behind the list of a folder's files."""
    path = Path(out.cache.oid_to_path(digest))
    return CacheObject(f"files/md5/{digest[:2]}/{digest[2:]}", path, digest.removesuffix(".dir"))


def roots(outs: Iterable[Any]) -> list[CacheObject]:
    """For each output its one object: the file, or the list of the folder's files."""
    return [_object(out, out.hash_info.value) for out in outs]


def contents(outs: Iterable[Any]) -> dict[Path, CacheObject]:
    """The outputs' files, by their paths in the project; lists of folders must be in the cache."""
    found: dict[Path, CacheObject] = {}
    for out in outs:
        if out.hash_info.isdir:
            tree = Tree.load(out.cache, out.hash_info)
            found |= {Path(out.fs_path, *name): _object(out, digest.value) for name, _, digest in tree}
        else:
            found[Path(out.fs_path)] = _object(out, out.hash_info.value)
    return found


def touched(paths: Iterable[Path], outs: Iterable[Any]) -> list[Any]:
    """Outputs that are, hold, or lie in one of the paths."""
    wanted = list(paths)
    return [
        out
        for out in outs
        if any(Path(out.fs_path).is_relative_to(path) or path.is_relative_to(out.fs_path) for path in wanted)
    ]
