import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.__main__ import STEPS
from components.dependencies import verdict
from components.run.errors import InputError
from components.run.params import Choice, Params
from components.run.step import parse, run_step
from tests.planted import REPOSITORIES, is_in
from tests.small_project import SmallProject

ROOT = Path(__file__).parents[2]
SLOW_TO_IMPORT = ("great_expectations", "mlflow", "kfp", "dvc", "skimage.data")

PARAMS = {
    "tasks": {"sr": {"scale": 2}, "renamed": {"name": "sr", "scale": 3}, "broken": 7},
    "limits": {"least": 3},
    "sources": {"one": {"least": 1}},
}

SCRIPT = """
import resource
import time
from pathlib import Path

from components.run.errors import InputError
from components.run.files import write_text
from components.run.step import run_step
from components.telemetry.progress import Progress
from components.telemetry.recorder import observed


def tiny(output: Path) -> None:
    \"\"\"Do one thing.\"\"\"
    {body}


run_step(tiny, observe=observed{options})
"""


class Limits(Params):
    least: int
    most: int = 10


def step(task: Choice, limits: Limits, sources: dict[str, Limits], raw_files: Path, output: Path) -> None:
    """Do nothing.

    Args:
        task: chosen by a flag, 100 % of it.
    """
    raise InputError(f"{task.name} {limits.least} {len(sources)} {raw_files} {output}: cannot be")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with its params.yaml, as working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(PARAMS))
    return path


FILES = ["--raw-files", "data/raw", "--output", "data/out"]


