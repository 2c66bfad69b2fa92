"""dvc.yaml as plain values: every stage with its matrix resolved, and the edges between them, as DVC sees them."""

from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo


@dataclass(frozen=True)
class Output:
    """One output of a stage: its path, and whether DVC caches it and may leave it in place before a run."""

    path: str
    cached: bool
    persisted: bool
    metric: bool


@dataclass(frozen=True)
class Stage:
    """One resolved stage.

    Attributes:
        name: `file@entry-entry`, entries of the matrix in the order of dvc.yaml.
        command: what runs it.
        dependencies: paths of files and folders it reads.
        params: keys of params.yaml it depends on.
        outputs: what it writes.
        upstream: names of the stages whose outputs it reads, sorted.
        always_changed: whether it runs every time, whatever changed.
    """

    name: str
    command: str
    dependencies: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[Output, ...]
    upstream: tuple[str, ...]
    always_changed: bool


def read_graph(folder: Path) -> tuple[Stage, ...]:
    """Read the graph of the DVC project in `folder`, in the order of dvc.yaml.

    Raises:
        dvc.exceptions.DvcException: dvc.yaml is not valid, or two stages write the same output.
    """
    with Repo(str(folder)) as repo:
        index = repo.index
        return tuple(
            Stage(
                name=stage.name,
                command=stage.cmd,
                dependencies=tuple(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
                params=tuple(str(key) for dep in stage.deps if hasattr(dep, "params") for key in dep.params),
                outputs=tuple(
                    Output(out.def_path, bool(out.use_cache), bool(out.persist), bool(out.metric)) for out in stage.outs
                ),
                upstream=tuple(sorted(above.name for above in index.graph.successors(stage))),
                always_changed=bool(stage.always_changed),
            )
            for stage in index.stages
        )
