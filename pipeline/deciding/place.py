"""The place that a project lies in: what would end a run there, whatever its params."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

_DATA = ("data", ".cache", ".dvc/cache")
_LEAST = 2**30
"""Bytes; how much a run writes is not known before it, but with less even the default one can't end."""


def place_faults(folder: Path) -> Iterator[str]:
    """What can't work in `folder`: no repository, links that lead nowhere, a full disk, a remote without a URL."""
    if not (folder / ".dvc").is_dir():
        yield f"{folder.absolute()}: no .dvc folder. Run the command from the project's folder."
        return
    settings = _settings(folder)
    if not settings.getboolean("core", "no_scm", fallback=False) and not _in_git(folder):
        yield (
            f"{folder.absolute()}: no git repository, in which DVC keeps its records. `git init`, or clone the project "
            "instead of copying its files."
        )
    for name in _DATA:
        yield from _unusable(folder / name, name)
    yield from _remote(settings)


def _settings(folder: Path) -> ConfigParser:
    settings = ConfigParser(strict=False, interpolation=None)
    settings.read([folder / ".dvc/config", folder / ".dvc/config.local"], encoding="utf-8")
    return settings


def _in_git(folder: Path) -> bool:
    ended = subprocess.run(["git", "-C", str(folder), "rev-parse", "--git-dir"], capture_output=True, check=False)
    return ended.returncode == 0


def _unusable(path: Path, name: str) -> Iterator[str]:
    if path.is_symlink() and not path.exists():
        yield f"{name}: the link leads to {path.readlink()}, which is not there. Mount that disk, or make the folder."
        return
    if path.exists() and not path.is_dir():
        yield f"{name}: is a file, where the run needs a folder. Move it away."
        return
    there = path if path.exists() else path.parent if path.parent.exists() else path.parent.parent
    if not os.access(there, os.W_OK):
        yield f"{name}: {there.resolve()} can't be written to. Give yourself the right, or link {name} to another disk."
    elif (free := shutil.disk_usage(there).free) < _LEAST:
        yield (
            f"{name}: {free / 2**20:.0f} MiB are free on the disk of {there.resolve()}; a run needs at least "
            f"{_LEAST / 2**20:.0f}. Free some (`python -m pipeline clean`), or link {name} to another disk."
        )


def _remote(settings: ConfigParser) -> Iterator[str]:
    named = settings.get("core", "remote", fallback="")
    if named and not settings.get(f"'remote \"{named}\"'", "url", fallback=""):
        yield f".dvc/config: core.remote names {named!r}, which has no url. `dvc remote add -d {named} URL`."
