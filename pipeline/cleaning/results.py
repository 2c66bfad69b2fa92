"""Results that nothing needs: experiments that nobody named, and objects of DVC's cache that no revision refers to."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from dvc.repo import Repo
from dvc.repo.experiments.utils import exp_commits, exp_refs, gen_random_name, remove_exp_refs
from dvc.scm import NoSCM

from pipeline.graph.remains import mend_remains
from pipeline.messages import PipelineError


@dataclass(frozen=True)
class Results:
    """What nothing needs.

    Attributes:
        experiments: DVC's references of experiments that have a name by chance.
        objects: sizes of the cache's objects, by their paths.
        shared: where the cache lies if it is not the project's own, and so is left alone; or ''.
    """

    experiments: list[Any]
    objects: dict[Path, int]
    shared: str = ""


def unneeded_results(repo: Repo, *, keep_experiments: bool) -> Results:
    """What neither the working tree, nor a branch, a tag or a named experiment needs.

    Of an output whose list of files is nowhere, no file can be known, and none is kept: nothing could place it.

    Args:
        repo: the project.
        keep_experiments: take every experiment for one that a person named.

    Raises:
        PipelineError: there is no git repository.
        dvc.exceptions.DvcException: a revision's graph can't be read, so that what it needs is not known.
    """
    if isinstance(repo.scm, NoSCM):
        raise PipelineError(f"{repo.root_dir}: no git repository, so what branches and experiments need is not known.")
    every = sorted(exp_refs(repo.scm), key=str)
    unnamed = [] if keep_experiments else [one for one in every if named_by_chance(one.name)]
    named = [one for one in every if one not in unnamed]
    if not Path(repo.cache.local_cache_dir).resolve().is_relative_to(Path(repo.root_dir).resolve()):
        return Results(unnamed, {}, repo.cache.local_cache_dir)
    commits = list(exp_commits(repo.scm, named)) if named else []
    with repo.lock:
        used = repo.used_objs(all_branches=True, all_tags=True, revs=commits, force=True)
        needed = {item.value for items in used.values() for item in items}
        objects = {path: path.stat().st_size for name, path in _objects(repo) if name not in needed}
    return Results(unnamed, objects)


def remove_results(repo: Repo, results: Results) -> None:
    """Remove them: the references by DVC, then by DVC's own garbage collection what they alone needed."""
    if results.experiments:
        remove_exp_refs(repo.scm, results.experiments)
    if results.objects:
        repo.gc(workspace=True, all_branches=True, all_tags=True, all_experiments=True, force=True)


def named_by_chance(name: str) -> bool:
    """Whether an experiment has a name that DVC drew from its own lists of words: `ADJECTIVE-NOUN`."""
    lists = [found for found in gen_random_name.__code__.co_consts if isinstance(found, tuple)]
    parts = name.split("-")
    return len(parts) == 2 and all(any(part in words for words in lists) for part in parts)


def refuse_while_running(repo: Repo) -> None:
    """Refuse to remove anything while DVC runs a stage, here or in an experiment's own copy of the project.

    Raises:
        PipelineError: it does.
    """
    mend_remains(Path(repo.root_dir), Path(repo.cache.local_cache_dir))
    found: set[int] = set()
    for file in Path(repo.tmp_dir).glob("**/rwlock"):
        held = json.loads(file.read_bytes())
        holders = [*held.get("write", {}).values(), *(one for some in held.get("read", {}).values() for one in some)]
        found |= {one["pid"] for one in holders if psutil.pid_exists(one["pid"])}
    if found:
        processes = ", ".join(map(str, sorted(found)))
        raise PipelineError(f"DVC runs a stage in process {processes}: run this again once it has ended.")


def _objects(repo: Repo) -> Iterator[tuple[str, Path]]:
    """Names and paths of all objects of the cache."""
    databases = {id(one): one for _, one in repo.cache.by_scheme() if one and one.fs.protocol == "local"}
    for database in databases.values():
        for name in database.all():
            yield name, Path(database.oid_to_path(name))
