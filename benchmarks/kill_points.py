"""What a kill leaves: kills a small chain wherever a file or folder comes to be, and at random moments; then goes on.

`python -m benchmarks.kill_points [--random 20] [--most N] [--stages fetch train_teacher]` takes a copy of the
project in a small size. Of each stage one run is traced by an audit hook in all of its Python processes, DVC's and
the step's. Then, from the state before the stage, it is killed once at each place: after an opening for writing (the
file is empty), before a renaming, after the making of a folder. After every kill, `python -m pipeline check` and
`dvc repro` must lead to the files and the dvc.lock of the unbroken run. Half of the random kills hit DVC alone, as
the kernel may for want of memory.
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.test_chain import shrink

ROOT = Path(__file__).parents[1]
STAGES = ("fetch", "validate", "build_lmdb", "train_teacher")
STEPS = 30
SEED = 0

HOOK = """
import os, re, signal, sys

_HERE, _LOG, _AT = os.environ["KILL_HERE"], os.environ["KILL_LOG"], os.environ.get("KILL_AT")
_LOG = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_NUMBERS = re.compile(r"[A-Za-z0-9_-]{20,}|[0-9a-f]{8,}|(?<=/)[0-9a-f]{2}(?=/)|[0-9]+")
_seen, _inside = {}, []


def _hook(event, arguments):
    if _inside or event not in ("open", "os.rename", "os.mkdir"):
        return
    path, mode, flags = (*arguments, None, None)[:3]
    path = arguments[1] if event == "os.rename" else path
    if not isinstance(path, (str, bytes)) or event == "open" and not (flags or 0) & (os.O_WRONLY | os.O_RDWR):
        return
    path = os.path.abspath(os.fsdecode(path))
    if not path.startswith(_HERE + "/") or "__pycache__" in path:
        return
    place = f"{sys.argv[0].rpartition('/')[2]} {event} {_NUMBERS.sub('#', path[len(_HERE) + 1:])}"
    _seen[place] = _seen.get(place, 0) + 1
    _inside.append(place)
    os.write(_LOG, f"{place} {_seen[place]}\\n".encode())
    if f"{place} {_seen[place]}" == _AT:
        if event == "open":
            os.open(path, flags, 0o666)
        if event == "os.mkdir":
            os.makedirs(path, exist_ok=True)
        os.killpg(0, signal.SIGKILL)
    _inside.clear()


