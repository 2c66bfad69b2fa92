"""The rules that let a graph's stages run on different machines, checked before anything else."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.graph.graph import Stage, read_graph
from pipeline.graph.resources import read_resources
from pipeline.messages import PipelineError


def faults(stage: Stage) -> Iterator[str]:
    """Why `stage` can't run on a cluster, one sentence each."""
    if stage.file != "dvc.yaml":
        yield "lies in a dvc.yaml of a folder; put every stage into the project's own dvc.yaml"
    if stage.frozen:
        yield "`frozen` stages never run, so a cluster has nothing to pass on; remove `frozen`"
    if stage.always_changed:
        yield "`always_changed` runs it again in every run, and so all that follows; list what it depends on instead"
    if not stage.dependencies and not stage.params:
        yield "has neither deps nor params, so nothing says when it has to run; list what it depends on"
    for output in stage.outputs:
        if output.external:
            yield f"output {output.path} lies outside the project, where DVC can't keep it; write it inside"
        elif not output.cached:
            yield f"output {output.path} has `cache: false`, so no other machine can get it; remove `cache: false`"
        elif output.persisted:
            yield f"output {output.path} has `persist: true`, so it isn't made from its inputs alone; remove `persist`"


def refuse(graph: Sequence[Stage]) -> None:
    """Check the whole graph.

    Raises:
        PipelineError: stages that can't run on a cluster, each with its reason, or wrong resources.
    """
    found = [f"{stage.file}: stage {stage.name!r}: {fault}." for stage in graph for fault in faults(stage)]
    for stage in graph:
        try:
            read_resources(stage)
        except PipelineError as error:
            found.append(str(error))
    if not graph:
        found.append("dvc.yaml: there is no stage.")
    if found:
        raise PipelineError("\n".join(found))


def read_sound_graph(folder: Path) -> tuple[Stage, ...]:
    """Read the graph of `folder` and refuse it if it can't run on a cluster."""
    graph = read_graph(folder)
    refuse(graph)
    return graph
