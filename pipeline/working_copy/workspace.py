"""A working copy of the project that may be written to, and is deleted afterwards."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.messages import PipelineError, say
from pipeline.storage.remote_url import remote_url
from pipeline.working_copy.git import Git
from pipeline.working_copy.params import set_params
from pipeline.working_copy.source import write_source
from pipeline.working_copy.stopping import stopping


@dataclass(frozen=True)
class WorkingCopy:
    """A folder with the project's files as git keeps them: no data, no `.git`.

    Attributes:
        folder: where it is.
        git: the repository that it was taken from; None for a source without git.
        commit: full name of the commit; None if files were taken as they are on disk.
    """

    folder: Path
    git: Git | None
    commit: str | None


@contextmanager
def working_copy(
    revision: str, repository: str, overrides: Mapping[str, Any], *, keep: bool = False
) -> Iterator[WorkingCopy]:
    """Make a working copy in a new folder of `$WORKSPACE_ROOT` and remove it at the end, even on SIGTERM.

    Args:
        revision: branch, tag or commit; '' is the source in the working directory as it is.
        repository: URL or path that the revision comes from; '' is the repository in the working directory.
        overrides: other values for params.yaml.
        keep: leave it there, for debugging.

    Raises:
        PipelineError: no such revision or key, or nowhere to write.
    """
    source = Path.cwd()
    place = os.environ.get("WORKSPACE_ROOT") or tempfile.gettempdir()
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    except OSError as error:
        raise PipelineError(f"WORKSPACE_ROOT: {place}: {error.strerror}.") from None
    try:
        with stopping(None if keep else root):
            folder = root / "project"
            folder.mkdir()
            git, commit = write_source(source, revision, repository, folder, root / "git")
            if not (folder / "dvc.yaml").exists():
                raise PipelineError(f"{revision or source}: no dvc.yaml. Run the command from the project's folder.")
            _configure(folder, root / "site")
            set_params(folder, overrides)
            yield WorkingCopy(folder, git, commit)
    except OSError as error:
        if not str(error.filename).startswith(str(root)):
            raise
        raise PipelineError(f"{error.filename}: {error.strerror}. $WORKSPACE_ROOT chooses another place.") from error
    finally:
        if keep:
            say(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


def _configure(folder: Path, site: Path) -> None:
    """Write this machine's settings: where DVC keeps and finds data; endpoint and keys stay in the environment."""
    cache = os.environ.get("DVC_CACHE_DIR")
    remote = remote_url()
    lines = ["[core]", "no_scm = true", f'site_cache_dir = "{site}"', *(["remote = storage"] if remote else [])]
    if cache:
        # Linked, not copied: a training set may be larger than the node's own disk.
        lines += ["[cache]", f'dir = "{Path(cache).absolute()}"', 'type = "reflink,hardlink,symlink,copy"']
    if remote:
        lines += ["['remote \"storage\"']", f'url = "{remote}"']
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc" / "config.local").write_text("\n".join(lines) + "\n", encoding="utf-8")


def link_checkpoints(folder: Path, key: str) -> None:
    """Link `.cache/checkpoints` and `.cache/downloads` of a working copy to `$CHECKPOINT_DIR/KEY`, for a retry.

    What the check found without fault is shared by all stages, in `$CHECKPOINT_DIR/check`.
    Without `$CHECKPOINT_DIR` they stay in the working copy.
    """
    place = os.environ.get("CHECKPOINT_DIR")
    if not place:
        return
    kept = Path(place).absolute() / key
    (folder / ".cache").mkdir(exist_ok=True)
    check = Path(place).absolute() / "check"
    for name, target in (("checkpoints", kept), ("downloads", kept / "downloads"), ("check", check)):
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(f"CHECKPOINT_DIR: {error.filename}: {error.strerror}.") from None
        (folder / ".cache" / name).symlink_to(target)
