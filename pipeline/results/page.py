"""The report's page with what differs in every run: revision, dvc.lock, hardware, latency, durations, exports."""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.messages import PipelineError

if TYPE_CHECKING:
    from pipeline.graph.graph import Stage

_LOCK = Path("dvc.lock")
_DURATIONS = Path(".cache/durations")
_EXPORT = "-export"  # ends the name of what `export` measured beside what `evaluate` did


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
    from pipeline.graph.graph import read_graph, select  # noqa: PLC0415 -- DVC takes a second
    from pipeline.messages import say  # noqa: PLC0415

    graph = read_graph(Path())
    for name, words, task in pages_of(graph, arguments.stage, arguments.output):
        stages = [stage.name for stage in select(graph, [name])]
        with TemporaryDirectory() as folder:
            file = Path(folder, "circumstances.json")
            file.write_text(json.dumps(circumstances(task, stages)), encoding="utf-8")
            ended = subprocess.run([*words, "--circumstances", str(file)], check=False)
        if ended.returncode:
            raise PipelineError(f"{name}: its command ended with {ended.returncode}.")
        say(f"{name}: {arguments.output / name / 'report.html'}")


def pages_of(graph: Sequence["Stage"], target: str, output: Path) -> list[tuple[str, list[str], str]]:
    """Commands that make the pages of a stage: `(name, command, task)`, written to a folder of that name in `output`.

    The task is the last part of the folder of scores, as that of speeds has it.

    Raises:
        PipelineError: no such stage, or one that makes no page.
    """
    from pipeline.graph.graph import select  # noqa: PLC0415

    found = []
    for stage in select(graph, [target]):
        if target not in {stage.name, stage.name.partition("@")[0]}:
            continue
        words = shlex.split(stage.command)
        if words[1:3] != ["-m", "components.report"]:
            raise PipelineError(f"{stage.name}: makes no page. Name a stage of components.report, such as `report`.")
        words[0] = sys.executable
        words[words.index("--output") + 1] = str(output / stage.name)
        found.append((stage.name, words, Path(words[words.index("--scores") + 1]).name))
    return found


def circumstances(task: str, stages: Sequence[str]) -> dict[str, Any]:
    """Revision, lock, time, what was measured of speeds and exports, and how long the stages took, as far as known."""
    from pipeline.working_copy.git import project_git  # noqa: PLC0415

    git = project_git(Path())
    commit = git.commit("HEAD") if git else None
    changed = bool(git and commit and git.run("--work-tree=.", "status", "--porcelain", "--untracked-files=no"))
    files = sorted(Path("data/speed", task).glob("*.json"))
    methods = [file.stem.removesuffix(_EXPORT) for file in files if file.stem.endswith(_EXPORT)]
    durations = {stage: _DURATIONS / f"{stage}.json" for stage in stages}
    return {
        "revision": commit or "",
        "changed": changed,
        "lock": sha256(_LOCK.read_bytes()).hexdigest() if _LOCK.exists() else "",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "durations": {stage: _read(file)["seconds"] for stage, file in durations.items() if file.exists()},
        "speed": {file.stem: _read(file) for file in files if not file.stem.endswith(_EXPORT)},
        "exports": {method: found for method in methods if (found := _export(task, method))},
    }


def _export(task: str, method: str) -> dict[str, Any] | None:
    """What `export` measured of a student's files."""
    costs, losses = (
        Path("data/speed", task, f"{method}{_EXPORT}.json"),
        Path("data/exports", task, method, "losses.json"),
    )
    if not (costs.exists() and losses.exists()):
        return None
    found = _read(losses)
    sizes = {name: values.pop("bytes") for name, values in found.items()}
    return {**_read(costs), "sizes": sizes, "losses": found}


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
