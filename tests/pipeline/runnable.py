"""A DVC project whose stages really run, in fractions of a second, and the ways to run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline.deciding.lock import fragment_text, read_lock

ROOT = Path(__file__).parents[2]

STEPS = """\
import json, os, sys, time
from pathlib import Path
import yaml

P = yaml.safe_load(Path("params.yaml").read_text())

def fetch(out):
    Path(out).mkdir(parents=True)
    for index in range(P["fetch"]["images"]):
        Path(out, f"{index}.txt").write_text(str(index) * 100)

def distill(raw, out, method):
    student = P["students"]["sr"]
    checkpoint = Path(".cache/checkpoints", method)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    start = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(start, student["steps"]):
        print("step", step, flush=True)
        end = time.monotonic() + 600 * (step == int(os.environ.get("HOLD_AT_STEP", -1)))
        while time.monotonic() < end and not Path(os.environ.get("HOLD_UNTIL", "nothing")).exists():
            time.sleep(0.05)
        checkpoint.write_text(str(step + 1))
    if student["fail"]:
        print("loss is not finite", file=sys.stderr)
        sys.exit(student["fail"])
    images = sum(len(path.read_text()) for path in Path(raw).iterdir())
    Path(out).mkdir(parents=True)
    Path(out, "student.txt").write_text(f"{images} {student['steps']} {P['methods'][method]['alpha']}")

def evaluate(student, scores):
    images, steps, alpha = map(float, Path(student, "student.txt").read_text().split())
    Path(scores).parent.mkdir(parents=True, exist_ok=True)
    Path(scores).write_text(json.dumps({"photographs_test": {"psnr": images / 100 + alpha}, "name": "x"}))

def report(out, *scores):
    Path(out).mkdir(parents=True)
    Path(out, "report.html").write_text("<p>" + "".join(Path(file).read_text() for file in scores) + "</p>")

globals()[sys.argv[1]](*sys.argv[2:])
"""

GRAPH = """\
stages:
  fetch:
    matrix: {task: "${run.tasks}"}
    cmd: python steps.py fetch data/raw/${item.task}
    params: [fetch]
    deps: [steps.py]
    outs: ["data/raw/${item.task}"]
  distill:
    matrix: {task: "${run.tasks}", method: [scratch, logits]}
    cmd: python steps.py distill data/raw/${item.task} data/students/${item.task}/${item.method} ${item.method}
    params: ["students.${item.task}", "methods.${item.method}"]
    deps: ["data/raw/${item.task}", steps.py]
    outs: ["data/students/${item.task}/${item.method}"]
  evaluate:
    matrix: {task: "${run.tasks}", method: [scratch, logits]}
    cmd: python steps.py evaluate data/students/${item.task}/${item.method} data/scores/${item.task}/${item.method}.json
    deps: ["data/students/${item.task}/${item.method}", steps.py]
    metrics: ["data/scores/${item.task}/${item.method}.json"]
  report:
    matrix: {task: "${run.tasks}"}
    cmd: >-
      python steps.py report data/report/${item.task} data/scores/${item.task}/scratch.json
      data/scores/${item.task}/logits.json
    deps: ["data/scores/${item.task}/scratch.json", "data/scores/${item.task}/logits.json", steps.py]
    outs: ["data/report/${item.task}"]
    meta: {kfp: {page: "data/report/${item.task}/report.html"}}
"""

PARAMS = """\
# Every number.
run: {tasks: [sr]}
fetch: {images: 4}
students:
  sr: {steps: 3, fail: 0}   # few
methods:
  scratch: {alpha: 0.5}
  logits: {alpha: 0.25}
