"""What DVC knows about a stage: whether it has to run, why, what identifies the run, and its files in the cache."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.loader import StageLoader

from pipeline.deciding.run_cache import RunCache, cache_key
from pipeline.graph.graph import named
from pipeline.messages import PipelineError
from pipeline.project import without_secrets
from pipeline.storage.cache_objects import roots
from pipeline.storage.remote import Remote

_EXITED = re.compile(r"exited with (-?\d+)$")


class StageFailedError(Exception):
    """A stage's command ended with an error; `code` is its exit code as a shell reports it."""

    def __init__(self, name: str, code: int) -> None:
        self.code = code if code > 0 else 128 - code
        super().__init__(f"stage {name!r} failed with exit code {self.code}; its own messages are above.")


def find_stages(stages: Iterable[Any], name: str) -> list[Any]:
    """DVC's stage with a name, or all entries of the matrix with that name.

    Raises:
        PipelineError: there is none.
    """
    by_name = {stage.name: stage for stage in stages}
    return [by_name[found] for found in named(list(by_name), name)]


def find_stage(stages: Iterable[Any], name: str) -> Any:
    """The one stage with a name.

    Raises:
        PipelineError: there is none, or the name is that of a whole matrix.
    """
    first, *others = find_stages(stages, name)
    if others:
        names = ", ".join(stage.name for stage in (first, *others))
        raise PipelineError(f"{name!r} is a matrix; name one of its entries: {names}.")
    return first


def run_order(repo: Repo, targets: list[Any] | None = None) -> list[Any]:
    """The targets (default: all stages) and what they depend on, in the order in which `dvc repro` runs them."""
    return list(plan_repro(get_active_graph(repo.index.graph), targets or repo.index.stages))


def upstream_of(repo: Repo, stage: Any) -> list[Any]:
    """Stages whose outputs a stage reads."""
    return list(repo.index.graph.successors(stage))


def reasons(stage: Any, upstream: Sequence[Any]) -> list[str]:
    """Why DVC would run a stage, given the outputs of those above it; empty if it would not.

    The data may be absent: a missing dependency is compared by what its own stage's entry in dvc.lock says. The
    repository must be locked.
    """
    new_outs = [f"output {out.def_path} was never made" for out in stage.outs if not out.hash_info]
    if not stage.changed(True, list(upstream)):
        return new_outs
    if len(new_outs) == len(stage.outs):
        return ["never run"]
    found = ["its command changed"] if stage.cmd_changed else []
    files = [dependency for dependency in stage.deps if not isinstance(dependency, ParamsDependency)]
    for params in (dependency for dependency in stage.deps if dependency not in files):
        old, new = params.hash_info.value or {}, params.read_params()
        for key in params.params or sorted({*old, *new}):
            found += (f"param {line}" for line in _differences(key, old.get(key), new.get(key)))
    if changed := [file.def_path for file in files if _changed(file, upstream)]:
        found.append(f"changed: {', '.join(changed)}")
    return [*found, *new_outs] or ["DVC says that it changed"]


def _differences(key: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield f"{key}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "none" if value is None else without_secrets(str(value))  # a secret that is cut short is not found
    return text if len(text) <= 40 else f"{text[:37]}..."


def _changed(dependency: Any, upstream: Iterable[Any]) -> bool:
    if dependency.exists:
        return bool(dependency.status())
    made = [out for stage in upstream for out in stage.outs if out.fs_path == dependency.fs_path]
    return any(out.hash_info != dependency.hash_info for out in made)


def run_key(stage: Any, upstream: Iterable[Any]) -> str | None:
    """Identifies a run before it starts: SHA-256 of command, params, hashes of dependencies, paths of outputs.

    It is the key of DVC's run cache. The call gives the stage's dependencies the hashes of this run. The repository
    must be locked.

    Returns:
        64 hex digits; None if DVC keeps no runs of the stage.
    """
    made = {out.fs_path: out for above in upstream for out in above.outs}
    for dependency in stage.deps:
        above = made.get(dependency.fs_path)
        if above is None or dependency.exists:
            dependency.save()
        else:
            dependency.hash_info, dependency.meta = above.hash_info, above.meta
    return cache_key(stage)


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs.

    Attributes:
        reasons: why its entry in dvc.lock is out of date; empty if it is not.
        key: what identifies the run; None if nothing has to be done, or DVC keeps no runs of the stage.
        earlier: the entry that an earlier run with the same inputs left, if there was one.
    """

    reasons: tuple[str, ...]
    key: str | None = None
    earlier: dict[str, Any] | None = None

    @property
    def runs(self) -> bool:
        """Whether its command runs."""
        return bool(self.reasons) and self.earlier is None


def decide(repo: Repo, stage: Any, upstream: Sequence[Any], remote: Remote | None, runs: RunCache | None) -> Decision:
    """Decide whether a stage runs, from what dvc.lock says about the outputs of the stages above it.

    Afterwards the stage has the hashes of its entry in dvc.lock, or of an earlier run.

    Args:
        repo: the project.
        stage: one of its stages.
        upstream: the stages above it whose outputs are known.
        remote: asked whether it has the outputs; None = not asked.
        runs: asked for an earlier run; None = not asked.
    """
    with repo.lock:
        why = reasons(stage, upstream)
        if not why and remote and not all(map(remote.holds, roots(stage.outs))):
            why = ["its outputs are not in the remote"]
        if not why or runs is None:
            return Decision(tuple(why))
        key = run_key(stage, upstream)
        earlier = runs.find(stage, key) if key else None
        if earlier:
            StageLoader.fill_from_lock(stage, earlier)
    return Decision(tuple(why), key, earlier)


def run_again(repo: Repo, name: str) -> Any:
    """Run one stage, but not as a "single item", because DVC would then not see that its inputs changed.

    Returns:
        The stage as it ran.

    Raises:
        StageFailedError: its command failed.
        PipelineError: another stage ran too, or none did.
    """
    try:
        done = repo.reproduce([name], allow_missing=True)
    except DvcException as error:
        code = _exit_code(error)
        if code is None:
            raise
        raise StageFailedError(name, code) from error
    names = [stage.name for stage in done]
    if names != [name]:
        ran = ", ".join(names) or "nothing"
        raise PipelineError(f"In the task of {name}, DVC ran {ran}; nothing was pushed. Please report this.")
    return done[0]


def _exit_code(error: BaseException | None) -> int | None:
    """The exit code of a stage's command, if that made DVC stop; DVC keeps it only in the message."""
    while error is not None and not isinstance(error, StageCmdFailedError):
        error = error.__cause__
    found = _EXITED.search(str(error)) if error else None
    return int(found[1]) if found else None
