"""A preset over the committed params.yaml: one result in every command, comments kept, mistakes named."""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import loads_yaml

from pipeline.__main__ import main
from pipeline.graph.graph import read_graph
from pipeline.graph.overrides import as_json, changed, differing, read_json
from pipeline.kubeflow.run_request import add_run_arguments, read_request
from pipeline.messages import PipelineError
from pipeline.working_copy.composition import composed as composed_over
from pipeline.working_copy.composition import override
from pipeline.working_copy.workspace import working_copy
from tests.pipeline.presets import DEFAULT, ROOT, composed

PARAMS, GRAPH = Path("params.yaml"), Path("dvc.yaml")
Command = Callable[..., str]


def words(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own code and params in a git repository; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("components", "pipeline", "conf", "params.yaml", "dvc.yaml"):
        words("cp", "-r", str(ROOT / name), name)
    (tmp_path / ".gitignore").write_text("__pycache__/\n.cache\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = false\n")
    words("git", "init", "-q")
    words("git", "add", ".")
    for key, value in (("user.name", "a"), ("user.email", "a@b")):
        words("git", "config", key, value)
    words("git", "commit", "-qm", "all")
    return tmp_path


@pytest.fixture
def command(project: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(*words, code)` in the project; returns what was printed."""
    assert project == Path.cwd()

    def run(*arguments: str, code: int = 0) -> str:
        ended = main(arguments)
        printed = capsys.readouterr()
        assert ended == code, printed.out + printed.err
        return printed.out + printed.err

    return run


def digest(text: str) -> str:
    """A hash of the values in a params.yaml."""
    return hashlib.sha256(json.dumps(loads_yaml(text), sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("name", ["bsds500", "dckd_paper_swinir_x4", "mtkd_edsr_x4", "derain_bsds500"])
def test_it_changes_the_values_to_those_that_hydra_composes(name: str) -> None:
    overrides = dict(differing(DEFAULT, composed_over(ROOT, DEFAULT, name)))
    assert changed(DEFAULT, json.loads(json.dumps(overrides))) == composed(name)


def asked(*flags: str) -> argparse.Namespace:
    """Flags of `submit` and `local`."""
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    words = ["--image", "i", "--revision", "HEAD", "--repository", ".", *flags]
    return parser.parse_args(words, argparse.Namespace(name="run"))


@pytest.mark.parametrize(("name", "task"), [("bsds500", "sr"), ("dckd_paper", "sr"), ("deblur_photographs", "deblur")])
def test_it_gives_the_same_params_locally_queued_planned_and_in_pods(name: str, task: str, command: Command) -> None:
    value = f"students.{task}.training.steps=7"
    expected = composed(name)
    expected["students"][task]["training"]["steps"] = 7

    command("preset", name, "--set", value)
    local, lists = PARAMS.read_text(), GRAPH.read_text()
    words(sys.executable, "-m", "dvc", "exp", "run", "--queue")
    queued = words("git", "show", "refs/exps/celery/stash:params.yaml")
    assert words("git", "show", "refs/exps/celery/stash:dvc.yaml") == lists
    words("git", "checkout", "params.yaml", "dvc.yaml")
    assert words("git", "status", "--porcelain") == ""

    with working_copy("HEAD", "", {}) as copy:
        overrides = override(copy, asked("--preset", name, "--set", value))
        planned = (copy.folder / PARAMS).read_text()
    with working_copy("HEAD", "", read_json(as_json(overrides))) as copy:
        in_pods = (copy.folder / PARAMS).read_text()
        assert (copy.folder / GRAPH).read_text() == lists

    found = {"local": local, "queued": queued, "planned": planned, "in pods": in_pods}
    assert {way: digest(text) for way, text in found.items()} == dict.fromkeys(found, digest(json.dumps(expected)))


def test_it_is_compiled_into_its_own_stages(command: Command) -> None:
    request = read_request(asked("--preset", "deblur_photographs"))
    assert {stage.name.partition("@")[2].partition("-")[0] for stage in request.stages} == {"deblur"}
    command("preset", "deblur_photographs")
    assert request.stages == read_graph(Path())
    assert changed(DEFAULT, read_json(request.parameters["overrides"])) == composed("deblur_photographs")


def test_it_keeps_comments_writes_the_lists_and_takes_values_on_top(command: Command) -> None:
    before = PARAMS.read_text()
    command("preset", "mtkd_edsr_x4", "--set", "students.sr.training.steps=7")
    text = PARAMS.read_text()
    expected = composed("mtkd_edsr_x4")
    expected["students"]["sr"]["training"]["steps"] = 7
    assert yaml.safe_load(text) == expected
    comments = [line.strip() for line in before.splitlines() if line.strip().startswith("#")]
    assert [line for line in comments if line not in text] == []
    assert "components/backbones/swinir.py" in GRAPH.read_text()
    words(sys.executable, "-m", "components", "list_dependencies", "--check")


def test_another_one_takes_its_place(command: Command) -> None:
    """Not a byte of the first one stays, and neither do its lists."""
    command("preset", "logits_convex")
    only = PARAMS.read_text(), GRAPH.read_text()
    command("preset", "deblur_photographs", "--set", "~students.sr")
    assert PARAMS.read_text() != only[0]
    assert GRAPH.read_text() != only[1]
    command("preset", "logits_convex")
    assert (PARAMS.read_text(), GRAPH.read_text()) == only


def test_edits_by_hand_are_not_lost(command: Command) -> None:
    command("preset", "logits_convex")
    edited = PARAMS.read_text().replace("  seeds:\n  - 3\n", "  seeds:\n  - 4\n")
    PARAMS.write_text(edited)
    for arguments in (["preset", "logits_weighted"], ["plan", "--preset", "logits_weighted"]):
        assert "params.yaml: has edits that are not committed" in command(*arguments, code=2)
    assert PARAMS.read_text() == edited
    words("git", "commit", "-qam", "mine")
    command("preset", "logits_weighted")
    found: dict[str, Any] = loads_yaml(PARAMS.read_text())
    assert (found["run"]["seeds"], found["methods"]["logits"]["weights"]["reconstruction"]) == ([4], 5.0)


GLOBAL = "# @package _global_\n"
MISTAKES = [
    (f"{GLOBAL}studnts: {{}}", "params.yaml has no section 'studnts'. Did you mean 'students'?"),
    (f"{GLOBAL}defaults: [/conf/recipe/nope]", "Could not load 'conf/recipe/nope'."),
    (f"{GLOBAL}run: [", "while parsing a flow node"),
    ("run: {seeds: [4]}", "its first line must be `# @package _global_`."),
    (f"{GLOBAL}tasks: 3", "tasks: expected a section with the key 'sr', found 3."),
]


def test_a_mistake_in_one_is_named_and_changes_nothing(command: Command) -> None:
    command("preset", "logits_convex")
    before = PARAMS.read_text(), GRAPH.read_text()
    for text, told in MISTAKES:
        Path("conf/preset/mine.yaml").write_text(f"{text}\n")
        assert told in command("preset", "mine", code=2)
    said = command("preset", "logits_weighted", "--set", "students.sr.backbone.name=carnn", code=2)
    assert "students.sr.backbone.name: unknown name 'carnn'. Did you mean 'carn'" in said
    assert (PARAMS.read_text(), GRAPH.read_text()) == before


def test_an_unknown_one_is_refused_with_a_guess() -> None:
    with pytest.raises(PipelineError, match=r"no preset 'bsds50'. Did you mean 'bsds500'\?"):
        composed_over(ROOT, DEFAULT, "bsds50")


def test_a_plan_has_its_stages(command: Command) -> None:
    said = command("plan", "--preset", "deblur_photographs", "--targets", "evaluate@deblur-scratch-3")
    assert "evaluate@deblur-scratch-3" in said
    assert words("git", "status", "--porcelain") == ""
    assert "write `--preset bsds500`" in command("plan", "--set", "+conf/preset=bsds500", code=2)


@pytest.mark.parametrize(
    ("written", "taken"),
    [("on", "True"), ("no", "False"), ("010", "8"), ("1:30", "90"), ("12:30:00", "45000"), ("0o10", "'0o10'")],
)
def test_a_value_that_a_preset_takes_for_another_is_refused(
    written: str, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "conf/preset"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text(f"# @package _global_\na:\n  b: {written}\n")
    (folder / "over.yaml").write_text("# @package _global_\ndefaults:\n  - /conf/preset/base\na:\n  c: 1\n")
    said = ""
    try:
        composed_over(tmp_path, {"a": {"b": 1, "c": 2}}, "over")
    except PipelineError as refused:
        said = str(refused)
    assert said.startswith(f"conf/preset/base.yaml: a.b: what stands there is taken for {taken} in a preset: ")