sys.addaudithook(_hook)
"""


@dataclass
class Result:
    """How the kills ended.

    Attributes:
        kills: how many there were.
        equal: after how many the files were those of the unbroken run.
        advised: after how many `check` named a command to type, which was then typed.
        faults: what went wrong, by the place of the kill.
    """

    kills: int = 0
    equal: int = 0
    advised: int = 0
    faults: dict[str, str] = field(default_factory=dict)


class Chain:
    """A copy of the project in a folder of its own, from which others are copied, killed and continued."""

    def __init__(self, place: Path) -> None:
        self.place, self.hook, self.numbers = place, place / "hook", itertools.count()
        self.hook.mkdir()
        (self.hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")

    def make(self) -> Path:
        """Write the project, in which nothing has run; `check` has found it without fault."""
        folder = self.place / "start"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if name != "dvc.lock" and not name.startswith("tests/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        shrink(params)
        params["teachers"]["sr"]["training"]["steps"] = STEPS
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        self.settle(folder)
        for words in (["git", "init", "-q"], [sys.executable, "-m", "components", "list_dependencies"], CHECK):
            self.run(folder, words)
        return folder

    def copy(self, folder: Path, name: str) -> Path:
        """Copy a project as it is."""
        target = self.place / f"{name} {next(self.numbers)}"
        shutil.copytree(folder, target, symlinks=True)
        self.settle(target)
        return target

    @staticmethod
    def settle(folder: Path) -> None:
        """Let DVC keep all that it knows in the project itself."""
        text = f"[core]\n    site_cache_dir = {folder}/.dvc/site\n    analytics = false\n"
        (folder / ".dvc" / "config.local").write_text(text, encoding="utf-8")

    def start(self, folder: Path, words: list[str], **environment: str) -> "subprocess.Popen[str]":
        """Start a command in a group of its own."""
        known = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.hook) if environment else "",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_TRACKING_URI": "",
            **environment,
        }
        output = subprocess.PIPE
        return subprocess.Popen(words, cwd=folder, env=known, stdout=output, stderr=subprocess.STDOUT, text=True,
                                start_new_session=True)  # fmt: skip

    def run(self, folder: Path, words: list[str]) -> str:
        """Run a command that must succeed.

        Raises:
            RuntimeError: it failed; holds what it said.
        """
        running = self.start(folder, words)
        said, _ = running.communicate()
        if running.returncode:
            raise RuntimeError(said)
        return said

    def traced(self, folder: Path, stage: str) -> tuple[list[str], float]:
        """Run a stage, and return where it can be killed, and its seconds.

        Of a place that is passed many times (an object of the cache, say), the first and the last time.
        """
        log, began = self.place / "log", time.monotonic()
        log.unlink(missing_ok=True)
        said, _ = self.start(folder, repro(stage), KILL_HERE=str(folder), KILL_LOG=str(log)).communicate()
        times: dict[str, list[str]] = {}
        for line in log.read_text(encoding="utf-8").splitlines():
            times.setdefault(line.rpartition(" ")[0], []).append(line)
        if not (folder / "dvc.lock").exists():
            raise RuntimeError(said)
        points = [point for lines in times.values() for point in dict.fromkeys((lines[0], lines[-1]))]
        return points, time.monotonic() - began

    def go_on(self, folder: Path, stage: str, wanted: Mapping[str, bytes], place: str, result: Result) -> None:
        """Continue a killed run, by what `check` says, and compare."""
        result.kills += 1
        try:
            try:
                self.run(folder, CHECK)
            except RuntimeError as told:
                if "`rm dvc.lock`" not in str(told):
                    raise
                (folder / "dvc.lock").unlink()
                result.advised += 1
                self.run(folder, CHECK)
            self.run(folder, repro(stage))
            found = contents(folder)
            differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            fault = f"differ: {differing[:5]}" if differing else ""
        except RuntimeError as told:
            fault = str(told)[-2000:]
        shutil.rmtree(folder, ignore_errors=True)
        if fault:
            result.faults[place] = fault
            sys.stdout.write(f"FAULT at {place}: {fault}\n")
        else:
            result.equal += 1


CHECK = [sys.executable, "-m", "pipeline", "check"]


def repro(stage: str) -> list[str]:
    """The command that runs a stage."""
    return [sys.executable, "-m", "dvc", "repro", f"{stage}@sr"]


def contents(folder: Path) -> dict[str, bytes]:
    """The outputs, and dvc.lock, by their names."""
    files = [folder / "dvc.lock", *(path for path in (folder / "data").rglob("*") if path.is_file())]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main() -> None:
    """Kill, go on, compare, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=20, help="kills at random moments (default: %(default)s)")
    parser.add_argument("--most", type=int, default=10**6, help="places of a stage, evenly chosen (default: all)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="that are killed (default: all)")
    arguments = parser.parse_args()
    draw = random.Random(SEED)  # noqa: S311
    at_places, at_random = Result(), Result()
    with tempfile.TemporaryDirectory() as place:
        chain = Chain(Path(place).resolve())
        before = chain.make()
        for stage in STAGES[: 1 + max(map(STAGES.index, arguments.stages))]:
            after = chain.copy(before, stage)
            points, seconds = chain.traced(after, stage)
            wanted = contents(after)
            sys.stdout.write(f"{stage}: {len(points)} places, {seconds:.0f} s\n")
            if stage in arguments.stages:
                for point in points[:: -(-len(points) // arguments.most)]:
                    folder = chain.copy(before, "killed")
                    log = chain.place / "log"
                    killed = chain.start(folder, repro(stage), KILL_HERE=str(folder), KILL_LOG=str(log), KILL_AT=point)
                    killed.communicate()
                    if killed.returncode != -signal.SIGKILL:
                        sys.stdout.write(f"not passed: {point}\n")
                        continue
                    chain.go_on(folder, stage, wanted, f"{stage}: {point}", at_places)
                    sys.stdout.write(f"{at_places.equal} of {at_places.kills} equal; {point}\n")
                    sys.stdout.flush()
                for number in range(-(-arguments.random // len(arguments.stages))):
                    folder = chain.copy(before, "killed")
                    moment, alone = draw.uniform(0, seconds), number % 2 == 1
                    killed = chain.start(folder, repro(stage))
                    time.sleep(moment)
                    (os.kill if alone else os.killpg)(killed.pid, signal.SIGKILL)
                    killed.wait()
                    name = f"{stage}: {moment:.1f} s{', DVC alone' * alone}"
                    chain.go_on(folder, stage, wanted, name, at_random)
                    sys.stdout.write(f"{at_random.equal} of {at_random.kills} equal; {name}\n")
                    sys.stdout.flush()
            before = after
    for name, result in {"places": at_places, "random moments": at_random}.items():
        sys.stdout.write(
            f"{name}: {result.equal} of {result.kills} equal; after {result.advised}, `check` named a command\n"
        )
    sys.exit(bool(at_places.faults or at_random.faults))


if __name__ == "__main__":
    main()
