"""Whether what stages write finds a place, asked before a stage spends hours: DVC itself finds out afterwards."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.graph.remains import lock_fault, mend_remains

_OUTPUTS = ("outs", "metrics", "plots")
_INTERPOLATED = re.compile(r"\$\{[^}]*\}")
_OTHER_DISK = (
    "To keep what stages write on another disk, put DVC's cache there: `dvc cache dir --local FOLDER`, "
    "`dvc config --local cache.type hardlink,symlink`."
)


def place_fault(folder: Path = Path()) -> str | None:
    """Why a project's folder or DVC's cache can't take what its stages write, a line each; None if they can.

    What a kill left there is removed if it holds nothing, and named otherwise.

    It reads dvc.yaml, dvc.lock and DVC's settings, in a third of a second. What it finds is no property of the
    project's files: ask before every run.
    """
    from dvc.config import Config  # noqa: PLC0415 -- takes most of that time

    folder = folder.absolute()
    settings = Config(str(folder / ".dvc"))
    cache = Path(os.path.normpath(settings["cache"].get("dir") or folder / ".dvc" / "cache"))
    faults = [*_links(folder), *_cache_fault(cache), *lock_fault(folder)]
    if not settings["core"]["no_scm"] and not any((above / ".git").exists() for above in (folder, *folder.parents)):
        faults.append(
            f"{folder}: no git repository, in which DVC keeps what was run: clone the project, or `git init`."
        )
    remote = settings["core"].get("remote")
    if remote and remote not in settings["remote"]:
        faults.append(f".dvc/config: core.remote names {remote!r}, which has no URL: `dvc remote add -d {remote} URL`.")
    mend_remains(folder, cache)
    return "\n".join(faults or _room(folder, cache)) or None


def _links(folder: Path) -> Iterator[str]:
    """Links on the way to outputs: DVC would refuse an output behind one, once it is made."""
    stages = (_read(folder / "dvc.yaml").get("stages") or {}).values()
    outputs = {path: None for stage in stages for path in _outputs(stage.get("do", stage))}
    found = {}
    for parts in (Path(path).parts for path in outputs):
        for depth in range(1, len(parts) + 1):
            # Path.glob finds no dangling links.
            for name in glob.glob("/".join(parts[:depth]), root_dir=folder):  # noqa: PTH207
                path = folder / name
                if path.is_symlink() and (depth < len(parts) or path.is_dir()):
                    found[name] = path.readlink()
    for name, target in found.items():
        yield (
            f"{name}: a link to {target}, and DVC keeps no output behind a link to a folder. Remove the link, so that "
            f"{name} is a folder of the project. {_OTHER_DISK}"
        )


def _outputs(stage: Any) -> Iterator[str]:
    """Paths of a stage's outputs as patterns: any name stands for what DVC interpolates."""
    for one in (one for kind in _OUTPUTS for one in stage.get(kind) or ()):
        path = one if isinstance(one, str) else next(iter(one))
        yield "*".join(map(glob.escape, _INTERPOLATED.split(path)))


def _cache_fault(cache: Path) -> Iterator[str]:
    """A cache that can't be written, such as one on a disk that is not mounted."""
    above = _existing(cache)
    link = next((one for one in (cache, *cache.parents) if one.is_symlink() and not one.exists()), None)
    if link:
        yield f"{link}: a link to {link.readlink()}, which is not there, where DVC's cache lies. Is its disk mounted?"
    elif not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        yield (
            f"{cache}: DVC's cache can't be written there ({above} is not a folder that you may write to). Is its disk "
            "mounted? `dvc cache dir --local FOLDER` chooses another place."
        )


def _room(folder: Path, cache: Path) -> Iterator[str]:
    """Disks too full for what dvc.lock names and neither the project nor the cache has."""
    lacking = [
        sum(out.get("size", 0) for out in stage.get("outs", ()) if not _kept(out, folder, cache))
        for stage in (_read(folder / "dvc.lock").get("stages") or {}).values()
    ]
    for needed, place in ((max(lacking, default=0), folder), (sum(lacking), _existing(cache))):
        free = shutil.disk_usage(place).free
        if free < needed:
            yield (
                f"{place}: {free / 1e9:.1f} GB free, and the outputs that are not here yet took {needed / 1e9:.1f} GB "
                f"when they were made. Free space. {_OTHER_DISK}"
            )


def _kept(out: dict[str, Any], folder: Path, cache: Path) -> bool:
    digest = str(out.get("md5", ""))
    return (folder / out["path"]).exists() or (cache / "files" / "md5" / digest[:2] / digest[2:]).is_file()


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def _read(file: Path) -> dict[str, Any]:
    """A file of YAML's values; none for a file that is not there or not whole, which DVC itself names."""
    try:
        found = yaml.load(file.read_bytes(), yaml.CSafeLoader)  # as safe as safe_load, and ten times as fast
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
