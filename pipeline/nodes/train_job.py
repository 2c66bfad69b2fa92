"""Run a training step on several nodes, as a TrainJob of Kubeflow Trainer v2 that this process makes, follows and ends.

It is meant as a `STEP_LAUNCHER`: the stage's own task, which needs no GPU, waits here and copies the nodes' logs.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from pipeline.messages import PipelineError
from pipeline.nodes.kubernetes_api import KubernetesApi
from pipeline.nodes.launched_job import LaunchedJob
from pipeline.nodes.train_job_manifest import Command, Nodes, train_job

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What tells tracking on the nodes which run is theirs. Not the pod's name, because another try finds the same job.
_TOLD = (
    *("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "GIT_REVISION", "IMAGE_DIGEST", "KFP_RUN_ID"),
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--nodes", type=_at_least(1), required=True, metavar="N", help="machines")
    parser.add_argument(
        "--gpus-per-node", type=_at_least(0), required=True, metavar="N", help="0 = one process on the CPU"
    )
    parser.add_argument("--image", required=True, help="image of every node: that of this task")
    parser.add_argument("--runtime", required=True, metavar="NAME", help="a TrainingRuntime or ClusterTrainingRuntime")
    parser.add_argument(
        "--timeout", type=_at_least(1), required=True, metavar="SECONDS", help="end the job after this time"
    )
    parser.add_argument("--namespace", help="default: this pod's, or the kubeconfig's")
    parser.add_argument("--accelerator", default="nvidia.com/gpu", metavar="RESOURCE", help="default: %(default)s")
    parser.add_argument("--cpu-per-node", metavar="QUANTITY", help="default: as the runtime says")
    parser.add_argument("--memory-per-node", metavar="QUANTITY", help="default: as the runtime says")
    parser.add_argument(
        "--key",
        default=os.environ.get("TRAIN_JOB_KEY"),
        help="the same for every try of one task: a try deletes the job that the previous one left "
        "(default: $TRAIN_JOB_KEY, or the working directory)",
    )
    parser.add_argument("--poll", type=float, default=5.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument(
        "--patience", type=float, default=300.0, metavar="SECONDS", help="outage to wait out (default: %(default)s)"
    )
    parser.add_argument(
        "-m", dest="words", nargs=argparse.REMAINDER, required=True, metavar="MODULE", help="what each process runs"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the job to its end, and delete it.

    Raises:
        PipelineError: the job failed, took too long, or the cluster refused it.
        SystemExit: this process was asked to stop.
    """
    if not arguments.words:
        raise PipelineError("-m: nothing to run. Write a module and its arguments last: `-m MODULE ...`.")
    told = {name: os.environ[name] for name in _TOLD if os.environ.get(name)}
    command = Command(tuple(arguments.words), str(Path.cwd()), told)
    nodes = Nodes(
        arguments.nodes,
        arguments.gpus_per_node,
        arguments.accelerator,
        arguments.cpu_per_node,
        arguments.memory_per_node,
    )
    with _stopped_by_signals():
        api = KubernetesApi(arguments.namespace, arguments.patience)
        manifest = train_job(
            name=command.name(arguments.key or command.folder),
            namespace=api.namespace,
            runtime=(api.runtime_kind(arguments.runtime), arguments.runtime),
            image=arguments.image,
            command=command,
            nodes=nodes,
            seconds=arguments.timeout,
            owner=api.own_pod(),
        )
        job = LaunchedJob(api, manifest, arguments.poll)
        try:
            job.start()
            job.follow(arguments.timeout)
        finally:
            _ignore_signals()
            job.end()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT unwind the stack."""

    def stop(number: int, _: FrameType | None) -> None:
        _ignore_signals()
        sys.stderr.write(f"stopped by {signal.Signals(number).name}\n")
        sys.exit(128 + number)

    former = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """Ignore further signals, so that nothing keeps the job from being deleted."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number
