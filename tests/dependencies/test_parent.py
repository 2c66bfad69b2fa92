"""A step that DVC runs, and DVC is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

# Another line in the table of the steps.
STEP = """
import os, subprocess, sys, time, types
from pathlib import Path
from components import __main__ as steps

def main(words):
    subprocess.Popen(["sleep", "60"])
    Path(words[0]).write_text(str(os.getpid()))
    time.sleep(60)

steps.STEPS["sleep"] = "wait"
sys.modules["components.sleep"] = types.SimpleNamespace(main=main)
sys.argv[1:] = ["sleep", "new"]
steps.main()
"""


def wait_for(path: Path) -> psutil.Process:
    for _ in range(600):
        if path.exists() and (text := path.read_text()):
            return psutil.Process(int(text))
        time.sleep(0.05)
    raise AssertionError(f"{path} was never written")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return tmp_path


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(words, cwd=folder, env=environment)


@pytest.mark.parametrize("command", ["python step.py", "python step.py; true"], ids=["alone", "below a shell"])
def test_it_ends_with_the_dvc_that_runs_it(command: str, folder: Path) -> None:
    (folder / "dvc.yaml").write_text(f"stages: {{wait: {{cmd: '{command}'}}}}")
    dvc = started(folder, sys.executable, "-m", "dvc", "repro", "--quiet")
    step = wait_for(folder / "new")
    assert dvc.pid in {above.pid for above in step.parents()}
    running = [step, *step.children()]
    assert len(running) == 2
    dvc.kill()
    dvc.wait()
    _, left = psutil.wait_procs(running, timeout=10)
    for process in left:
        process.kill()
    assert left == []


def test_without_dvc_it_may_outlive_who_started_it(folder: Path) -> None:
    starter = started(folder, "sh", "-c", "python step.py & wait")
    step = wait_for(folder / "new")
    running = [step, *step.children()]
    starter.kill()
    starter.wait()
    _, left = psutil.wait_procs(running, timeout=2)
    for process in left:
        process.kill()
    assert set(left) == set(running)
