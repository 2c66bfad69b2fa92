"""A run becomes one dvc.lock and a DVC experiment that other clones see."""

import json
import shutil
import subprocess
import sys

import pytest

from pipeline.deciding.lock import fragment_text, lock_text, read_lock
from pipeline.working_copy.git import Git
from tests.pipeline.runnable import UPSTREAM, params_with

pytest_plugins = ["tests.pipeline.fixtures"]

OVERRIDES = '{"methods.logits.alpha": 0.75}'
TOKEN = "planted-token"


@pytest.fixture(scope="module")
def run_once(tmp_path_factory, reproduced_once):
    """A run with another parameter: its locks, its objects, and what `dvc repro` makes of the same."""
    from tests.pipeline.runnable import Project

    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(reproduced_once, folder, symlinks=True, dirs_exist_ok=True)
    project = Project(folder / "project", folder / "remote")
    project.run_all(f"--overrides={OVERRIDES}")
    shutil.copytree(project.folder, folder / "by-dvc", symlinks=True)
    local = Project(folder / "by-dvc", folder / "remote")
    params_with(local.folder, "alpha: 0.25", "alpha: 0.75")
    local.dvc("repro", "--quiet")
    return folder


@pytest.fixture
def ran(run_once, tmp_path):
    from tests.pipeline.runnable import Project

    shutil.copytree(run_once, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Project(tmp_path / "project", tmp_path / "remote")


@pytest.fixture
def origin(ran, tmp_path):
    """A bare repository with the project, from which the containers take it."""
    ran.git("clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
    return tmp_path / "origin.git"


def publish(project, *words, code=0, **environment):
    flags = ["--overrides", OVERRIDES, "--upstream", project.locks / "report@sr"]
    return project.pipeline("publish", *flags, *words, code=code, **environment)


def experiments(directory):
    lines = Git(directory).run("for-each-ref", "--format=%(refname)", "refs/exps/").split()
    return sorted(line.rpartition("/")[2] for line in lines)


def of_origin(origin):
    return ("--repository", origin, "--revision", "main")


class TestLock:
    def test_is_the_one_that_dvc_repro_writes(self, ran, tmp_path):
        publish(ran, "--lock-output", tmp_path / "deep" / "dvc.lock")
        assert (tmp_path / "deep" / "dvc.lock").read_text() == (tmp_path / "by-dvc" / "dvc.lock").read_text()

    def test_is_merged_from_all_fragments(self, ran, tmp_path):
        """As in a graph with several last stages."""
        entries = read_lock(ran.locks / "report@sr")
        parts = []
        for index, names in enumerate([["fetch@sr", "distill@sr-logits"], ["fetch@sr", "distill@sr-scratch"]]):
            parts.append(tmp_path / f"part{index}")
            parts[-1].write_text(fragment_text({name: entries[name] for name in names}))
        output = tmp_path / "dvc.lock"
        words = ["--overrides", OVERRIDES, "--upstream", *parts, "--lock-output", output]
        assert "complete: 3 of 6 stages, 1 with a new entry" in ran.pipeline("publish", *words).stdout
        expected = read_lock(ran.folder / "dvc.lock") | {"distill@sr-logits": entries["distill@sr-logits"]}
        assert output.read_text() == lock_text(expected)

    def test_without_git_is_all_that_is_written(self, ran, tmp_path):
        shutil.rmtree(ran.folder / ".git")
        said = publish(ran, "--lock-output", tmp_path / "dvc.lock").stdout
        assert "only the merged dvc.lock was written" in said
        assert (tmp_path / "dvc.lock").read_text() == (tmp_path / "by-dvc" / "dvc.lock").read_text()


class TestProof:
    def test_a_lock_of_other_params_is_refused(self, ran, tmp_path):
        words = ["--upstream", ran.locks / "report@sr", "--lock-output", tmp_path / "dvc.lock"]
        told = ran.pipeline("publish", *words, code=2).stderr
        assert "the run is not complete; these would run again:" in told
        assert "distill@sr-logits: param methods.logits.alpha: 0.75 -> 0.25" in told
        assert not (tmp_path / "dvc.lock").exists()
        assert experiments(ran.folder / ".git") == []

    def test_an_output_that_the_remote_has_not_is_refused(self, ran):
        shutil.rmtree(ran.folder.parent / "remote")
        assert "report@sr: its outputs are not in the remote" in publish(ran, code=2).stderr

    def test_a_lock_of_another_graph_is_refused(self, ran):
        path = ran.locks / "report@sr"
        path.write_text(fragment_text(read_lock(path) | {"other": "  other:\n    cmd: x\n"}))
        assert "other: not in this revision's dvc.yaml" in publish(ran, code=2).stderr

    @pytest.mark.parametrize("words", [[], ["--upstream", "gone"]])
    def test_a_missing_lock_is_named(self, words, ran):
        assert "error: --upstream" in ran.pipeline("publish", *words, code=2).stderr


class TestExperiment:
    def test_is_seen_in_another_clone(self, ran, origin, tmp_path):
        """By `dvc exp list`, `show`, `pull` and `apply`, and `dvc metrics diff`."""
        assert "recorded as experiment cluster-1 of" in publish(ran, *of_origin(origin), "--name", "cluster-1").stdout
        assert experiments(ran.folder / ".git") == []
        ran.git("clone", "--quiet", str(origin), str(tmp_path / "clone"))
        ran.folder = tmp_path / "clone"
        (ran.folder / ".dvc" / "config.local").write_text(
            f"[core]\n    remote = other\n['remote \"other\"']\n    url = {tmp_path / 'remote'}\n"
        )
        assert "cluster-1" in ran.dvc("exp", "list", "origin")
        ran.dvc("exp", "pull", "origin", "cluster-1")
        (shown,) = [row for row in _rows(ran.dvc("exp", "show", "--csv")) if row["Experiment"] == "cluster-1"]
        assert shown["methods.logits.alpha"] == "0.75"
        assert shown["data/scores/sr/logits.json:photographs_test.psnr"] == "4.75"
        diff = json.loads(ran.dvc("metrics", "diff", "HEAD", "cluster-1", "--json"))
        assert diff == {
            "data/scores/sr/logits.json": {"photographs_test.psnr": {"old": 4.25, "new": 4.75, "diff": 0.5}}
        }
        ran.dvc("exp", "apply", "cluster-1")
        assert (ran.folder / "params.yaml").read_text() == (tmp_path / "by-dvc" / "params.yaml").read_text()
        assert "4.75" in (ran.folder / "data" / "scores" / "sr" / "logits.json").read_text()
        assert "up to date" in ran.dvc("repro")

    def test_changes_params_and_lock_alone(self, ran, origin, tmp_path):
        publish(ran, *of_origin(origin), "--name", "one")
        git = Git(origin)
        (reference,) = git.run("for-each-ref", "--format=%(refname)", "refs/exps/").split()
        base = git.run("rev-parse", "main")
        assert reference == f"refs/exps/{base[:2]}/{base[2:]}/one"
        assert git.run("rev-parse", f"{reference}^") == base
        assert git.run("diff", "--name-only", base, reference).split() == ["dvc.lock", "params.yaml"]
        for name in ("dvc.lock", "params.yaml"):
            assert git.run("show", f"{reference}:{name}") == (tmp_path / "by-dvc" / name).read_text().strip()

    def test_of_a_run_by_hand_is_recorded_in_the_clone(self, ran):
        (ran.folder / "params.yaml").write_text("what is not committed: counts for nothing\n")
        before = ran.git("status", "--porcelain=2", "--branch")
        publish(ran, "--name", "mine")
        assert experiments(ran.folder / ".git") == ["mine"]
        assert ran.git("status", "--porcelain=2", "--branch") == before

    def test_gets_a_name_of_its_own_where_none_is_given(self, ran):
        first, second = publish(ran).stdout, publish(ran).stdout
        (name,) = experiments(ran.folder / ".git")
        assert f"recorded as experiment {name}" in first
        assert f"already recorded as experiment {name}" in second

    def test_published_again_stays_one(self, ran, origin):
        for _ in range(2):
            publish(ran, *of_origin(origin), "--name", "one")
        assert experiments(origin) == ["one"]

    def test_another_run_of_the_same_name_gets_a_number(self, ran, origin):
        for number in (1, 2):
            ran.git("commit", "--quiet", "--allow-empty", "-m", f"another {number}")
            ran.git("push", "--quiet", str(origin), "main")
            publish(ran, *of_origin(origin), "--name", "one")
        assert experiments(origin) == ["one", "one-2"]

    def test_by_its_name_is_one_that_git_and_dvc_take(self, ran):
        for name in ("a b", "-x", "a/b", "a..b", "a~1", "x.lock"):
            assert f"--name {name}: not a name" in publish(ran, f"--name={name}", code=2).stderr
        assert experiments(ran.folder / ".git") == []

    def test_two_runs_at_once_both_get_a_name(self, ran, origin):
        """Git refuses the slower of the two; it looks again."""
        ran.git("commit", "--quiet", "--allow-empty", "-m", "another")
        ran.git("push", "--quiet", str(origin), "main:other")
        words = ["publish", "--overrides", OVERRIDES, "--upstream", ran.locks / "report@sr", "--name", "same"]
        running = [
            subprocess.Popen(ran.words(*words, "--repository", origin, "--revision", branch), **ran.settings())
            for branch in ("main", "other")
        ]
        for process in running:
            said, fault = process.communicate()
            assert process.returncode == 0, said + fault
        assert len(Git(origin).run("for-each-ref", "refs/exps/").splitlines()) == 2

    def test_a_repository_that_refuses_is_told_and_the_lock_is_there(self, ran, origin, tmp_path):
        hook = origin / "hooks" / "pre-receive"
        hook.write_text("#!/bin/sh\necho experiments are not welcome >&2\nexit 1\n")
        hook.chmod(0o755)
        ended = publish(ran, *of_origin(origin), "--lock-output", tmp_path / "dvc.lock", code=2)
        assert "the experiment could not be recorded" in ended.stderr
        assert "pre-receive hook declined" in ended.stderr
        assert (tmp_path / "dvc.lock").exists()

    def test_has_an_author_where_git_knows_none(self, ran, origin, tmp_path):
        publish(ran, *of_origin(origin), HOME=str(tmp_path), GIT_CONFIG_NOSYSTEM="1")
        assert Git(origin).run("for-each-ref", "--format=%(authorname) %(authoremail)", "refs/exps/") == (
            "pipeline <pipeline@localhost>"
        )


class TestSecrets:
    def test_reach_neither_output_nor_commit(self, ran, origin):
        url = f"http://user:{TOKEN}@host/x.git"
        environment = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": url,
            "AWS_SECRET_ACCESS_KEY": TOKEN,
        }
        ended = publish(ran, "--repository", url, "--revision", "main", "--name", "one", **environment)
        assert TOKEN not in ended.stdout + ended.stderr
        assert experiments(origin) == ["one"]
        git = Git(origin)
        objects = git.run("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
        assert not any(TOKEN in git.run("cat-file", "-p", name) for name in objects)

    def test_are_left_out_of_a_refusal(self, ran):
        url = f"http://user:{TOKEN}@127.0.0.1:9/x.git"
        told = publish(ran, "--repository", url, "--revision", "main", code=2).stderr
        assert "http://127.0.0.1:9/x.git" in told
        assert TOKEN not in told


def test_a_repository_without_a_revision_is_refused(ran, origin):
    assert "say which --revision" in publish(ran, "--repository", origin, code=2).stderr


def _rows(text):
    import csv
    import io

    return list(csv.DictReader(io.StringIO(text)))


def test_the_graph_of_these_tests_is_the_projects():
    """`UPSTREAM` is written by hand."""
    assert sys.version_info >= (3, 11)
    assert set(UPSTREAM) >= {above for names in UPSTREAM.values() for above in names}
