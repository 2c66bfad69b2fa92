"""The page with what differs in every run: made by the stage's own command, beside what DVC keeps."""

import hashlib
import json
import shutil
import subprocess

import pytest
import yaml

from components.dependencies import verdict
from components.reporting.wording import ABSENT
from pipeline.graph.graph import read_graph
from pipeline.results.page import circumstances, pages_of
from tests.pipeline.toy import ROOT, pipeline_command
from tests.reporting.project import FLAGS, make_project

EXPORTED = ("student_torch", "student", "student_float16", "student_int8", "teacher_torch", "teacher")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A committed project whose one stage makes the report; it was never run."""
    root = tmp_path_factory.mktemp("page") / "project"
    make_project_folder(root)
    return root


def make_project_folder(root):
    root.mkdir()
    (root / ".dvc").mkdir()
    make_project(root)
    command = " ".join(["python", "-m", "components", "report", *FLAGS])
    stages = {
        "report": {"cmd": command, "deps": ["data/scores"], "outs": ["data/report/sr"]},
        "other": {"cmd": "true", "deps": ["data/scores"], "outs": ["data/other"]},
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    verdict.keep(verdict.key_of(root), root / verdict.KEPT)  # its params are a part of a project's
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (root / ".gitignore").write_text("/data\n/.cache\n__pycache__/\n")
    speed = {"seconds_per_megapixel": 0.25, "device": "a card", "threads": 3}
    (root / "data/speed/sr/dckd").mkdir(parents=True)
    (root / "data/speed/sr/dckd/3.json").write_text(json.dumps(speed))
    (root / "data/speed/sr/teacher.json").write_text(json.dumps(speed | {"seconds_per_megapixel": 0.75}))
    costs = {name: {"seconds_per_megapixel": 0.1, "megabytes_per_megapixel": 200.4} for name in EXPORTED}
    costs["student_int8"]["seconds_per_megapixel"] = 0.0625
    student = hashlib.sha256((root / "data/students/sr/dckd/3/student.safetensors").read_bytes()).hexdigest()
    exported = {"device": "another card", "threads": 5, "student": student, "networks": costs}
    (root / "data/speed/sr/dckd/3-export.json").write_text(json.dumps(exported))
    files = ("torch", "student", "student_float16", "student_int8")
    losses = {name: {"bytes": 4321, "first": {"psnr": 31.0, "lost": 0.0}} for name in files}
    losses["student_int8"] = {"bytes": 1234, "first": {"psnr": 30.75, "lost": 0.25}}
    (root / "data/exports/sr/dckd/3").mkdir(parents=True)
    (root / "data/exports/sr/dckd/3/losses.json").write_text(json.dumps(losses))
    (root / ".cache/durations").mkdir(parents=True)
    for stage, seconds in (("report", 61.5), ("other", 7.25)):
        (root / f".cache/durations/{stage}.json").write_text(json.dumps({"seconds": seconds}))
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=root, check=True)


@pytest.fixture
def project(made, tmp_path):
    return shutil.copytree(made, tmp_path / "project", symlinks=True)


def page_of(project, *words):
    pipeline_command("page", *words, folder=project)
    return (project / "data/pages/report/report.html").read_text(encoding="utf-8")


def test_it_tells_revision_lock_hardware_and_latency_and_leaves_the_stages_output_alone(project):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True)
    page = page_of(project)
    assert f"Revision {commit.stdout.strip()}." in page
    assert hashlib.sha256((project / "dvc.lock").read_bytes()).hexdigest() in page
    assert "a card, 3 threads" in page
    assert "PSNR over latency on first" in page
    assert not (project / "data/report").exists()
    assert {path.name for path in (project / "data/pages").iterdir()} == {"report"}


def test_it_tells_what_was_exported_and_how_long_the_stages_took(project):
    page_of(project)
    page = (project / "data/pages/report/report.md").read_text(encoding="utf-8")
    assert "### Exported" in page
    assert "| dckd, ONNX, int8 | 1,234 | 30.75 | \N{MINUS SIGN}0.25 | 62.5 | 200 |" in page
    assert f"| teacher, as trained | {ABSENT} | {ABSENT} | {ABSENT} | 100 | 200 |" in page
    assert "measured on: another card, 5 threads" in page
    assert "(only the last part of an interrupted training): report 62 s." in page
    assert "other 7 s" not in page
    teacher = next(line for line in page.splitlines() if line.startswith("| teacher |"))
    assert teacher.endswith(" 750 |")


def test_the_export_of_a_former_student_is_left_out(project):
    file = project / "data/speed/sr/dckd/3-export.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"student": "0" * 64}))
    page_of(project)
    assert "### Exported" not in (project / "data/pages/report/report.md").read_text(encoding="utf-8")


def test_an_export_without_its_losses_is_left_out(project, monkeypatch):
    monkeypatch.chdir(project)
    assert set(circumstances("sr", [])["exports"]) == {"dckd/3"}
    shutil.rmtree(project / "data/exports")
    assert circumstances("sr", [])["exports"] == {}


def test_changes_that_are_not_committed_are_told(project, monkeypatch):
    monkeypatch.chdir(project)
    assert not circumstances("sr", [])["changed"]
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "\n")
    assert circumstances("sr", [])["changed"]


def test_what_is_not_there_is_no_fault(project, monkeypatch):
    monkeypatch.chdir(project)
    shutil.rmtree(project / "data/speed")
    shutil.rmtree(project / ".git")
    (project / "dvc.lock").unlink()
    shutil.rmtree(project / ".cache")
    found = circumstances("sr", ["report"])
    assert [found[key] for key in ("revision", "changed", "lock", "speed", "durations")] == ["", False, "", {}, {}]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["reprot"], "no stage 'reprot'. Did you mean 'report'?"),
        (["other"], "other: makes no page"),
    ],
)
def test_another_stage_is_refused_by_name(project, words, told):
    assert told in pipeline_command("page", *words, folder=project, code=2).stderr


def test_missing_inputs_are_the_steps_own_message(project):
    (project / "data/scores/sr/dckd/3.json").unlink()
    said = pipeline_command("page", folder=project, code=2).stderr
    assert "data/scores/sr/dckd/3.json: not found" in said
    assert not list((project / "data").glob("pages/*"))


@pytest.mark.parametrize("name", ["report", "report_with_every_method"])
def test_the_projects_own_reports_can_be_made_so(name, tmp_path):
    found = pages_of(read_graph(ROOT), name, tmp_path)
    assert found
    for stage, words, task in found:
        assert words[words.index("--output") + 1] == str(tmp_path / stage)
        assert stage == f"{name}@{task}"
