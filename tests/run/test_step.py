import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.run.errors import InputError
from components.run.params import Choice, Params
from components.run.step import parse, run_step

ROOT = Path(__file__).parents[2]
STEPS = sorted(path.stem for path in (ROOT / "components").glob("*.py") if path.stem != "__init__")
SLOW_TO_IMPORT = ("great_expectations", "mlflow", "kfp", "dvc", "skimage.data")

PARAMS = {
    "tasks": {"sr": {"scale": 2}, "renamed": {"name": "sr", "scale": 3}, "broken": 7},
    "limits": {"least": 3},
    "sources": {"one": {"least": 1}},
}

SCRIPT = """
import resource
from pathlib import Path

from components.run.errors import InputError
from components.run.files import write_text
from components.run.step import run_step


def tiny(output: Path) -> None:
    \"\"\"Do one thing.\"\"\"
    {body}


run_step(tiny)
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
        assert "usage: python -m components.step" in capsys.readouterr().err


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
        assert capsys.readouterr().err == "\nstopped. Run it again to go on.\n"

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


def run_tiny(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a step of one line in a process of its own."""
    (folder / "params.yaml").write_text("{run: {}}\n")
    (folder / "tiny.py").write_text(SCRIPT.format(body=body))
    return subprocess.run(
        [sys.executable, "tiny.py", "--output", "out/result.txt"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
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


@pytest.mark.parametrize("name", STEPS)
def test_help_of_every_step_imports_nothing_slow(name: str) -> None:
    """Great Expectations alone takes 15 seconds; 5 of processor time leave room for torch, whatever else runs."""
    lines = (
        "import resource, runpy, sys",
        f"sys.argv = ['{name}', '--help']",
        "try:",
        f"    runpy.run_module('components.{name}', run_name='__main__')",
        "except SystemExit as end:",
        "    assert end.code == 0",
        f"slow = [name for name in {SLOW_TO_IMPORT} if name in sys.modules]",
        "used = resource.getrusage(resource.RUSAGE_SELF)",
        "print('end of help', *slow, used.ru_utime + used.ru_stime)",
    )
    shown = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert f"usage: python -m components.{name}" in shown
    *slow, seconds = shown.rpartition("end of help")[2].split()
    assert slow == []
    assert float(seconds) < 5
