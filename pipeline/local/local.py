"""Run the compiled pipeline in containers on this machine."""

import argparse
import signal
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.kubeflow.compile import PUBLISH
from pipeline.kubeflow.run_request import add_run_arguments, read_request
from pipeline.local.containers import engine, require_image
from pipeline.local.run import LocalRun
from pipeline.local.settings import Machine
from pipeline.messages import PipelineError

RUNS = Path(".cache/pipeline/runs")
SHARED = Path(".cache/pipeline/shared")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--name", default="local", help="name of the run, and of the DVC experiment that it becomes")
    add_run_arguments(parser)
    parser.add_argument(
        "--shared", type=Path, default=SHARED, metavar="FOLDER", help=f"stands for the shared volume; default: {SHARED}"
    )
    parser.add_argument(
        "--mount", action="append", default=[], metavar="SOURCE:TARGET", help="a folder for all containers; repeatable"
    )
    parser.add_argument("--network", help="of the engine; `host` reaches servers of this machine on 127.0.0.1")
    parser.add_argument("--gpus", action="store_true", help="give tasks the GPUs that they ask for")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="tasks at the same time; default: 1")
    parser.add_argument("--retries", type=int, metavar="N", help="tries after a failure; default: as in dvc.yaml")
    parser.epilog = (
        "What tasks get from secrets on a cluster (DVC_REMOTE_URL, AWS_ACCESS_KEY_ID, ...) comes from variables of "
        "the same names. Requests and limits of CPU and memory are not applied here."
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the pipeline; print its log, then the scores and where dvc.lock is."""
    if arguments.parallel < 1 or (arguments.retries or 0) < 0:
        raise PipelineError("--parallel must be at least 1, --retries at least 0.")
    request = read_request(arguments)
    client = engine()
    require_image(client, arguments.image)
    machine = Machine(
        shared=_writable(arguments.shared),
        mounts=dict(_mount(text) for text in arguments.mount),
        network=arguments.network,
        gpus=arguments.gpus,
        retries=arguments.retries,
        init=bool(client.info().get("InitBinary")),
    )
    folder = (RUNS / f"{request.name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}").resolve()
    local_run = LocalRun(request.pipeline, folder, machine, _write)
    for task in local_run.tasks.values():
        if task.settings.alone:
            _write(task.name, "asks for several nodes; here it runs on this machine alone")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    local_run.run(request.parameters, arguments.parallel)
    sys.stdout.writelines(f"{line}\n" for line in summary(local_run.outputs))


def summary(outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Scores of all tasks, then where pages and the whole dvc.lock are.

    Args:
        outputs: artifacts by the names of tasks.
    """
    for task, artifacts in outputs.items():
        if "metrics" in artifacts:
            yield from (f"{task}  {name} = {value:g}" for name, value in sorted(artifacts["metrics"].metadata.items()))
    for task, artifacts in outputs.items():
        if "page" in artifacts:
            yield f"{task}  page: {artifacts['page'].path}"
    if PUBLISH in outputs:
        yield f"dvc.lock of the run: {outputs[PUBLISH]['lock'].path}"


def _write(task: str, line: str) -> None:
    sys.stdout.write(f"{task} | {line}\n")
    sys.stdout.flush()


def _writable(folder: Path) -> Path:
    """A folder that users inside containers may write to; an existing one stays as it is."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    return folder.resolve()


def _mount(text: str) -> tuple[Path, str]:
    source, colon, target = text.partition(":")
    if not colon or not Path(source).exists() or not target.startswith("/"):
        raise PipelineError(f"--mount {text}: expected SOURCE:TARGET, a folder that exists here and an absolute path.")
    return Path(source).resolve(), target
