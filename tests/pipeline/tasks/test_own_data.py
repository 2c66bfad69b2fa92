"""Images that only one machine has, on a cluster: fetched there, pushed, and no task fetches them again."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import pytest
from dvc.utils.serialize import load_yaml
from skimage import data

from pipeline.graph.overrides import as_json, differing
from pipeline.working_copy.composition import composed

ROOT = Path(__file__).parents[3]
PRESET = """\
# @package _global_
sources:
  mine: {files: [{url: "file:$DATASETS_DIR/mine.zip", unpack: true}]}
datasets:
  mine_training: {source: mine, clean: ["training/*.png"]}
  mine_validation: {source: mine, clean: ["validation/*.png"]}
  mine_test: {source: mine, clean: ["test/*.png"]}
collections:
  sr: {training: [mine_training], validation: [mine_validation], test: [mine_test]}
teachers:
  sr:
    expected: {dataset: mine_test}
"""
WAY = ("dvc repro fetch", "dvc push --run-cache fetch")


def run(folder: Path, command: str, **environment: str) -> str:
    """Run a command as a user does, without images unless told where; return what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DVC_", "GIT_"))}
    clean |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}", "DVC_NO_ANALYTICS": "1"}
    clean.pop("DATASETS_DIR", None)
    ended = subprocess.run(
        ["sh", "-ec", command], cwd=folder, env=clean | environment, text=True, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def commit(folder: Path, message: str) -> None:
    run(folder, f"git add . && git -c user.name=a -c user.email=a@b commit -qm '{message}'")


@pytest.mark.slow  # real stages and commands of the real project: a preset, a fetch, a push, a plan and two tasks
def test_what_was_fetched_and_pushed_here_is_not_fetched_by_a_task(tmp_path: Path) -> None:
    here, sets = tmp_path / "here", tmp_path / "sets"
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", "components", "pipeline", "conf", "params.yaml"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        run(ROOT, f"cp -r {name} {here / name}")
    shutil.copy(ROOT / "dvc.yaml", here)
    (here / "conf/preset/mine.yaml").write_text(PRESET)
    sets.mkdir()
    with zipfile.ZipFile(sets / "mine.zip", "w") as archive:
        for split, image in {"training": data.astronaut(), "validation": data.rocket(), "test": data.chelsea()}.items():
            archive.writestr(f"{split}/1.png", cv2.imencode(".png", image)[1].tobytes())
    run(here, "git init -q")
    commit(here, "the project with a preset")
    base = run(here, "git rev-parse HEAD").strip()

    # On the machine that has the images, as README says.
    run(here, f"python -m pipeline preset mine && dvc remote add --local -d storage {tmp_path / 'remote'}")
    readme = (ROOT / "README.md").read_text()
    for command in WAY:
        assert command in readme
        run(here, command, DATASETS_DIR=str(sets))
    commit(here, "own images, fetched")

    # On a cluster: another clone, no images, an empty cache.
    shutil.rmtree(sets)
    pod = {"DVC_REMOTE_URL": str(tmp_path / "remote"), "DVC_CACHE_DIR": str(tmp_path / "cache")}
    cluster = tmp_path / "cluster"
    run(tmp_path, f"git clone -q {here} {cluster}")
    planned = json.loads(run(cluster, "python -m pipeline plan --json --targets validate", **pod))
    assert [(line["stage"], line["will"]) for line in planned] == [("fetch@sr", "not run"), ("validate@sr", "run")]
    assert "fetch@sr: unchanged" in run(cluster, "python -m pipeline task --stage fetch@sr", **pod)

    # The same preset over the committed params, as a run's overrides: the run cache knows it by the same key.
    run(cluster, f"git checkout -q {base}")
    params = load_yaml(str(cluster / "params.yaml"))
    overrides = as_json(dict(differing(params, composed(cluster, params, "mine"))))
    task = f"python -m pipeline task --stage fetch@sr --overrides '{overrides}'"
    assert "fetch@sr: run before with the same inputs" in run(cluster, task, **pod)