@pytest.mark.usefixtures("params")
class TestParse:
    def test_paths_are_flags_and_all_else_are_sections(self) -> None:
        assert parse(step, ["--task", "sr", *FILES]) == {
            "task": Choice.model_validate({"name": "sr", "scale": 2}),
            "limits": Limits(least=3),
            "sources": {"one": Limits(least=1)},
            "raw_files": Path("data/raw"),
            "output": Path("data/out"),
        }

    def test_an_entry_is_named_after_its_key(self) -> None:
        assert parse(step, ["--task", "sr", *FILES])["task"].name == "sr"

    def test_a_name_given_in_params_comes_first(self) -> None:
        task = parse(step, ["--task", "renamed", *FILES])["task"]
        assert (task.name, task.arguments) == ("sr", {"scale": 3})

    def test_only_choices_get_a_name(self) -> None:
        def other(limit: Limits) -> None:
            pass

        Path("params.yaml").write_text(yaml.safe_dump({"limits": {"strict": {"least": 5}}}))
        assert parse(other, ["--limit", "strict"]) == {"limit": Limits(least=5)}

    def test_another_file_of_params_can_be_named(self, tmp_path: Path) -> None:
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(PARAMS | {"limits": {"least": 9}}))
        assert parse(step, ["--params", "other.yaml", "--task", "sr", *FILES])["limits"] == Limits(least=9)

    @pytest.mark.parametrize(
        ("change", "task", "message"),
        [
            ({}, "srr", "params.yaml: tasks: unknown name 'srr'. Did you mean 'sr'? There are: broken, renamed, sr."),
            ({}, "broken", "params.yaml: tasks.broken: Input should be a valid dictionary"),
            ({"limits": {"leats": 3}}, "sr", "params.yaml: limits.least: missing; write a value for it.\n"),
            ({"limits": {"least": 3, "mots": 4}}, "sr", "params.yaml: limits: unknown key 'mots'. Did you mean 'most'"),
            ({"limits": {"least": "few"}}, "sr", "params.yaml: limits.least: Input should be a valid integer"),
            ({"limits": None}, "sr", "params.yaml: limits: Input should be a valid dictionary"),
            ({"sources": {"one": {"least": "few"}}}, "sr", "params.yaml: sources.one.least: Input should be a valid"),
            ({"tasks": None}, "sr", "params.yaml: tasks: expected a section with the key 'sr', found None."),
        ],
    )
    def test_bad_params_are_told_with_their_place(self, change: dict[str, Any], task: str, message: str) -> None:
        Path("params.yaml").write_text(yaml.safe_dump(PARAMS | change))
        with pytest.raises(InputError) as caught:
            parse(step, ["--task", task, *FILES])
        assert str(caught.value).startswith(message)

    def test_a_missing_section_lists_those_there_are(self) -> None:
        Path("params.yaml").write_text(yaml.safe_dump({key: PARAMS[key] for key in ("tasks", "sources")}))
        with pytest.raises(
            InputError, match=r"^params.yaml: sections: unknown name 'limits'\. There are: sources, tas"
        ):
            parse(step, ["--task", "sr", *FILES])

    @pytest.mark.parametrize("flags", [[], [*FILES, "--raw", "x"], ["--limit", "x", *FILES]])
    def test_a_missing_or_unknown_flag_ends_with_2(self, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            parse(step, ["--task", "sr", *flags])
        assert caught.value.code == 2
        assert "usage: python -m components step" in capsys.readouterr().err


@pytest.mark.usefixtures("params")
class TestRunStep:
    def test_bad_input_is_one_message_and_exit_code_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            run_step(step, ["--task", "sr", *FILES])
        assert caught.value.code == 2
        assert capsys.readouterr().err == "error: sr 3 1 data/raw data/out: cannot be\n"

    def test_a_stop_by_the_keyboard_is_one_message_and_exit_code_130(self, capsys: pytest.CaptureFixture[str]) -> None:
        def stopped() -> None:
            raise KeyboardInterrupt

        with pytest.raises(SystemExit) as left:
            run_step(stopped, ["--params", str(ROOT / "params.yaml")])
        assert left.value.code == 130
        assert capsys.readouterr().err == "\nstopped. Run it again to continue.\n"

    @pytest.mark.parametrize(
        ("act", "told"),
        [
            (lambda: os.link("folder", "other"), "folder: Operation not permitted."),
            (lambda: Path("params.yaml/x").write_text("x"), "params.yaml/x: Not a directory."),
            (lambda: Path("folder").write_text("x"), "folder: Is a directory."),
            (lambda: Path("x" * 300).mkdir(), f"{'x' * 300}: File name too long."),
            (lambda: Path("loop").read_text(), "loop: Too many levels of symbolic links."),
            (lambda: Path("/dev/full").write_text("x"), "reading or writing: No space left on device."),
            (lambda: Path("folder").rename("params.yaml"), "folder: Not a directory."),
            (lambda: socket.create_connection(("127.0.0.1", 9)), "reading or writing: Connection refused."),
        ],
    )
    def test_a_fault_of_files_is_one_message_and_exit_code_2(
        self, act: Callable[[], object], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def faulty() -> None:
            Path("folder").mkdir()
            Path("loop").symlink_to("loop")
            act()

        try:
            run_step(faulty, [])
            code: object = 0
        except (SystemExit, OSError) as error:
            code = getattr(error, "code", error)
        assert code == 2
        assert capsys.readouterr().err == (
            f"error: {told} Nothing half-written was kept: check that you may read and write there and that its disk "
            "has room, or choose another place, then run again.\n"
        )

    def test_a_message_is_told_without_secrets(self, capsys: pytest.CaptureFixture[str]) -> None:
        def faulty() -> None:
            raise InputError(f"{REPOSITORIES}: cannot be")

        with pytest.raises(SystemExit):
            run_step(faulty, [])
        assert not is_in(capsys.readouterr().err)

    def test_a_fault_of_the_program_keeps_its_traceback(self) -> None:
        def faulty(output: Path) -> None:
            raise ValueError(output)

        with pytest.raises(ValueError, match="out"):
            run_step(faulty, ["--output", "out"])

    def test_help_shows_the_docstring_and_every_flag(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            run_step(step, ["--help"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        for part in (
            "Do nothing.",
            "100 % of it",
            "--task",
            "--limits",
            "--raw-files",
            "entry of tasks in params.yaml",
        ):
            assert part in shown

    def test_a_good_run_returns(self) -> None:
        seen: dict[str, Any] = {}

        def good(task: Choice, output: Path) -> None:
            seen.update(task=task.name, output=output)

        run_step(good, ["--task", "sr", "--output", "x"])
        assert seen == {"task": "sr", "output": Path("x")}


def run_tiny(folder: Path, body: str, options: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step of one line in a process of its own."""
    (folder / "params.yaml").write_text("{run: {}}\n")
    (folder / "tiny.py").write_text(SCRIPT.format(body=body, options=options))
    return subprocess.run(
        [sys.executable, "tiny.py", "--output", "out/result.txt"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


FULL = (
    'write_text(output, "a"); file = Path("/dev/full").open("w"); file.write("line"); file.flush()',
    'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); write_text(output, "a" * 100_000)',
)


class TestProcess:
    @pytest.mark.parametrize(("body", "told"), [(FULL[0], "No space left on"), (FULL[1], "File too large")])
    def test_a_full_disk_is_one_message_and_exit_code_2(self, body: str, told: str, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, body)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("error: ")
        assert told in ended.stderr
        assert ended.stderr.count("\n") == 1

    def test_nothing_half_written_stays_and_the_file_is_named(self, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, FULL[1])
        assert ended.stderr.startswith("error: out/result.txt: File too large.")
        assert list((tmp_path / "out").iterdir()) == []

    def test_bad_input_prints_no_traceback(self, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, 'raise InputError(f"{output}: write another")')
        assert (ended.returncode, ended.stderr) == (2, "error: out/result.txt: write another\n")

    def test_a_fault_of_the_program_prints_one(self, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, "raise RuntimeError(output)")
        assert ended.returncode == 1
        assert "Traceback" in ended.stderr


class TestDuration:
    STAGE = "sub/dvc.yaml:tiny@sr-dckd"
    FILE = ".cache/durations/tiny@sr-dckd.json"

    def test_a_stage_that_dvc_runs_leaves_its_seconds(self, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, f"time.sleep(0.5); {WRITE}", DVC_STAGE=self.STAGE)
        assert ended.returncode == 0, ended.stderr
        found = json.loads((tmp_path / self.FILE).read_text())
        assert 0.5 <= found["seconds"] < 60
        assert 2e7 < found["memory_bytes"] < 1e9
        assert "training" not in found

    def test_the_time_that_imports_take_counts(self, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(2)\n")
        ended = run_tiny(tmp_path, WRITE, DVC_STAGE=self.STAGE, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
        assert ended.returncode == 0, ended.stderr
        assert json.loads((tmp_path / self.FILE).read_text())["seconds"] >= 2

    def test_training_steps_of_this_run_are_counted_with_their_seconds(self, tmp_path: Path) -> None:
        body = "time.sleep(0.3); shown = Progress('train', 40, start=30); time.sleep(0.2); shown.advance(10)"
        body += "; shown.close(); write_text(output, 'done')"
        ended = run_tiny(tmp_path, body, DVC_STAGE=self.STAGE)
        assert ended.returncode == 0, ended.stderr
        found = json.loads((tmp_path / self.FILE).read_text())
        assert found["training"]["steps"] == 10
        assert 0.2 <= found["training"]["seconds"] <= found["seconds"] - 0.2

    def test_of_processes_that_share_the_work_the_first_tells_the_memory_of_all(self, tmp_path: Path) -> None:
        body = "held = bytearray(200_000_000); write_text(output, 'done')"
        environment = {"DVC_STAGE": self.STAGE, "RANK": "0", "LOCAL_WORLD_SIZE": "4"}
        assert run_tiny(tmp_path, body, **environment).returncode == 0
        assert 8e8 < json.loads((tmp_path / self.FILE).read_text())["memory_bytes"] < 2e9

    @pytest.mark.parametrize(
        ("body", "environment", "code"),
        [
            ("write_text(output, 'done')", {}, 0),
            ("write_text(output, 'done')", {"DVC_STAGE": "../../elsewhere"}, 0),
            ("write_text(output, 'done')", {"DVC_STAGE": STAGE, "RANK": "1"}, 0),
            ("raise InputError('no')", {"DVC_STAGE": STAGE}, 2),
        ],
    )
    def test_nothing_else_does(self, body: str, environment: dict[str, str], code: int, tmp_path: Path) -> None:
        assert run_tiny(tmp_path, body, **environment).returncode == code
        assert not (tmp_path / ".cache").exists()

    def test_where_it_cannot_be_written_the_step_has_still_ended_well(self, tmp_path: Path) -> None:
        (tmp_path / ".cache").write_text("a file")
        ended = run_tiny(tmp_path, WRITE, DVC_STAGE=self.STAGE)
        assert ended.returncode == 0
        assert (tmp_path / "out/result.txt").read_text() == "done"
        assert "will not say how long tiny@sr-dckd took" in ended.stderr


class TestPlace:
    def test_a_stage_behind_a_link_is_refused_before_it_works(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to("disk")
        ended = run_tiny(tmp_path, WRITE, DVC_STAGE="tiny")
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("error: out: a link to disk, and DVC keeps no output behind a link to a folder.")
        assert list((tmp_path / "disk").iterdir()) == []

    def test_a_step_that_no_stage_runs_writes_there(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to("disk")
        assert run_tiny(tmp_path, WRITE).returncode == 0
        assert (tmp_path / "disk/result.txt").read_text() == "done"


WRITE = 'write_text(output, "done")'
TOGETHER = ", distributed=True"


class TestLauncher:
    def test_a_step_of_several_processes_becomes_the_launcher_with_its_own_arguments(self, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, WRITE, TOGETHER, STEP_LAUNCHER="echo 'run by' it")
        assert (ended.returncode, ended.stdout) == (0, "run by it -m components tiny --output out/result.txt\n")
        assert ended.stderr == "launched by: echo 'run by' it\n"
        assert not (tmp_path / "out").exists()

    def test_what_it_starts_does_not_start_it_again(self, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, WRITE, TOGETHER, STEP_LAUNCHER="sh -c env")
        assert "PYTHONPATH=" in ended.stdout
        assert "STEP_LAUNCHER" not in ended.stdout

    @pytest.mark.parametrize("rank", [{"RANK": "0"}, {"LOCAL_RANK": "1"}])
    def test_one_of_torchruns_processes_runs_the_step(self, rank: dict[str, str], tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, WRITE, TOGETHER, STEP_LAUNCHER="false", **rank)
        assert ended.returncode == 0
        assert (tmp_path / "out" / "result.txt").read_text() == "done"

    @pytest.mark.parametrize(
        ("options", "launcher"),
        [("", "false"), (TOGETHER, ""), (", distributed=lambda values: values['output'].name == 'other'", "false")],
    )
    def test_else_the_step_runs_in_this_process(self, options: str, launcher: str, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, WRITE, options, STEP_LAUNCHER=launcher)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert (tmp_path / "out" / "result.txt").read_text() == "done"

    def test_its_arguments_can_decide(self, tmp_path: Path) -> None:
        options = ", distributed=lambda values: values['output'].name == 'result.txt'"
        assert run_tiny(tmp_path, WRITE, options, STEP_LAUNCHER="false").returncode == 1

    @pytest.mark.parametrize(
        ("launcher", "told"),
        [
            ("torchrun 'x", "STEP_LAUNCHER: \"torchrun 'x\": No closing quotation; write a command's"),
            (" ", "STEP_LAUNCHER: ' ' names no command; write a command's first words, such as STEP_LAUNCHER='torch"),
            ("tochrun -n 2", "STEP_LAUNCHER: 'tochrun' can't be run (No such file or directory); write a"),
        ],
    )
    def test_a_bad_launcher_is_told_by_the_variables_name(self, launcher: str, told: str, tmp_path: Path) -> None:
        ended = run_tiny(tmp_path, WRITE, TOGETHER, STEP_LAUNCHER=launcher)
        assert ended.returncode == 2
        assert f"error: {told}" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_bad_params_are_told_before_anything_is_launched(self, tmp_path: Path) -> None:
        shown = subprocess.run(
            [sys.executable, "-m", "components", "distill", *DISTILL.split()],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "STEP_LAUNCHER": "echo launched"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (shown.returncode, shown.stdout) == (2, "")
        assert shown.stderr == "error: params.yaml: not found. Run the command from the project's folder.\n"


DISTILL = (
    "--task sr --student sr --method scratch --seed 5 --lmdb lmdb --teacher teacher --check check --encoder encoder "
    "--output output"
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project in which `distill` takes a second."""
    project = SmallProject(tmp_path)
    project.training_images()
    project.teacher()
    project.encoder()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(project.params))
    return tmp_path


def distilled(folder: Path, *command: str, launcher: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a project, on the CPU."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "STEP_LAUNCHER": launcher}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
class TestTorchrun:
    TWO = "torchrun --standalone --nproc-per-node=2"

    def test_two_processes_train_one_student(self, small: Path) -> None:
        ended = distilled(small, "python", "-m", "components", "distill", *DISTILL.split(), launcher=self.TWO)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("distill scratch: step 12/12") == 1
        together = (small / "output" / "history.csv").read_text()
        shutil.rmtree(small / "output")
        ended = distilled(small, "python", "-m", "components", "distill", *DISTILL.split())
        assert ended.returncode == 0, ended.stderr
        alone = (small / "output" / "history.csv").read_text()
        for one, other in zip(rows(together), rows(alone), strict=True):
            assert one == pytest.approx(other, rel=1e-4)

    def test_bad_input_is_the_last_thing_told(self, small: Path) -> None:
        (small / "check").write_text('{"sha256": "another"}')
        ended = distilled(small, "python", "-m", "components", "distill", *DISTILL.split(), launcher=self.TWO)
        assert ended.returncode != 0
        said = "error: check is about other weights than teacher: run check_teacher again."
        assert said in ended.stderr.splitlines()
        assert ended.stderr.splitlines()[-2].endswith(f"traceback : {said}")
        assert not (small / "output").exists()

    def test_dvc_locks_the_same_whatever_launches(self, small: Path) -> None:
        stage = {
            "cmd": f"python -m components distill {DISTILL}",
            "deps": ["lmdb", "teacher", "check", "encoder"],
            "params": ["tasks.sr", "students.sr", "methods.scratch"],
            "outs": ["output"],
        }
        (small / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"distill": stage}}))
        verdict.keep(verdict.key_of(small), small / verdict.KEPT)  # its params are a part of a project's
        assert distilled(small, "dvc", "init", "--no-scm", "--quiet").returncode == 0
        locks = []
        for launcher in ("", "python"):
            ended = distilled(small, "dvc", "repro", "--force", "--no-run-cache", launcher=launcher)
            assert ended.returncode == 0, ended.stderr
            assert ("launched by: python" in ended.stderr) == (launcher == "python")
            locks.append((small / "dvc.lock").read_text())
        assert locks[0] == locks[1]


def rows(table: str) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(table.splitlines())]


def test_every_file_is_a_step_that_the_command_line_knows() -> None:
    assert set(STEPS) == {path.stem for path in (ROOT / "components").glob("[a-z]*.py")}


HELP = f"""
import runpy, sys
for step in {list(STEPS)}:
    sys.argv = ["components", step, "--help"]
    try:
        runpy.run_module("components", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert end.code == 0
    print("end of help", *[name for name in {SLOW_TO_IMPORT} if name in sys.modules])
"""


def test_help_of_every_step_imports_nothing_slow() -> None:
    """Great Expectations alone takes 15 seconds."""
    shown = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"usage: python -m components (\w+)", shown) == list(STEPS)
    assert re.findall(r"end of help(.*)", shown) == [""] * len(STEPS)
