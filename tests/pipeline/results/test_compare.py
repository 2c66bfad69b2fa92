"""What a change does to the scores, from metrics that DVC really keeps: in its cache, or in a remote."""

import json
import shutil
import socket

import pytest

from pipeline.__main__ import main
from pipeline.results.metrics import Comparison
from pipeline.results.score_comment import comment
from tests.pipeline.refusals import refusal
from tests.pipeline.runnable import Project, params_with
from tests.planted import REPOSITORIES, is_in

pytest_plugins = ["tests.pipeline.fixtures"]

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def changed_once(reproduced_once, tmp_path_factory):
    """A branch with another weight of logits, run and pushed."""
    folder = tmp_path_factory.mktemp("changed")
    for name in ("project", "remote"):
        shutil.copytree(reproduced_once / name, folder / name, symlinks=True)
    project = Project(folder / "project", folder / "remote")
    project.git("checkout", "--quiet", "-b", "weight")
    params_with(project.folder, "alpha: 0.25", "alpha: 0.75")
    project.reproduce()
    return folder


@pytest.fixture
def changed(changed_once, tmp_path):
    for name in ("project", "remote"):
        shutil.copytree(changed_once / name, tmp_path / name, symlinks=True)
    return Project(tmp_path / "project", tmp_path / "remote")


@pytest.fixture
def clone(changed, tmp_path):
    """A server's clone of the branch: main is known by the remote's name alone, and there is no data."""
    changed.git("clone", "--quiet", "--branch", "weight", ".", str(tmp_path / "clone"))
    changed.folder = tmp_path / "clone"
    return changed


def compared(project, *words, **environment):
    return project.pipeline("compare", *words, **environment).stdout


def test_the_scores_that_changed_are_told_with_both_values_and_why(changed):
    text = compared(changed)
    commit = changed.git("rev-parse", "--short=7", "main")
    psnr = json.loads((changed.folder / "data/scores/sr/logits.json").read_text())["photographs_test"]["psnr"]
    assert text.splitlines() == [
        f"### Scores against `main` ({commit})",
        "",
        "Of 2 scores (a method on a test set): 1 better, 1 unchanged.",
        "",
        "| task | method | test set | PSNR | change | SSIM | change |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        f"| `sr` | `logits` | `photographs_test` | {psnr:.2f} | +0.50 | {DASH} | {DASH} |",
        "",
        "Params:",
        "",
        "| key | before | after |",
        "| --- | ---: | ---: |",
        "| `methods.logits.alpha` | `0.25` | `0.75` |",
    ]


def test_a_clone_without_data_reads_both_from_the_remote(clone, changed):
    assert not (clone.folder / "data").exists()
    assert "| +0.50 |" in compared(clone, "main")
    assert not (clone.folder / "data/scores").exists(), "nothing is checked out"


def test_two_revisions_are_compared_whatever_lies_here(clone):
    params_with(clone.folder, "alpha: 0.75", "alpha: 9.5")
    text = compared(clone, "weight", "--to", "origin/main")
    assert f"| {MINUS}0.50 |" in text
    assert "1 worse" in text
    assert "9.5" not in text


def test_without_a_change_there_is_a_sentence_and_no_table(changed):
    text = compared(changed, "weight")
    assert "Of 2 scores (a method on a test set): 2 unchanged." in text
    assert "|" not in text
    assert compared(changed, "weight", "--all").count("| `sr` |") == 2


def test_the_comment_can_be_written_to_a_file(changed, tmp_path):
    assert compared(changed, "--output", tmp_path / "out/comment.md") == ""
    assert (tmp_path / "out/comment.md").read_text().startswith("### Scores against `main`")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mian"], "mian: no branch, tag or commit of this clone. Did you mean 'main'?"),
        (["main", "--to", "nowhere"], "nowhere: no branch, tag or commit of this clone."),
    ],
)
def test_an_unknown_revision_is_named(changed, words, told):
    ended = changed.pipeline("compare", *words, code=2)
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_metrics_that_are_nowhere_are_an_error_that_says_where_to_get_them(clone, tmp_path):
    ended = clone.pipeline("compare", "main", code=2, DVC_REMOTE_URL="")
    assert "error: main: its metrics are neither in DVC's cache nor in a remote" in ended.stderr
    assert "data/scores/sr/scratch.json" in ended.stderr
    assert "DVC_REMOTE_URL" in ended.stderr
    empty = clone.pipeline("compare", "main", code=2, DVC_REMOTE_URL=str(tmp_path / "empty"))
    assert f"neither in DVC's cache nor in {tmp_path / 'empty'} (" in empty.stderr


