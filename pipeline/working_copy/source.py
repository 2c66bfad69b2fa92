"""The project's files, as a revision or a folder has them: no data, no caches, no `.git`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.messages import PipelineError
from pipeline.working_copy.git import Git, fetch_commit, project_git

_NO_SOURCE = {".git", ".venv"}


def write_source(
    source: Path, revision: str, repository: str, folder: Path, directory: Path
) -> tuple[Git | None, str | None]:
    """Write the files into `folder`.

    Args:
        source: the project that the command was called in.
        revision: branch, tag or commit; '' is the source as it is on disk.
        repository: URL or path that the revision comes from; '' is that of `source`.
        folder: an empty folder.
        directory: an absent folder, for a repository that has to be fetched.

    Returns:
        The repository, if there is one, and the commit's full name, if a revision was asked for.

    Raises:
        PipelineError: no such revision.
    """
    own = project_git(source)
    if not revision:
        for name in _listed(source, own):
            _copy(source / name, folder / name)
        return own, None
    if repository:
        git, commit = fetch_commit(repository, revision, directory)
    elif own is None:
        raise PipelineError(f"--revision {revision}: there is no git repository here; give --repository too.")
    else:
        found = own.commit(revision)
        if found is None:
            raise PipelineError(f"--revision {revision}: no commit of this clone.")
        git, commit = own, found
    git.write_tree(commit, folder)
    return git, commit


def _listed(source: Path, git: Git | None) -> Iterator[str]:
    """Paths of the source's files: no data, caches or settings of this machine."""
    if git is not None:
        words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        found = git.run(f"--work-tree={source}", "-C", str(source), *words).split("\0")
        yield from (name for name in dict.fromkeys(found) if (source / name).is_file())
        return
    import pathspec  # noqa: PLC0415 -- where git is, nobody needs it

    ignored = [source / ".gitignore", source / ".dvc" / ".gitignore"]
    specs = [(file.parent, file.read_text(encoding="utf-8").splitlines()) for file in ignored if file.exists()]
    compiled = [(above, pathspec.GitIgnoreSpec.from_lines(lines)) for above, lines in specs]
    for above, folders, files in os.walk(source):
        folders[:] = sorted(
            name for name in folders if name not in _NO_SOURCE and not _ignored(Path(above, name), compiled, "/")
        )
        for name in sorted(files):
            path = Path(above, name)
            if not _ignored(path, compiled, ""):
                yield str(path.relative_to(source))


def _ignored(path: Path, compiled: list[tuple[Path, Any]], end: str) -> bool:
    return any(
        path.is_relative_to(above) and spec.match_file(f"{path.relative_to(above)}{end}") for above, spec in compiled
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
