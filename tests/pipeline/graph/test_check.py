import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
import yaml

from components.checking.whole import refuse_faults
from components.methods import METHODS
from components.run.errors import InputError
from pipeline.graph.graph import Stage, read_graph
from pipeline.project import command_fault

ROOT = Path(__file__).parents[3]
GRAPH = read_graph(ROOT)
RECIPE = "students.sr.training"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What `python -m pipeline check` reads of the project, in a folder of its own without git."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return tmp_path


def check(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "check"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_data_folder_that_is_a_link_is_refused(project: Path) -> None:
    (project / "disk").mkdir()
    (project / "data").symlink_to("disk")
    done = check(project)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data: a link to disk, and DVC keeps no output behind a link to a folder.")


def changed(place: str, value: object = None, *, key: str | None = None) -> Callable[[Path], None]:
    """Give a place of params.yaml (`students.sr.training.steps`) another value, or its last part another name."""

    def change(path: Path) -> None:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        *above, last = place.split(".")
        inside = reduce(getitem, above, values)
        before = inside.pop(last)
        inside[key or last] = value if key is None else before
        path.write_text(yaml.safe_dump(values), encoding="utf-8")

    return change


def added(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    return change


@pytest.mark.parametrize("stage", GRAPH, ids=[stage.name for stage in GRAPH])
def test_every_stage_of_the_project_fits(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert command_fault(stage.command) is None


def test_a_stage_that_asks_for_an_unknown_entry_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = next(stage.command for stage in GRAPH if stage.name.startswith("distill"))
    wrong = command.replace("--method scratch", "--method scrtach")
    assert wrong != command
    message = command_fault(wrong)
    known = ", ".join(sorted(METHODS))
    assert message == f"params.yaml: methods: unknown name 'scrtach'. Did you mean 'scratch'? There are: {known}."


def test_a_command_that_is_no_step_is_left_alone() -> None:
    assert command_fault("echo hello") is None


def test_the_project_as_it_is_passes(project: Path) -> None:
    ended = check(project)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown key": (changed("tasks.sr.scale", key="scael"), "params.yaml: tasks.sr: unknown key 'scael'. Did you mean"),
    "unknown value": (changed("tasks.sr.scale", 5), "params.yaml: tasks.sr.scale: Input should be 2, 3, 4 or 8"),
    "deep key": (
        changed(f"{RECIPE}.steps", key="setps"),
        f"{RECIPE}: unknown key 'setps'. Did you mean 'steps'?",
    ),
    "mistyped value": (
        changed(f"{RECIPE}.steps", "soon"),
        f"params.yaml: {RECIPE}.steps: Input should be a valid integer",
    ),
    "unknown backbone": (
        changed("students.sr.backbone.name", "edrs"),
        "students.sr.backbone.name: unknown name 'edrs'.",
    ),
    "impossible value": (
        changed("students.sr.backbone.blocks", 0),
        "students.sr.backbone.blocks: Input should be greater than 0",
    ),
    "unknown section": (
        changed("students", key="student"),
        "sections: unknown name 'student'. Did you mean 'students'?",
    ),
    "unknown method": (changed("methods.logits", key="logit"), "methods.logit.name: unknown name 'logit'."),
    "unknown loss": (
        changed("methods.dckd.weights.codes", key="cods"),
        "methods.dckd.weights: unknown name 'cods'.",
    ),
    "run": (changed("run.tasks", key="task"), "params.yaml: run: unknown key 'task'. Did you mean 'tasks'?"),
    "run.tasks": (changed("run.tasks", "sr"), "params.yaml: run.tasks: Input should be a valid tuple; found 'sr'."),
    "unknown task": (changed("run.tasks", ["srr"]), "params.yaml: tasks: unknown name 'srr'. Did you mean 'sr'?"),
    "broken": (added("run: {tasks: [\n"), "params.yaml: not valid YAML: "),
    "key twice": (added("tasks: {}\n"), 'found duplicate key "tasks"'),
    "no date": (added("when: 2020-13-01\n"), "params.yaml: not valid YAML: what looks like a date or number is none"),
    "reference": (
        changed("teachers.sr.checkpoint", "${WEIGHTS}/x.pt"),
        "params.yaml: teachers.sr.checkpoint: `dvc exp run -S` takes `${` for a reference; write $NAME without braces.",
    ),
    "missing mark": (changed("tasks.sr.scale", "???"), "params.yaml: tasks.sr.scale: `dvc exp run -S` takes '???' for"),
    "missing": (Path.unlink, "params.yaml: not found. Run the command from the project's folder."),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_params_are_refused_with_their_place(fault: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, told = WRONG[fault]
    change(project / "params.yaml")
    monkeypatch.chdir(project)
    with pytest.raises(InputError) as refused:
        refuse_faults()
    assert told in str(refused.value)


@pytest.mark.parametrize("fault", ["unknown section", "key twice", "missing"])
def test_the_command_ends_with_2_and_messages_without_traceback(fault: str, project: Path) -> None:
    change, told = WRONG[fault]
    change(project / "params.yaml")
    ended = check(project)
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_every_fault_is_told_once(project: Path) -> None:
    """Three stages read the student's section."""
    changed("students.sr.training.steps", "soon")(project / "params.yaml")
    changed("encoders.sr.training.steps", "later")(project / "params.yaml")
    assert check(project).stderr.splitlines() == [
        f"error: params.yaml: {place}.training.steps: Input should be a valid integer, unable to parse string as an "
        f"integer; found '{value}'."
        for place, value in (("encoders.sr", "later"), ("students.sr", "soon"))
    ]


def test_a_wrong_dvc_yaml_ends_with_2(project: Path) -> None:
    text = (project / "dvc.yaml").read_text(encoding="utf-8")
    (project / "dvc.yaml").write_text(text.replace("    deps:", "    dep:"), encoding="utf-8")
    ended = check(project)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: './dvc.yaml' validation failed: ")
    assert "Traceback" not in ended.stderr
