"""The whole chain by `dvc repro`, in a small size: what runs, what does not, and that the bytes are the same."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# One method of each need, and all that the first report shows: every kind of stage.
METHODS = {"teacher": ["scratch", "logits"], "encoder": ["dckd"], "ensemble": ["mtkd"], "privileged_teacher": ["pisr"]}
TINY: dict[str, Any] = {"steps": 6, "batch": 2, "patch": 24, "log_every": 2, "validate_every": 3}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)


def repro(folder: Path, *arguments: str) -> list[str]:
    """Names of the stages that `dvc repro` ran."""
    done = run(folder, "dvc", "repro", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"Running stage '([^']+)'", done.stdout)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    change(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def shrink(params: dict[str, Any]) -> None:
    params["teachers"]["sr"]["backbone"] |= {"channels": 8, "blocks": 1}
    params["teachers"]["sr_rcan"]["backbone"] |= {"channels": 8, "groups": 1, "blocks": 1}
    params["teachers"]["sr_rcan"]["training"] |= TINY
    params["ensembles"]["sr"]["aggregator"] |= {"channels": 8, "tail": 8}
    params["ensembles"]["sr"]["tolerance"] = 100.0
    params["students"]["sr"]["backbone"] |= {"channels": 4, "blocks": 1}
    params["teachers"]["sr"]["expected"] |= {"psnr": 0.0}
    for section in ("teachers", "encoders", "ensembles", "privileged_teachers", "students"):
        params[section]["sr"]["training"] |= TINY
    for method in ("dckd", "dckd_star"):
        params["methods"][method]["history"] |= {"intervals": [2], "phase": 100}


def hashes(folder: Path, stage: str) -> list[dict[str, Any]]:
    """What dvc.lock says of a stage's outputs."""
    outputs: list[dict[str, Any]] = yaml.safe_load((folder / "dvc.lock").read_text())["stages"][stage]["outs"]
    return outputs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this project in a small size, run once."""
    folder = tmp_path_factory.mktemp("chain") / "project"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, files.decode().split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    assert run(folder, "git", "init", "-q").returncode == 0
    edit(folder, shrink)
    edit(folder, lambda params: params["run"].update(methods=METHODS))
    assert run(folder, sys.executable, "-m", "components", "list_dependencies").returncode == 0
    assert run(folder, sys.executable, "-m", "pipeline", "check").returncode == 0
    ran = repro(folder)
    assert ran[0] == "fetch@sr"
    assert ran[-1].startswith(("report", "export"))
    return folder


def test_the_reports_and_every_score_are_there(project: Path) -> None:
    every = [name for names in METHODS.values() for name in names]
    for folder, methods in (("report", ("scratch", "logits", "dckd")), ("report_with_every_method", every)):
        page = (project / f"data/{folder}/sr/report.html").read_text(encoding="utf-8")
        assert all(name in page for name in (*methods, "chelsea", "coffee"))
        assert all((project / f"data/scores/sr/{method}/3.json").is_file() for method in methods)


def test_a_second_run_runs_no_stage(project: Path) -> None:
    assert repro(project) == []


def test_nothing_is_left_beside_the_outputs(project: Path) -> None:
    assert list(project.glob("data/**/*.partial")) == []
    assert list((project / ".cache/checkpoints").glob("*")) == []


def test_the_plan_knows_what_each_stage_took_and_scales_the_time_of_a_training(project: Path) -> None:
    said = run(project, sys.executable, "-m", "pipeline", "plan", "--json", "--set", "students.sr.training.steps=600")
    assert said.returncode == 0, said.stderr
    lines = {line["stage"]: line for line in json.loads(said.stdout)}
    assert all(line["memory_bytes"] > 1e7 for line in lines.values())
    assert all(line["output_bytes"] > 0 for line in lines.values())
    recorded = {name: json.loads((project / f".cache/durations/{name}.json").read_text()) for name in lines}
    changed = {name for name in lines if name.startswith("distill")}
    for name, line in lines.items():
        took = recorded[name]
        assert took.get("training", {"steps": 6})["steps"] == 6
        more = 99 * took["training"]["seconds"] if name in changed else 0
        assert line["seconds"] == pytest.approx(took["seconds"] + more)
        assert line["steps"] == (600 if name in changed else 6 if "training" in took else None)
    assert {name.partition("@")[0] for name, took in recorded.items() if "training" in took} == {
        "train_teacher",
        "train_encoder",
        "train_teacher_as_member",
        "train_ensemble",
        "train_privileged_teacher",
        *(name.partition("@")[0] for name in changed),
    }


def test_metrics_can_be_shown(project: Path) -> None:
    shown = run(project, "dvc", "metrics", "show", "--md")
    assert shown.returncode == 0, shown.stderr
    assert "data/scores/sr/dckd/3.json" in shown.stdout


def test_with_the_cache_on_another_disk_nothing_is_kept_twice_and_stages_read_through_links(project: Path) -> None:
    cache = project.parent / "disk" / "cache"
    cache.parent.mkdir()
    (project / ".dvc/cache").rename(cache)
    assert run(project, "dvc", "cache", "dir", "--local", str(cache)).returncode == 0
    assert run(project, "dvc", "config", "--local", "cache.type", "symlink").returncode == 0  # as between two disks
    assert run(project, "dvc", "checkout", "--relink").returncode == 0
    outputs = ("raw", "lmdb", "teachers", "students", "scores", "report")
    files = [path for name in outputs for path in (project / "data" / name).rglob("*") if not path.is_dir()]
    assert len(files) > 20
    assert [path for path in files if not path.is_symlink()] == []
    assert repro(project) == []


def test_the_same_seed_gives_the_same_bytes(project: Path) -> None:
    stages = ("build_lmdb@sr", "distill_with_encoder@sr-dckd-3", "evaluate_with_encoder@sr-dckd-3")
    first = {stage: hashes(project, stage) for stage in stages}
    assert repro(project, "--force", "--single-item", *stages) == list(stages)
    assert {stage: hashes(project, stage) for stage in stages} == first


def test_a_changed_weight_of_dckd_reruns_dckd_its_export_and_the_reports_only(project: Path) -> None:
    edit(project, lambda params: params["methods"]["dckd"]["weights"].update(contrastive=0.2))
    assert sorted(repro(project)) == [
        "distill_with_encoder@sr-dckd-3",
        "evaluate_with_encoder@sr-dckd-3",
        "export@sr-dckd-3",
        "report@sr",
        "report_with_every_method@sr",
    ]


def test_a_weak_teacher_stops_the_run_and_names_both_numbers(project: Path) -> None:
    edit(project, lambda params: params["teachers"]["sr"]["expected"].update(psnr=99.0))
    done = run(project, "dvc", "repro")
    assert done.returncode != 0
    assert re.search(r"error: the teacher reaches [\d.]+ dB on photographs_test, expected 99.00 dB", done.stderr)
    assert "Running stage 'distill" not in done.stdout
