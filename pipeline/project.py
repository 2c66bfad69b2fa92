"""All that pipeline/ knows about this project's own steps; everything else it reads from dvc.yaml.

How secrets are kept out of messages, how a step checks its command line, which step makes a page and with which flags,
where runs leave measurements and what they keep for the next one, and which numbers of a metrics file are scores. A
project with other steps changes only this file of pipeline/.
"""

import hashlib
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.messages import PipelineError

Number = int | float
Numbers = Mapping[str, Number]
"""The numbers of a metrics file by key, `a.b.c`."""


# What the environment says, and is kept out of every message.


def endpoint_fault() -> str | None:
    """What is wrong with AWS_ENDPOINT_URL, by which steps and DVC find an S3 server; None if nothing is."""
    fault: str | None = importlib.import_module("components.telemetry.addresses").endpoint_fault()
    return fault


def without_secrets(text: str) -> str:
    """A text with `***` in place of passwords and tokens, those in addresses and those of the environment."""
    return str(importlib.import_module("components.run.secrets").without_secrets(text))


# How commands are checked.

_STEP = ("python", "-m", "components")
_LIST = "# list: "
_WRITE_LISTS = ("components", "list_dependencies")
_CHECK = "components.checking"
_VERDICTS = Path(".cache/check")


def refuse_unsound(folder: Path) -> None:
    """Check the whole of a project's params.yaml before anything of it runs, as each of its steps does.

    This runs that folder's own code, which may be of another revision; a verdict that was found before costs nothing.

    Raises:
        PipelineError: all that is wrong.
    """
    text = (folder / "dvc.yaml").read_text(encoding="utf-8") if (folder / "dvc.yaml").is_file() else ""
    earlier = (folder / "components").is_dir() and not (folder / "components/checking").is_dir()
    if " ".join(_STEP) not in text or earlier:
        return
    ended = subprocess.run(
        [sys.executable, "-m", _CHECK, "--verdicts", str(_VERDICTS.absolute())],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 2:
        raise PipelineError(ended.stderr.strip().removeprefix("error: "))
    if ended.returncode:
        raise RuntimeError(f"{_CHECK} ended with {ended.returncode}: {ended.stderr}")


def value_fault(where: str, value: Any) -> str | None:
    """Why a value of params.yaml, which would stand at `where`, is refused by every step, or None."""
    return next(importlib.import_module("components.run.yaml_values").misread(value, where), None)


def commands_known(folder: Path, *, keep: bool = False) -> bool:
    """Whether the commands of this dvc.yaml were checked before, with these params and this code; or remember that."""
    verdict = importlib.import_module("components.dependencies.verdict")
    key = verdict.key_of(folder, *Path(__file__).parent.rglob("*.py"))
    if keep:
        verdict.keep(key, _VERDICTS)
    return bool(verdict.is_known(key, _VERDICTS))


def command_fault(command: str) -> str | None:
    """Parse a stage's command as its step would, without running it.

    The step is found by the name in the command: only dvc.yaml and the step itself say what it needs.

    Returns:
        What is wrong, or None.
    """
    words = shlex.split(command)
    if tuple(words[:3]) != _STEP or len(words) < 4:
        return None
    module = importlib.import_module(f"{words[2]}.{words[3]}")
    step = importlib.import_module("components.run.step")
    try:
        step.parse(getattr(module, words[3]), words[4:])
    except importlib.import_module("components.run.errors").InputError as error:
        return str(error)
    return None


def write_lists(folder: Path) -> None:
    """Write the lists of dependencies in the dvc.yaml of `folder`, after its params.yaml was changed.

    This runs that folder's own code, which may be of another revision.

    Raises:
        PipelineError: params.yaml names an entry that it lacks.
    """
    if _LIST not in (folder / "dvc.yaml").read_text(encoding="utf-8"):
        return
    ended = subprocess.run(
        [sys.executable, "-m", *_WRITE_LISTS], cwd=folder, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise PipelineError("\n".join(line.removeprefix("error: ") for line in ended.stderr.splitlines()))


# How files are written.


def unfinished(folder: Path) -> AbstractContextManager[Path]:
    """A name in `folder`, for a file that gets its own once it is whole; what killed writers left there is removed."""
    found: AbstractContextManager[Path] = importlib.import_module("components.run.files").unfinished(folder)
    return found


# Which step makes a page.

PAGE_STEP = "report"
"""Step, and the stage that is shown without another name."""
PAGES = Path("data/pages")
PAGE = "report.html"
"""The page's name in the folder that its step writes."""


def page_command(command: str, output: Path) -> tuple[list[str], str] | None:
    """The command that writes a stage's page into the folder `output`, and the task that it is about.

    The task is the last part of the folder of scores, as in that of speeds.

    Returns:
        None for a command that makes no page.
    """
    words = shlex.split(command)
    if tuple(words[:4]) != (*_STEP, PAGE_STEP):
        return None
    words[0] = sys.executable
    words[words.index("--output") + 1] = str(output)
    return words, Path(words[words.index("--scores") + 1]).name


def with_circumstances(words: list[str], file: Path) -> list[str]:
    """A page's command that also shows what a file of `circumstances` holds."""
    return [*words, "--circumstances", str(file)]


# What runs leave beside the outputs that DVC compares.

_DURATIONS = Path(".cache/durations")
_SPEEDS = Path("data/speed")
_EXPORTS = Path("data/exports")
_EXPORT = "-export"  # suffix of the files that `export` writes next to those of `evaluate`


@dataclass(frozen=True)
class Took:
    """What a stage took when it last ran here.

    Attributes:
        seconds: in all.
        memory: the most bytes at a time; None = not recorded.
        steps: training steps in it; 0 for a stage that did not train.
        steps_seconds: seconds of these.
    """

    seconds: float
    memory: int | None
    steps: int
    steps_seconds: float

    def seconds_for(self, steps: int | None) -> float | None:
        """Seconds with another number of training steps (None = it does not train); None if they can't be told."""
        if bool(steps) != bool(self.steps):
            return None
        return self.seconds - self.steps_seconds + (self.steps_seconds * steps / self.steps if steps else 0)


def took(stage: str) -> Took | None:
    """What a stage took when it last ran here, if that is known."""
    file = _DURATIONS / f"{stage}.json"
    if not file.exists():
        return None
    found = _read(file)
    training = found.get("training", {"steps": 0, "seconds": 0.0})
    return Took(found["seconds"], found.get("memory_bytes"), training["steps"], training["seconds"])


def training_steps(params: Mapping[str, Any]) -> int | None:
    """Steps that a stage trains for, by the params that it depends on: `{"students.sr": {"training": {...}}}`.

    Returns:
        None for a stage that trains nothing; a report depends on the recipes of several networks.
    """
    found = [
        recipe["steps"]
        for key, value in params.items()
        for recipe in (value if key.endswith(".training") else isinstance(value, Mapping) and value.get("training"),)
        if isinstance(recipe, Mapping) and isinstance(recipe.get("steps"), int)
    ]
    return found[0] if len(found) == 1 else None


def speeds_of(task: str) -> dict[str, Any]:
    """What `evaluate` measured of each network's speed, by `METHOD/SEED` and `teacher`."""
    return {_named(task, file): _read(file) for file in _speeds(task) if not file.stem.endswith(_EXPORT)}


def exports_of(task: str) -> dict[str, Any]:
    """What `export` measured of each student's files, by `METHOD/SEED`."""
    students = [_named(task, file) for file in _speeds(task) if file.stem.endswith(_EXPORT)]
    return {student: found for student in students if (found := _export(task, student))}


def _speeds(task: str) -> list[Path]:
    return sorted((_SPEEDS / task).rglob("*.json"))


def _named(task: str, file: Path) -> str:
    return file.relative_to(_SPEEDS / task).with_suffix("").as_posix().removesuffix(_EXPORT)


def _export(task: str, student: str) -> dict[str, Any] | None:
    costs, losses = _SPEEDS / task / f"{student}{_EXPORT}.json", _EXPORTS / task / student / "losses.json"
    if not (costs.exists() and losses.exists()):
        return None
    found = _read(losses)
    sizes = {name: values.pop("bytes") for name, values in found.items()}
    return {**_read(costs), "sizes": sizes, "losses": found}


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


# What steps keep for the next run, outside of the outputs, which DVC removes before a stage runs.

CHECKPOINTS = Path(".cache/checkpoints")
_DOWNLOADS = Path(".cache/downloads")
_CHECKPOINT = re.compile(r"(.+)-[0-9a-f]{16}\.pt")
_PARAMS = ("params.yaml", "conf/**/*.yaml")


def leftovers(commands: Mapping[str, str]) -> dict[str, list[Path]]:
    """Files that no stage needs, by what they are.

    Checkpoints and durations of stages that are none of these, and downloads of files that neither params.yaml nor a
    preset names.

    Args:
        commands: those of all stages, by the stages' names.
    """
    titles = {title for command in commands.values() if (title := _title(command))}
    params = [file for pattern in _PARAMS for file in Path().glob(pattern)]
    wanted = {name for file in params for name in _names(file)}
    return {
        "checkpoint": [
            file
            for file in _files(CHECKPOINTS)
            if (found := _CHECKPOINT.fullmatch(file.name)) and found[1] not in titles
        ],
        "download": [file for file in _files(_DOWNLOADS) if file.name.partition(".")[0] not in wanted],
        "duration": [file for file in _files(_DURATIONS) if file.name.removesuffix(".json") not in commands],
    }


def _title(command: str) -> str | None:
    """What the checkpoints of a stage are named after: the first word of its step, and where its output lies."""
    words = shlex.split(command)
    if tuple(words[:3]) != _STEP or "--output" not in words:
        return None
    step = words[3].partition("_")[0]
    return "-".join([step, *PurePosixPath(words[words.index("--output") + 1]).parts[-3:]])


def _names(file: Path) -> Iterator[str]:
    """Names that downloads of what a file of params names have: their SHA-256, or that of their URL."""
    from dvc.utils.serialize import loads_yaml  # noqa: PLC0415 -- DVC takes a second

    waiting = [loads_yaml(file.read_text(encoding="utf-8"))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("url"), str):
                yield hashlib.sha256(value["url"].encode()).hexdigest()
            if "sha256" in value:
                yield str(value["sha256"])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file())


# Which numbers are scores.


@dataclass(frozen=True)
class Measure:
    """How a score is shown.

    Attributes:
        key: the last part of its key in a metrics file.
        title: in a table's head.
        decimals: how many are shown.
        least: smaller changes are shown with one more decimal, but not called better or worse.
    """

    key: str
    title: str
    decimals: int
    least: float


MEASURES = (Measure("psnr", "PSNR", 2, 0.005), Measure("ssim", "SSIM", 4, 0.00005))
"""The first decides what is better; every test set has it."""
UNIT = "dB"
"""The first one's unit."""
SCORE_OF = ("task", "method", "test set")
_COPIES = ("teacher", "baseline")
"""Parts of a method's file that repeat what the teacher's file says."""

ScoreName = tuple[str, str, str]
"""Task, method with its seed, test set."""


def scores(files: Mapping[str, Numbers]) -> Iterator[tuple[ScoreName, dict[str, Number]]]:
    """Scores of every method on every set, in the order of dvc.yaml, by their measures' keys.

    Args:
        files: numbers of metrics files, `data/scores/TASK/METHOD/SEED.json` and `data/scores/TASK/teacher.json`, by the
            files' paths.
    """
    for file, numbers in files.items():
        task, *student = PurePosixPath(file).with_suffix("").parts[2:]
        for key in numbers:
            *above, measure = key.split(".")
            if measure != MEASURES[0].key or not above:
                continue
            method = "/".join(student)
            if above[0] in _COPIES:
                if method != "teacher":
                    continue
                method = above[0]
            dataset = ".".join(part for part in above if part not in _COPIES)
            found = {one.key: numbers[full] for one in MEASURES if (full := ".".join([*above, one.key])) in numbers}
            yield (task, method, dataset), found


def is_score(key: str) -> bool:
    """Whether a number is a score of a set, not a size or a count."""
    return "." in key and key.rpartition(".")[2] in {one.key for one in MEASURES}
