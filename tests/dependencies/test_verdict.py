"""The verdict of the whole check: every step asks for it, and one process pays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from components.dependencies import verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run(project, *words):
    path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=project, env=os.environ | path, capture_output=True, text=True, check=False
    )


def edit(project, before, after):
    text = (project / "params.yaml").read_text()
    assert before in text
    (project / "params.yaml").write_text(text.replace(before, after, 1))


WRONG = {
    "unknown section": ("run:\n", "preset: bsds500\nrun:\n", "params.yaml: sections: unknown name 'preset'."),
    "memory": (
        "      depths:\n      - 2\n",
        "      depths:\n      - 1000000000\n",
        "params.yaml: ensembles.sr.aggregator: can't be built: ",
    ),
    "lists of dvc.yaml": (
        "    backbone: {name: edsr, channels: 16, blocks: 4}",
        "    backbone: {name: carn}",
        "dvc.yaml: its lists of dependencies do not match params.yaml (components/backbones/carn.py",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_step_refuses_what_another_step_would_fail_on(wrong, project):
    """`fetch` reads none of these values."""
    before, after, told = WRONG[wrong]
    if wrong == "lists of dvc.yaml":
        edit(project, "wide: {channels: 32}", "wide: {channels: null}")
    edit(project, before, after)
    ended = run(project, "-m", "components", "fetch", "--collection", "sr", "--raw", "raw")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[0].startswith(f"error: {told}"), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (project / "raw").exists()
    assert not list(project.glob(".cache/check/*"))


def test_a_sound_project_is_checked_once_and_known_without_torch_or_pydantic(project):
    assert run(project, "-m", "components.checking").stderr == ""
    (kept,) = (project / verdict.KEPT).iterdir()
    assert kept.name == verdict.key_of(project)
    again = run(project, "-X", "importtime", "-m", "components.checking")
    assert again.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    assert "components.dependencies.verdict" in imported
    assert not imported & {"torch", "dvc", "pydantic", "yaml", "components.checking.whole"}
    edit(project, "steps: 2000", "steps: 2001")
    assert verdict.key_of(project) != kept.name


def test_verdicts_are_bounded_and_the_newest_stay(tmp_path):
    for number in range(60):
        verdict.keep(str(number), tmp_path)
        os.utime(tmp_path / str(number), (number, number))
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(10, 60)}


def test_a_folder_that_is_no_project_is_not_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("nothing: of this")
    verdict.refuse_unsound()


def test_no_step_imports_the_check():
    """It reads every step, so a step that imported it would depend on all of them."""
    graph = grimp.build_graph("components", cache_dir=None)
    inside = {name for name in graph.modules if name.startswith("components.checking")}
    assert not [name for name in graph.modules - inside if graph.find_modules_directly_imported_by(name) & inside]