def test_what_is_wrong_with_a_remote_is_told_as_it_is(clone, s3, monkeypatch, capsys):
    monkeypatch.chdir(clone.folder)
    found = s3.environment()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for changed, told in (
        ({"DVC_REMOTE_URL": "gs://bucket"}, "DVC_REMOTE_URL: gs:// needs the package dvc-gs"),
        ({"AWS_ENDPOINT_URL": nobody}, f"at {nobody.removeprefix('http://')}: Could not connect to the endpoint URL"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:1"}, "AWS_ENDPOINT_URL: '127.0.0.1:1' is no address of a server"),
        (
            {"DVC_REMOTE_URL": "s3://no-such-bucket/x"},
            "neither in DVC's cache nor in s3://no-such-bucket/x at 127.0.0.1",
        ),
        ({"DVC_REMOTE_URL": "/nowhere"}, "neither in DVC's cache nor in /nowhere"),
    ):
        environment = {**found, "DVC_REMOTE_URL": f"s3://{s3.bucket()}", "STORAGE_PATIENCE": "0", **changed}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert told in refusal(["compare", "main"], capsys), changed


def test_what_is_wrong_with_the_projects_own_remote_is_told(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone.folder)
    monkeypatch.delenv("DVC_REMOTE_URL", raising=False)
    for url, told in (("gs://bucket", "requires 'dvc-gs'"), ("ssh://host/x", "requires 'dvc-ssh'")):
        clone.dvc("remote", "add", "--default", "--force", "--quiet", "own", url)
        said = refusal(["compare", "main"], capsys)
        assert told in said
        assert "`dvc remote list`" in said


def test_params_are_told_without_secrets(changed, monkeypatch, capsys):
    monkeypatch.chdir(changed.folder)
    monkeypatch.setenv("WORKSPACE_ROOT", str(changed.workspaces))
    monkeypatch.delenv("DVC_REMOTE_URL", raising=False)
    params_with(changed.folder, "alpha: 0.75", f"alpha: {REPOSITORIES[0]}")
    for words in (["compare", "main"], ["plan"]):
        assert main(words) == 0
        told = capsys.readouterr().out
        assert "https://***@127.0.0.1:9/x.git" in told
        assert not is_in(told)


def test_a_comment_that_can_not_be_written_is_one_line_that_names_the_file(changed, monkeypatch, capsys):
    monkeypatch.chdir(changed.folder)
    for place, why in (("data", "Is a directory"), ("dvc.yaml/x", "File exists"), ("/dev/full", "No space left")):
        assert why in refusal(["compare", "main", "--output", place], capsys)


def test_outside_of_a_repository_it_says_so(changed):
    shutil.rmtree(changed.folder / ".git")
    assert "no git repository" in changed.pipeline("compare", code=2).stderr


SCORES = {"teacher.one.psnr": 33.0, "teacher.one.ssim": 0.9, "baseline.one.psnr": 30.0, "baseline.one.ssim": 0.8}


def made_up(before, after, **more):
    found = {"base": "main", "commit": "abc1234", "to": "this version", "absent": (), "params": ()}
    return Comparison(before=before, after=after, **(found | more))


def rows(text):
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_teacher_and_baseline_are_told_once_by_their_own_file_though_every_file_repeats_them():
    file = "data/scores/sr/{}.json"
    before = {
        file.format("teacher"): SCORES,
        file.format("dckd"): SCORES | {"one.psnr": 32.0, "one.ssim": 0.85, "teacher.one.psnr": 1.0},
    }
    after = {name: {key: value + 0.25 for key, value in numbers.items()} for name, numbers in before.items()}
    assert rows(comment(made_up(before, after))) == [
        "| `sr` | `teacher` | `one` | 33.25 | +0.25 | 1.1500 | +0.2500 |",
        "| `sr` | `baseline` | `one` | 30.25 | +0.25 | 1.0500 | +0.2500 |",
        "| `sr` | `dckd` | `one` | 32.25 | +0.25 | 1.1000 | +0.2500 |",
    ]


def test_small_changes_new_and_gone_ones_and_other_numbers():
    before = {
        "data/scores/sr/a.json": {"one.psnr": 30.0, "one.ssim": 0.9, "parameters": 1000, "flops": 5},
        "data/scores/sr/gone.json": {"one.psnr": 29.0, "one.ssim": 0.9},
    }
    after = {
        "data/scores/sr/a.json": {"one.psnr": 29.9961, "one.ssim": 0.90002, "parameters": 1234567, "flops": 5},
        "data/scores/sr/new.json": {"one.psnr": 31.0, "one.ssim": 0.95},
    }
    text = comment(made_up(before, after, absent=("data/scores/sr/x.json",), params=(("a|b", None, "x|y"),)))
    assert "Of 3 scores (a method on a test set): 1 new, 1 gone, 1 changed by less than 0.005 dB." in text
    assert rows(text) == [
        f"| `sr` | `a` | `one` | 30.00 | {MINUS}0.004 | 0.9000 | +0.00002 |",
        "| `sr` | `new` | `one` | 31.00 | new | 0.9500 | new |",
        f"| `sr` | `gone` | `one` | {DASH} | gone | {DASH} | gone |",
        "| `data/scores/sr/a.json` | parameters | 1,000 | 1,234,567 |",
        f"| `a\\|b` | {DASH} | `x\\|y` |",
    ]
    assert "neither in DVC's cache nor in its remote: `sr/x`." in text
