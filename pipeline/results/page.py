"""The report's page with what differs in every run: revision, dvc.lock, hardware, latency, durations, exports."""

import argparse
import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import project
from pipeline.messages import PipelineError, say

if TYPE_CHECKING:
    from pipeline.graph.graph import Stage

_LOCK = Path("dvc.lock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "stage", nargs="?", default=project.PAGE_STEP, help="a report's stage, with @TASK if there are several"
    )
    parser.add_argument("--output", type=Path, default=project.PAGES, metavar="DIR", help=f"default: {project.PAGES}")
    parser.epilog = "Runs the stage's own command, so its inputs must exist; DVC's outputs stay as they are."


def run(arguments: argparse.Namespace) -> None:
    """Make a page for each of the stage's tasks.

    Raises:
        PipelineError: no such stage, or one that makes no page, or its command fails.
    """
    from pipeline.graph.graph import read_graph, select  # noqa: PLC0415 -- DVC takes a second

    graph = read_graph(Path())
    for name, words, task in pages_of(graph, arguments.stage, arguments.output):
        stages = [stage.name for stage in select(graph, [name])]
        with TemporaryDirectory() as folder:
            file = Path(folder, "circumstances.json")
            file.write_text(json.dumps(circumstances(task, stages)), encoding="utf-8")
            ended = subprocess.run(project.with_circumstances(words, file), check=False)
        if ended.returncode:
            raise PipelineError(f"{name}: its command failed with exit code {ended.returncode}.")
        say(f"{name}: {arguments.output / name / project.PAGE}")


def pages_of(graph: Sequence["Stage"], target: str, output: Path) -> list[tuple[str, list[str], str]]:
    """Commands that make the pages of a stage: `(name, command, task)`, written to a folder of that name in `output`.

    Raises:
        PipelineError: no such stage, or one that makes no page.
    """
    from pipeline.graph.graph import select  # noqa: PLC0415

    found = []
    for stage in select(graph, [target]):
        if target not in {stage.name, stage.name.partition("@")[0]}:
            continue
        command = project.page_command(stage.command, output / stage.name)
        if command is None:
            raise PipelineError(f"{stage.name}: makes no page. Name a stage of the step {project.PAGE_STEP}.")
        found.append((stage.name, *command))
    return found


def circumstances(task: str, stages: Sequence[str]) -> dict[str, Any]:
    """Revision, lock, time, measurements of speeds and exports, and how long the stages took, as far as known."""
    from pipeline.working_copy.git import project_git  # noqa: PLC0415

    git = project_git(Path())
    commit = git.commit("HEAD") if git else None
    changed = bool(git and commit and git.run("--work-tree=.", "status", "--porcelain", "--untracked-files=no"))
    return {
        "revision": commit or "",
        "changed": changed,
        "lock": sha256(_LOCK.read_bytes()).hexdigest() if _LOCK.exists() else "",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "durations": {stage: took.seconds for stage in stages if (took := project.took(stage))},
        "speed": project.speeds_of(task),
        "exports": project.exports_of(task),
    }
