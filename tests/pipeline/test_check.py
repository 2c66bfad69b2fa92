import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.check import check_stage
from pipeline.graph import Stage, read_graph

ROOT = Path(__file__).parents[2]
GRAPH = read_graph(ROOT)
LISTED = "There are: average_decay, batch, learning_rate, log_every, optimiser, patch, precision, schedule, seed, steps"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What `pipeline.check` reads of the project, in a folder of its own without git."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return tmp_path


def check(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.check"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def stage_of(command: str) -> Stage:
    return Stage("some", command, (), (), (), (), always_changed=False)


@pytest.mark.parametrize("stage", GRAPH, ids=[stage.name for stage in GRAPH])
def test_every_stage_of_the_project_fits(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_stage(stage) is None


def test_a_stage_that_asks_for_an_unknown_entry_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = next(stage.command for stage in GRAPH if stage.name.startswith("distill"))
    wrong = command.replace("--method scratch", "--method scrtach")
    assert wrong != command
    message = check_stage(stage_of(wrong))
    assert message == (
        "params.yaml: methods: unknown name 'scrtach'. Did you mean 'scratch'? There are: dckd, logits, scratch."
    )


def test_a_command_that_is_no_step_is_left_alone() -> None:
    assert check_stage(stage_of("echo hello")) is None


def test_the_project_as_it_is_passes(project: Path) -> None:
    ended = check(project)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (replaced("  sr: {scale: 2}", "  sr: {scael: 2}"), "params.yaml: tasks.sr: unknown key 'scael'. Did you mean"),
        (replaced("  sr: {scale: 2}", "  sr: {scale: 5}"), "params.yaml: tasks.sr.scale: Input should be 2, 3, 4 or 8"),
        (replaced("      steps: 1500", "      setps: 1500"), f"unknown key 'setps'. Did you mean 'steps'? {LISTED}"),
        (
            replaced("      steps: 1500", "      steps: soon"),
            "params.yaml: students.sr.training.steps: Input should be",
        ),
        (replaced("{name: edsr, channels: 16,", "{name: edrs, channels: 16,"), "students.sr.backbone.name: unknown"),
        (
            replaced("channels: 16, blocks: 4", "channels: 16, blocks: 0"),
            "students.sr.backbone.blocks: Input should be",
        ),
        (
            replaced("\nstudents:", "\nstudent:"),
            "params.yaml: sections: unknown name 'students'. Did you mean 'student'",
        ),
        (replaced("\n  dckd:", "\n  dckt:"), "params.yaml: methods: unknown name 'dckd'. Did you mean 'dckt'?"),
        (replaced("contrastive: 0.1", "kontrastive: 0.1"), "methods.dckd.weights: unknown name 'kontrastive'. Did you"),
        (replaced("tasks: [sr]", "task: [sr]"), "params.yaml: run: unknown key 'task'. Did you mean 'tasks'?"),
        (replaced("tasks: [sr]", "tasks: sr"), "params.yaml: run.tasks: Input should be a valid tuple; found 'sr'."),
        (replaced("tasks: [sr]", "tasks: [srr]"), "params.yaml: collections: unknown name 'srr'. Did you mean 'sr'?"),
        (replaced("  sr: {scale: 2}", "  sr: {scale: 2"), "params.yaml: not valid YAML: "),
        (replaced("\nvalidate:", "\ntasks: {}\nvalidate:"), 'found duplicate key "tasks"'),
        (Path.unlink, "params.yaml: not found. Run the command from the project's folder."),
    ],
    ids=[
        *("unknown key", "unknown value", "deep key", "mistyped value", "unknown backbone", "impossible value"),
        *("unknown section", "unknown method", "unknown loss", "run", "run.tasks", "unknown task"),
        *("broken", "key twice", "missing"),
    ],
)
def test_wrong_params_end_with_2_and_messages_without_traceback(
    change: Callable[[Path], None], told: str, project: Path
) -> None:
    change(project / "params.yaml")
    ended = check(project)
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_every_fault_is_told_once(project: Path) -> None:
    """Three stages read the student's section."""
    replaced("      steps: 1500", "      steps: soon")(project / "params.yaml")
    replaced("      steps: 600", "      steps: later")(project / "params.yaml")
    assert check(project).stderr.splitlines() == [
        f"error: params.yaml: {place}.training.steps: Input should be a valid integer, unable to parse string as an "
        f"integer; found '{value}'."
        for place, value in (("encoders.sr", "later"), ("students.sr", "soon"))
    ]


def test_a_wrong_dvc_yaml_ends_with_2(project: Path) -> None:
    replaced("    deps:", "    dep:")(project / "dvc.yaml")
    ended = check(project)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: './dvc.yaml' validation failed: ")
    assert "Traceback" not in ended.stderr
