"""Compile dvc.yaml into a Kubeflow pipeline: one task per stage, and a last one that records the run."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from pipeline.graph.graph import Stage, direct_upstream, in_order, select
from pipeline.graph.resources import Resources, read_resources
from pipeline.graph.rules import read_sound_graph
from pipeline.kubeflow import pods
from pipeline.kubeflow.task_component import add_task
from pipeline.project import refuse_unsound
from pipeline.storage.stores import write_whole

COMPILED = Path("pipeline/kubeflow.yaml")
IMAGE = f"{pods.PROJECT}:revision"
PUBLISH = "publish"
# Despite its name, no longest pause: after this time from its first start, a task is not tried again, or is killed in
# its next try. Each pod has its own timeout, so this may be a year; kfp 2.16 itself writes an hour at most.
_RETRY_WINDOW = ("backoffMaxDuration: 3600s", "backoffMaxDuration: 31536000s")
_HEADER = "# Made from dvc.yaml by `python -m pipeline compile`; never edited.\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--output", type=Path, default=COMPILED, metavar="FILE", help=f"default: {COMPILED}")
    parser.add_argument("--image", default=IMAGE, metavar="IMAGE", help=f"the stages' image; default: {IMAGE}")
    add_target_argument(parser)


def add_target_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--targets` to a command."""
    parser.add_argument(
        "--targets", nargs="+", default=[], metavar="STAGE", help="only these stages and what they need; default: all"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the compiled pipeline."""
    refuse_unsound(Path())
    graph = read_sound_graph(Path())
    text = compiled(graph, arguments.image, arguments.targets)
    write_whole(arguments.output, text)
    sys.stdout.write(f"{arguments.output}: {len(select(graph, arguments.targets))} stages\n")


def compiled(graph: Sequence[Stage], image: str = IMAGE, targets: Sequence[str] = ()) -> str:
    """The pipeline as YAML, a document for Kubeflow and one for Kubernetes; the same graph always gives the same bytes.

    Args:
        graph: a graph that `rules.refuse` accepts.
        image: the stages' image.
        targets: only these stages and their ancestors; none = all.

    Raises:
        PipelineError: a target is no stage.
    """
    # kfp inspects every frame of the stack for each of a pod's settings, and a thread of its own has few of them: the
    # default graph takes a second in place of five.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_text, select(graph, targets), image).result()


def _text(stages: Sequence[Stage], image: str) -> str:
    pipeline = _pipeline(stages, image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, str(path))
        return _HEADER + path.read_text(encoding="utf-8").replace(*_RETRY_WINDOW)


def _pipeline(stages: Sequence[Stage], image: str) -> Any:
    def pipeline(revision: str = "", repository: str = "", overrides: str = "{}", name: str = "") -> None:
        source = {"revision": revision, "repository": repository, "overrides": overrides}
        tasks: dict[str, dsl.PipelineTask] = {}
        for stage in in_order(stages):
            upstream = [tasks[above] for above in direct_upstream(stages, stage.name)]
            words = ["task", "--stage", stage.name]
            tasks[stage.name] = add_task(stage.name, image, words, source, upstream, _shown(stage))
            pods.configure_stage(tasks[stage.name], stage, image)
        followed = {above for stage in stages for above in stage.upstream}
        last = [task for stage, task in tasks.items() if stage not in followed]
        publish = add_task(PUBLISH, image, [PUBLISH], {**source, "name": name}, last, {})
        publish.set_display_name(PUBLISH)
        pods.configure(publish, Resources(), image, {"app.kubernetes.io/component": PUBLISH})

    description = "dvc.yaml, one task a stage. DVC decides which stages have to run."
    return dsl.pipeline(pipeline, name=pods.PROJECT, description=description)


def _shown(stage: Stage) -> dict[str, type[dsl.Artifact]]:
    """Artifacts of a stage that Kubeflow's UI shows."""
    shown: dict[str, type[dsl.Artifact]] = {}
    if any(output.metric for output in stage.outputs):
        shown["metrics"] = dsl.Metrics
    if read_resources(stage).page:
        shown["page"] = dsl.HTML
    return shown
