"""A DVC project of a few small steps, and stages that were never in a dvc.yaml."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from pipeline.graph.graph import Output, Stage

ROOT = Path(__file__).parents[2]

PARAMS = {"names": ["a", "b"], "factor": 2}
STAGES = {
    "source": {"cmd": "python step.py 1 out/source", "params": ["factor"], "outs": ["out/source"]},
    "double": {
        "matrix": {"name": "${names}"},
        "cmd": "python step.py 2 out/${item.name}",
        "deps": ["out/source"],
        "outs": ["out/${item.name}"],
    },
    "sum": {
        "cmd": "python step.py 3 out/sum.json",
        "deps": ["out/a", "out/b", "out/source"],
        "metrics": ["out/sum.json"],
    },
}


def make_project(folder, stages=STAGES, params=PARAMS):
    """A git repository with a DVC project."""
    folder.mkdir(exist_ok=True)
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(words, cwd=folder, check=True)
    (folder / "step.py").write_text("import sys, pathlib\npathlib.Path(sys.argv[2]).write_text(sys.argv[1])\n")
    write_project(folder, stages, params)
    return folder


def write_project(folder, stages=STAGES, params=PARAMS):
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def pipeline_command(*words, folder=ROOT, code=0, **environment):
    """Run `python -m pipeline` as a user does, and return what it says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KFP_", "AWS_", "DVC_REMOTE"))}
    result = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, words)],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result


def stage(name="step", **changes):
    """A sound stage, but for the changes."""
    sound = {
        "command": "true",
        "dependencies": ("step.py",),
        "params": (),
        "outputs": (Output("out", cached=True, persisted=False, metric=False),),
        "upstream": (),
        "always_changed": False,
    }
    return Stage(**{"name": name, **sound, **changes})
