"""Metrics and params of two revisions, as DVC keeps them: from its cache, or else its remote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from pipeline.graph.numbers import flat_numbers
from pipeline.messages import PipelineError
from pipeline.project import Numbers
from pipeline.storage.cache_objects import roots
from pipeline.storage.remote import Remote, in_cache, open_remote
from pipeline.storage.remote_url import VARIABLE, remote_url
from pipeline.working_copy.git import Git, project_git

_HERE = "workspace"
"""DVC's name for the files as they are on disk."""


@dataclass(frozen=True)
class Comparison:
    """Two revisions.

    Attributes:
        base: the older one, as it was named.
        commit: its short name.
        to: the newer one, as it was named; `this version` for the files as they are here.
        before: numbers by metrics file.
        after: likewise.
        absent: metrics files that neither cache nor remote has, in either revision.
        params: `(key, value before, value after)` of params.yaml; an absent value is None.
    """

    base: str
    commit: str
    to: str
    before: dict[str, Numbers]
    after: dict[str, Numbers]
    absent: tuple[str, ...]
    params: tuple[tuple[str, Any, Any], ...]


def read_comparison(folder: Path, base: str, to: str) -> Comparison:
    """Read metrics and params of two revisions of the project in `folder`.

    Raises:
        PipelineError: there is no git repository, no such revision, or no metric for one of them.
    """
    git = project_git(folder)
    if git is None:
        raise PipelineError(f"{folder.absolute()}: no git repository. Run the command from the project's folder.")
    commits = [_commit(git, revision) for revision in (base, to) if revision]
    newer = commits[1] if to else _HERE
    remote = open_remote()
    with Repo(str(folder), config=_remote()) as repo:
        if remote:
            _bring(repo, remote, commits, hide=bool(to))
        shown = repo.metrics.show(revs=commits, hide_workspace=bool(to), on_error="return")
        changed = repo.params.diff(a_rev=commits[0], b_rev=newer)
    (before, absent_before), (after, absent_after) = (_numbers(shown.get(name, {})) for name in (commits[0], newer))
    for revision, numbers, absent in ((base, before, absent_before), (to or "the files here", after, absent_after)):
        if not numbers:
            raise PipelineError(_nothing(revision, absent, remote))
    differing = changed.get("diff", changed) if changed else {}
    return Comparison(
        base=base,
        commit=commits[0][:7],
        to=to or "this version",
        before=before,
        after=after,
        absent=tuple(sorted(absent_before | absent_after)),
        params=tuple(
            (key, change.get("old"), change.get("new"))
            for _, keys in sorted(differing.items())
            for key, change in sorted(keys.items())
        ),
    )


def _bring(repo: Repo, remote: Remote, commits: list[str], *, hide: bool) -> None:
    """Bring metrics that the cache lacks into it: DVC takes every fault of a remote for an absent file."""
    items = {
        item
        for _ in repo.brancher(revs=commits, workspace=not hide)
        for item in roots(out for out in repo.index.metrics if out.hash_info)
    }
    remote.fetch([item for item in items if not in_cache(item) and remote.holds(item)])


def _commit(git: Git, revision: str) -> str:
    # A server that tests a pull request knows branches other than its own only through their remote.
    found = git.commit(revision) or git.commit(f"origin/{revision}")
    if found is None:
        raise PipelineError(
            f"{revision}: no branch, tag or commit of this clone.{git.guess(revision)} "
            f"`git fetch origin {revision}` brings it."
        )
    return found


def _remote() -> dict[str, Any]:
    url = remote_url()
    return {"core": {"remote": "environment"}, "remote": {"environment": {"url": url}}} if url else {}


def _nothing(revision: str, absent: set[str], remote: Remote | None) -> str:
    if not absent:
        return f"{revision}: dvc.yaml has no metrics there, so there is nothing to compare."
    named = ", ".join(sorted(absent)[:3]) + (", ..." if len(absent) > 3 else "")
    place = f"{remote.store.url}{remote.store.host}" if remote else "a remote"
    advice = f"Check that {VARIABLE} is where they were pushed to" if remote else f"Set {VARIABLE} to the remote"
    return (
        f"{revision}: its metrics are neither in DVC's cache nor in {place} ({named}). {advice}; where the scores were "
        "made, `dvc push` stores them. A stage that never ran has none: run `dvc repro`."
    )


def _numbers(shown: Mapping[str, Any]) -> tuple[dict[str, Numbers], set[str]]:
    """Numbers of the metrics files that could be read, and the names of the others."""
    if "error" in shown:
        raise PipelineError(f"dvc.yaml or dvc.lock can't be read: {shown['error']}.")
    files = shown.get("data", {})
    for name, found in files.items():
        error = found.get("error")
        if error and not isinstance(error, FileNotFoundError):
            raise PipelineError(
                f"{name}: can't be read: {' '.join(str(error).split()) or type(error).__name__}. Check the file, and "
                "DVC's remote and its credentials: `dvc remote list`."
            ) from error
    read: dict[str, Numbers] = {
        name: dict(flat_numbers(found["data"])) for name, found in files.items() if "data" in found
    }
    return read, {name for name, found in files.items() if "data" not in found}
