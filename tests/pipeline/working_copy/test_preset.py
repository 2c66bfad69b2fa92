"""A preset over the committed params.yaml: the values that Hydra composes, comments kept, lists written."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.graph.overrides import changed
from pipeline.messages import PipelineError
from pipeline.working_copy.preset import preset_overrides
from tests.pipeline.presets import DEFAULT, ROOT, composed


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, text=True, capture_output=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's own code and params in a git repository."""
    for name in ("components", "pipeline", "conf", "params.yaml", "dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(tmp_path / name)], check=True)
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    user = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (["init", "-q"], ["add", "."], [*user, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("name", ["bsds500", "dckd_paper_swinir_x4", "mtkd_edsr_x4", "derain_bsds500"])
def test_it_changes_the_values_to_those_that_hydra_composes(name: str) -> None:
    assert changed(DEFAULT, preset_overrides(ROOT, DEFAULT, name)) == composed(name)


def test_it_keeps_comments_writes_the_lists_and_takes_values_on_top(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    done = run(project, "pipeline", "preset", "mtkd_edsr_x4", "--set", "students.sr.training.steps=7")
    assert done.returncode == 0, done.stderr
    text = (project / "params.yaml").read_text()
    expected = composed("mtkd_edsr_x4")
    expected["students"]["sr"]["training"]["steps"] = 7
    assert yaml.safe_load(text) == expected
    comments = [line.strip() for line in before.splitlines() if line.strip().startswith("#")]
    assert [line for line in comments if line not in text] == []
    assert "components/backbones/swinir.py" in (project / "dvc.yaml").read_text()
    assert run(project, "components", "list_dependencies", "--check").returncode == 0


def test_it_is_never_laid_over_another_one(project: Path) -> None:
    assert run(project, "pipeline", "preset", "bsds500").returncode == 0
    first = (project / "params.yaml").read_text()
    done = run(project, "pipeline", "preset", "logits_convex")
    assert done.returncode == 2
    assert "params.yaml: differs from the committed one" in done.stderr
    assert (project / "params.yaml").read_text() == first


def test_an_unknown_one_is_refused_with_a_guess() -> None:
    with pytest.raises(PipelineError, match=r"no preset 'bsds50'. Did you mean 'bsds500'\?"):
        preset_overrides(ROOT, DEFAULT, "bsds50")


def test_values_of_a_plan_write_the_lists_of_its_working_copy(project: Path) -> None:
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    done = run(
        project, "pipeline", "plan", "--set", "students.sr.backbone.name=carn", "--targets", "evaluate@sr-scratch-3"
    )
    assert done.returncode == 0, done.stderr
    assert (project / "dvc.yaml").read_text() == (ROOT / "dvc.yaml").read_text()
    done = run(project, "pipeline", "plan", "--set", "students.sr.backbone.name=carnn")
    assert done.returncode == 2
    assert "students.sr.backbone.name: unknown name 'carnn'. Did you mean 'carn'" in done.stderr
