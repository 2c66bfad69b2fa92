"""The layout of params.yaml: DVC and this project change one line for one value, and no comment."""

import difflib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.collections import merge_dicts, to_omegaconf
from dvc.utils.hydra import apply_overrides as dvc_override
from dvc.utils.serialize import dumps_yaml, loads_yaml
from dvc.utils.serialize._yaml import parse_yaml_for_update
from omegaconf import OmegaConf

from pipeline.graph.overrides import apply_overrides

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
ADVICE = "DVC's writer lays params.yaml out in its own way; write the lines with + so that it changes no others:\n"
RULES = (
    "params.yaml: another value on a line changes other lines too. Keep a mapping in braces under 73 columns; write a "
    "list with dashes, or in brackets inside such a mapping; let no comment or empty line follow a list with dashes.\n"
)


def difference(before: str, after: str) -> list[str]:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))
    return [repr(line)[1:-1] for line in lines if line[:3] not in {"+++", "---"} and not line.startswith("@@")]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def test_dvcs_writer_keeps_every_byte_where_no_value_changes(params: Path) -> None:
    dvc_override(str(params), [])
    rewritten = difference(TEXT, params.read_text(encoding="utf-8"))
    assert not rewritten, ADVICE + "\n".join(rewritten)


def leaves(node: Any) -> Iterator[tuple[Any, Any, int]]:
    """Each mapping or list with one of its keys, and the line of the value there."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            yield from leaves(value)
        else:
            where = node.lc.item if isinstance(node, list) else node.lc.key if value is None else node.lc.value
            yield node, key, where(key)[0]


def another(value: Any) -> Any:
    """A value of the same kind; a number of about four characters more."""
    match value:
        case bool():
            return not value
        case int():
            return value * 10000 + 1
        case float():
            return round(value + 0.0123, 6)
        case str():
            return f"x{value[1:]}"
    return "published/weights.pt"


def test_another_value_at_any_key_changes_its_own_line_alone() -> None:
    """In every round another value of each line."""
    for turn in range(max(len(places) for places in by_line(parsed()).values())):
        values = parsed()
        lines = by_line(values)
        assert len(lines) > 300
        for places in lines.values():
            node, key = places[turn % len(places)]
            node[key] = another(node[key])
        # Lists and texts lose all that the parser remembers of them, as in DVC.
        plain = OmegaConf.to_object(OmegaConf.create(to_omegaconf(values), flags={"allow_objects": True}))
        after = dumps_yaml(merge_dicts(parsed(), plain))
        assert not unlike(after, set(lines)), RULES + unlike(after, set(lines))
        assert comments(after) == comments(TEXT)


def parsed() -> Any:
    return parse_yaml_for_update(TEXT, "params.yaml")


def by_line(values: Any) -> dict[int, list[tuple[Any, Any]]]:
    found: dict[int, list[tuple[Any, Any]]] = {}
    for node, key, line in leaves(values):
        found.setdefault(line, []).append((node, key))
    return found


def unlike(after: str, changed: set[int]) -> str:
    """The first line that is changed and should not be, or the reverse, as it is and as it becomes."""
    for number, (old, new) in enumerate(zip_longest(TEXT.splitlines(), after.splitlines(), fillvalue="")):
        if (old != new) != (number in changed):
            return f"line {number + 1}:\n-{old}\n+{new}"
    return ""


KINDS = {
    "students.sr.training.steps=500": ["-      steps: 2000", "+      steps: 500"],
    "students.sr.training.learning_rate=0.000001": ["-      learning_rate: 0.001", "+      learning_rate: 1e-06"],
    "teachers.sr.training.optimiser.betas=[0.5,0.9]": [
        "-      optimiser: {name: adam, betas: [0.9, 0.99]}",
        "+      optimiser: {name: adam, betas: [0.5, 0.9]}",
    ],
    "students.sr.training.ema_decay=null": ["-      ema_decay: 0.99", "+      ema_decay:"],
    "methods.pisr.start=random": [
        "-    start: decoder             # or random",
        "+    start: random              # or random",
    ],
    "methods.dckd.weights.contrastive=0.2": ["-      contrastive: 0.01", "+      contrastive: 0.2"],
    "run.seeds=[3,4]": ["+  - 4"],
}


@pytest.mark.parametrize("assignment", KINDS)
def test_what_dvc_sets_is_one_line(assignment: str, params: Path) -> None:
    dvc_override(str(params), [assignment])
    assert difference(TEXT, params.read_text(encoding="utf-8")) == KINDS[assignment]


def dotted(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list) and value:
            yield from dotted(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def test_this_projects_writer_keeps_every_byte_where_no_value_changes(params: Path) -> None:
    apply_overrides(params, dict(dotted(loads_yaml(TEXT))))
    assert params.read_text(encoding="utf-8") == TEXT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A graph of one quick stage over this project's own params.yaml, with its settings of DVC."""
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitattributes", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "dvc.yaml").write_text(
        "stages: {count: {cmd: wc -c params.yaml > out, params: [{params.yaml: }], outs: [out]}}\n"
    )
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "all")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    user = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *user, *words], cwd=folder, text=True, capture_output=True, check=True).stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", message)


def dvc(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=folder, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_experiments_change_one_line_run_here_or_queued_and_applied(project: Path) -> None:
    numstat = ("diff", "--numstat", "--", "params.yaml")
    dvc(project, "exp", "run", "--set-param", "methods.dckd.weights.contrastive=0.2")
    assert git(project, *numstat) == "1\t1\tparams.yaml\n"
    git(project, "checkout", "--quiet", "params.yaml")
    dvc(project, "exp", "run", "--queue", "--name", "later", "--set-param", "students.sr.training.steps=500")
    dvc(project, "exp", "run", "--run-all")
    assert git(project, *numstat) == ""
    dvc(project, "exp", "apply", "later")
    assert git(project, *numstat) == "1\t1\tparams.yaml\n"
    assert comments((project / "params.yaml").read_text(encoding="utf-8")) == comments(TEXT)


def comments(text: str) -> list[str]:
    found = [line[line.index("#") :] for line in text.splitlines() if "#" in line]
    assert len(found) > 50
    return found