"""

UPSTREAM = {
    "fetch@sr": [],
    "distill@sr-scratch": ["fetch@sr"],
    "distill@sr-logits": ["fetch@sr"],
    "evaluate@sr-scratch": ["distill@sr-scratch"],
    "evaluate@sr-logits": ["distill@sr-logits"],
    "report@sr": ["evaluate@sr-scratch", "evaluate@sr-logits"],
}


class Project:
    """A project in `folder`, with a remote and what its commands find in the environment."""

    def __init__(self, folder, remote, **environment):
        self.folder = folder
        self.locks = folder.parent / "locks"
        self.workspaces = folder.parent / "workspaces"
        self.workspaces.mkdir(exist_ok=True)
        self.environment = {
            "DVC_REMOTE_URL": str(remote),
            "WORKSPACE_ROOT": str(self.workspaces),
            "STORAGE_PATIENCE": "1",
            **environment,
        }

    def make(self):
        """Write the files and commit them; nothing has been run."""
        (self.folder / ".dvc").mkdir(parents=True)
        (self.folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    autostage = false\n")
        (self.folder / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
        (self.folder / ".gitignore").write_text("/data/*\n/.cache\n")
        (self.folder / "steps.py").write_text(STEPS)
        (self.folder / "dvc.yaml").write_text(GRAPH)
        (self.folder / "params.yaml").write_text(PARAMS)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("the project")
        return self

    def git(self, *words):
        identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@localhost")
        return self._run("git", *identity, *words).stdout.strip()

    def commit(self, message):
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", message)

    def dvc(self, *words):
        return self._run(sys.executable, "-m", "dvc", *words).stdout

    def reproduce(self):
        """`dvc repro` here, its lock committed, its outputs pushed by DVC itself."""
        self.dvc("repro", "--quiet")
        self.commit("the lock")
        remote = self.environment["DVC_REMOTE_URL"]
        (self.folder / ".dvc" / "config.local").write_text(
            f"[core]\n    remote = other\n['remote \"other\"']\n    url = {remote}\n"
        )
        self.dvc("push", "--quiet")
        return self

    def fragment(self, stage, entries=None):
        """The lock that the task of a stage would hand on, from dvc.lock."""
        entries = entries or read_lock(self.folder / "dvc.lock")
        wanted, waiting = set(), [stage]
        while waiting:
            name = waiting.pop()
            wanted.add(name)
            waiting += UPSTREAM[name]
        self.locks.mkdir(exist_ok=True)
        path = self.locks / stage
        path.write_text(fragment_text({name: entry for name, entry in entries.items() if name in wanted}))
        return path

    def pipeline(self, *words, code=0, **environment):
        """`python -m pipeline WORDS` in the project."""
        ended = subprocess.run(self.words(*words), **self.settings(environment), check=False)
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert list(self.workspaces.iterdir()) == [] or "--keep" in words, "a working copy was left behind"
        return ended

    @staticmethod
    def words(*words):
        return [sys.executable, "-m", "pipeline", *map(str, words)]

    def settings(self, environment=()):
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "DVC_", "GIT_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
        added = {"PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", **self.environment}
        given = {"cwd": self.folder, "env": {**clean, **added, **dict(environment)}}
        return given | {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def task_words(self, stage, *flags, upstream=None):
        """The flags of one task, whose upstream locks are those of the tasks before it."""
        above = [self.locks / name for name in UPSTREAM.get(stage, [])] if upstream is None else upstream
        outputs = [f"--{kind}-output={self.locks / stage}{end}" for kind, end in OUTPUTS.items()]
        return ["task", "--stage", stage, *(f"--upstream={path}" for path in above), *outputs, *flags]

    def task(self, stage, *flags, upstream=None, code=0, **environment):
        return self.pipeline(*self.task_words(stage, *flags, upstream=upstream), code=code, **environment)

    def run_all(self, *flags, **environment):
        """Every task, one after the other; returns what became of each stage."""
        return {name: outcome(self.task(name, *flags, **environment).stdout, name) for name in UPSTREAM}

    def _run(self, *words):
        ended = subprocess.run(words, **self.settings(), check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended


OUTPUTS = {"lock": "", "metrics": ".json", "page": ".html"}


def outcome(printed, stage):
    """`runs`, `unchanged` or `run before`."""
    return re.search(rf"^{stage}: (runs|unchanged|run before)", printed, re.MULTILINE)[1]


def params_with(folder, old, new):
    path = folder / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
