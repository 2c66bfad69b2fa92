"""The report's page with what differs in every run: revision, dvc.lock, hardware, latency."""

import argparse
import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import PipelineError

_LOCK = Path("dvc.lock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("stage", nargs="?", default="report", help="a report's stage, @TASK as well where several are")
    parser.add_argument("--output", type=Path, default=Path("data/pages"), metavar="DIR", help="default: data/pages")
    parser.epilog = "Runs the stage's own command, so its inputs must be there; what DVC keeps stays as it is."


def run(arguments: argparse.Namespace) -> None:
    """Make a page for each of the stage's tasks.

    Raises:
        PipelineError: no such stage, or one that makes no page, or its command fails.
    """
    from pipeline.graph import read_graph, select  # noqa: PLC0415 -- DVC takes a second
    from pipeline.say import say  # noqa: PLC0415

    graph = read_graph(Path())
    names = {arguments.stage}
    stages = [one for one in select(graph, [arguments.stage]) if names & {one.name, one.name.partition("@")[0]}]
    for stage in stages:
        words = shlex.split(stage.command)
        if "--output" not in words or "components.report" not in words:
            raise PipelineError(f"{stage.name}: makes no page. Name a stage of components.report, as `report`.")
        output = arguments.output / stage.name
        words[words.index("--output") + 1] = str(output)
        words[0] = sys.executable
        with TemporaryDirectory() as folder:
            file = Path(folder, "circumstances.json")
            file.write_text(json.dumps(circumstances(_task(words))), encoding="utf-8")
            ended = subprocess.run([*words, "--circumstances", str(file)], check=False)
        if ended.returncode:
            raise PipelineError(f"{stage.name}: its command ended with {ended.returncode}.")
        say(f"{stage.name}: {output / 'report.html'}")


def circumstances(task: str) -> dict[str, Any]:
    """Revision, lock, time, and what `evaluate` measured of each method's speed, as far as there is any."""
    from pipeline.git import project_git  # noqa: PLC0415

    git = project_git(Path())
    commit = git.commit("HEAD") if git else None
    changed = bool(git and commit and git.run("--work-tree=.", "status", "--porcelain", "--untracked-files=no"))
    speed = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(_speeds(task))}
    return {
        "revision": commit or "",
        "changed": changed,
        "lock": sha256(_LOCK.read_bytes()).hexdigest() if _LOCK.exists() else "",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "speed": speed,
    }


def _task(words: list[str]) -> str:
    """Name of the task's folders: the last part of the scores' folder."""
    return Path(words[words.index("--scores") + 1]).name


def _speeds(task: str) -> list[Path]:
    return list(Path("data/speed", task).glob("*.json"))
