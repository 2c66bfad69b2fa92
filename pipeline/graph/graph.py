"""dvc.yaml as plain values: every stage with its matrix resolved, and the edges between them, as DVC sees them."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.stage import PipelineStage

from pipeline.messages import PipelineError, did_you_mean


@dataclass(frozen=True)
class Output:
    """One output of a stage: its path, whether DVC caches it, and whether it stays in place before a run."""

    path: str
    cached: bool
    persisted: bool
    metric: bool
    external: bool = False


@dataclass(frozen=True)
class Stage:
    """One resolved stage.

    Attributes:
        name: `file@entry-entry`, entries of the matrix in the order of dvc.yaml.
        command: what runs it; several commands are joined by newlines.
        dependencies: paths of files and folders it reads.
        params: keys of params.yaml it depends on.
        outputs: what it writes.
        upstream: names of the stages whose outputs it reads, sorted.
        always_changed: whether it runs every time, whatever changed.
        frozen: whether DVC never runs it again.
        file: the dvc.yaml that states it.
        description: its `desc`.
        meta: its `meta`, which DVC does not hash.
    """

    name: str
    command: str
    dependencies: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[Output, ...]
    upstream: tuple[str, ...]
    always_changed: bool
    frozen: bool = False
    file: str = "dvc.yaml"
    description: str = ""
    meta: dict[str, Any] = field(default_factory=dict, hash=False)


def _path(reference: Any, root: str) -> str:
    """Path relative to the project's root, or as dvc.yaml has it if it is outside."""
    if not reference.is_in_repo:
        return str(reference.def_path)
    return posixpath.relpath(Path(reference.fs_path).as_posix(), Path(root).as_posix())


def as_value(stage: PipelineStage, upstream: Iterable[Any], root: str) -> Stage:
    """A stage of DVC as a plain value; `upstream` are those whose outputs it reads."""
    return Stage(
        name=stage.name,
        command=stage.cmd if isinstance(stage.cmd, str) else "\n".join(stage.cmd),
        dependencies=tuple(_path(dep, root) for dep in stage.deps if not hasattr(dep, "params")),
        params=tuple(str(key) for dep in stage.deps if hasattr(dep, "params") for key in dep.params),
        outputs=tuple(
            Output(_path(out, root), bool(out.use_cache), bool(out.persist), bool(out.metric), not out.is_in_repo)
            for out in stage.outs
        ),
        upstream=tuple(sorted(above.name for above in upstream if isinstance(above, PipelineStage))),
        always_changed=bool(stage.always_changed),
        frozen=bool(stage.frozen),
        file=stage.path_in_repo,
        description=stage.desc or "",
        meta=stage.meta or {},
    )


def read_graph(folder: Path) -> tuple[Stage, ...]:
    """Read the graph of the DVC project in `folder`, in the order of dvc.yaml.

    Files tracked by `dvc add` are data, not stages, and are left out.

    Raises:
        dvc.exceptions.DvcException: dvc.yaml is not valid, or two stages write the same output.
    """
    with Repo(str(folder)) as repo:
        index = repo.index
        return tuple(
            as_value(stage, index.graph.successors(stage), repo.root_dir)
            for stage in index.stages
            if isinstance(stage, PipelineStage)
        )


def ancestors(graph: Sequence[Stage], name: str) -> frozenset[str]:
    """Names of all stages that `name` depends on, directly or not, without `name` itself."""
    upstream = {stage.name: stage.upstream for stage in graph}
    found: set[str] = set()
    waiting = list(upstream[name])
    while waiting:
        above = waiting.pop()
        if above not in found:
            found.add(above)
            waiting.extend(upstream[above])
    return frozenset(found)


def named(names: Sequence[str], target: str) -> list[str]:
    """The stage with a name, or all entries of the matrix with that name.

    Raises:
        PipelineError: there is none.
    """
    found = [name for name in names if target in (name, name.partition("@")[0])]
    if not found:
        guess = did_you_mean(target, [*names, *(name.partition("@")[0] for name in names)])
        raise PipelineError(f"dvc.yaml: no stage {target!r}.{guess} There are: {', '.join(names)}.")
    return found


def select(graph: Sequence[Stage], targets: Sequence[str]) -> tuple[Stage, ...]:
    """The targets with all their ancestors, in the order of the graph; without targets, the whole graph.

    Args:
        graph: all stages.
        targets: stage names, or names of matrix stages without `@...` for all of their entries, as DVC takes them.

    Raises:
        PipelineError: a target is no stage.
    """
    if not targets:
        return tuple(graph)
    chosen: set[str] = set()
    for target in targets:
        names = named([stage.name for stage in graph], target)
        chosen.update(names, *(ancestors(graph, name) for name in names))
    return tuple(stage for stage in graph if stage.name in chosen)


def in_order(graph: Sequence[Stage]) -> list[Stage]:
    """The stages, each after those it depends on; the same graph always gives the same order."""
    stages = {stage.name: stage for stage in graph}
    upstream = {name: [above for above in stage.upstream if above in stages] for name, stage in stages.items()}
    return [stages[name] for name in TopologicalSorter(upstream).static_order()]


def direct_upstream(graph: Sequence[Stage], name: str) -> tuple[str, ...]:
    """Upstream stages that no other upstream stage implies: the edges that people draw, sorted."""
    upstream = next(stage.upstream for stage in graph if stage.name == name)
    implied = frozenset[str]().union(*(ancestors(graph, above) for above in upstream))
    return tuple(above for above in upstream if above not in implied)
