"""What nothing needs is listed, removed once that is said, and nothing else is."""

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from components.training.checkpoint import checkpoint_path
from pipeline.cleaning.results import named_by_chance
from pipeline.project import leftovers
from tests.pipeline.runnable import ROOT, Project, params_with

pytest_plugins = ["tests.pipeline.fixtures"]

DIGEST = "0123456789abcdef"
PERSON = {f"GIT_{role}_{part}": "somebody" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}


class Clone(Project):
    """A clone with results of main, of a branch, of a tag, and of experiments."""

    def made(self, alpha):
        params_with(self.folder, "logits: {alpha: 0.25}", f"logits: {{alpha: {alpha}}}")
        self.dvc("repro", "--quiet")
        self.commit(f"alpha {alpha}")

    def experiment(self, *words):
        self.dvc("exp", "run", "--quiet", *words)
        self.git("checkout", "--", ".")
        self.dvc("checkout", "--quiet")

    def experiments(self):
        names = self.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
        return {name.rpartition("/")[2]: name for name in names if re.match(r"refs/exps/\w\w/\w{38}/", name)}

    def needs(self, revision):
        """Objects that the lock of a revision names, with the files of folders."""
        found = set()
        for entry in yaml.safe_load(self.git("show", f"{revision}:dvc.lock"))["stages"].values():
            for out in entry["outs"]:
                found.add(out["md5"])
                if out["md5"].endswith(".dir"):
                    found |= {one["md5"] for one in json.loads(self.objects()[out["md5"]].read_text())}
        return found

    def objects(self):
        folder = self.folder / ".dvc/cache/files/md5"
        return {path.parent.name + path.name: path for path in folder.glob("??/*")}

    def kept_file(self, name, days=3):
        path = self.folder / ".cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(2_500_000))
        os.utime(path, times=(time.time() - days * 86_400,) * 2)
        return path


@pytest.fixture(scope="module")
def grown_once(reproduced_once, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(reproduced_once / "project", folder / "project", symlinks=True)
    clone = Clone(folder / "project", folder / "remote", **PERSON)
    (clone.folder / ".dvc/config.local").unlink()  # what is removed here can't come from a remote
    for branch, alpha in (("branch", 0.5), ("tagged", 0.75)):
        clone.git("checkout", "--quiet", "-b", branch)
        clone.made(alpha)
        clone.git("checkout", "--quiet", "main")
        clone.dvc("checkout", "--quiet")
    clone.git("tag", "tag", "tagged")
    clone.git("branch", "-D", "tagged")
    clone.experiment("--name", "weight-small", "--set-param", "methods.logits.alpha=1.25")
    clone.experiment("--set-param", "methods.logits.alpha=2.25")
    return folder


@pytest.fixture
def clone(grown_once, tmp_path):
    shutil.copytree(grown_once, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Clone(tmp_path / "project", tmp_path / "remote", **PERSON)


def unnamed(clone):
    (name,) = [name for name in clone.experiments() if name != "weight-small"]
    return name


class TestResults:
    def test_a_named_experiment_a_branch_and_a_tag_keep_theirs(self, clone):
        chance = unnamed(clone)
        ends = ["main", "branch", "tag", clone.experiments()["weight-small"]]
        needed = set().union(*map(clone.needs, ends))
        alone = clone.needs(clone.experiments()[chance]) - needed
        assert alone
        printed = clone.pipeline("clean", "--yes").stdout
        assert f"experiment that nobody named: {chance}, of " in printed
        assert set(clone.experiments()) == {"weight-small"}
        assert set(clone.objects()) == needed
        assert f"removed 0 files, 1 experiment, {len(alone)} objects: " in printed
        clone.dvc("exp", "apply", "weight-small")
        assert (clone.folder / "data/students/sr/logits/student.txt").read_text().endswith(" 1.25")

    def test_without_yes_nothing_is_removed(self, clone):
        kept = clone.kept_file(f"checkpoints/distill-old-{DIGEST}.pt")
        objects, experiments = set(clone.objects()), clone.experiments()
        printed = clone.pipeline("clean").stdout
        assert f"checkpoint: .cache/checkpoints/{kept.name}, 2.5 MB\n" in printed
        assert f"experiment that nobody named: {unnamed(clone)}, of " in printed
        assert re.search(r"object of the cache: \S+/.dvc/cache/files/md5/../\w+, [\d.]+ kB\n", printed)
        assert re.search(r"Nothing was removed. --yes removes 1 file, 1 experiment, \d+ objects: 2.5 MB\.", printed)
        assert (set(clone.objects()), clone.experiments()) == (objects, experiments)
        assert kept.exists()

    def test_all_experiments_stay_where_that_is_said(self, clone):
        before = set(clone.objects())
        clone.pipeline("clean", "--yes", "--keep-experiments")
        assert len(clone.experiments()) == 2
        assert set(clone.objects()) == before

    def test_results_that_are_not_committed_stay(self, clone):
        params_with(clone.folder, "logits: {alpha: 0.25}", "logits: {alpha: 3.25}")
        clone.dvc("repro", "--quiet")
        clone.pipeline("clean", "--yes")
        (clone.folder / "data/students/sr/logits/student.txt").unlink()
        clone.dvc("checkout", "--quiet")
        assert (clone.folder / "data/students/sr/logits/student.txt").read_text().endswith(" 3.25")

    def test_a_cache_that_may_serve_others_is_left_alone(self, clone, tmp_path):
        shared = tmp_path / "shared"
        (clone.folder / ".dvc/cache").rename(shared)
        clone.dvc("cache", "dir", "--local", str(shared))
        before = sorted(shared.rglob("*"))
        assert "may serve others" in clone.pipeline("clean", "--yes").stdout
        assert sorted(shared.rglob("*")) == before

    def test_without_git_nothing_is_removed(self, clone):
        shutil.rmtree(clone.folder / ".git")
        clone.dvc("config", "--local", "core.no_scm", "true")
        before = set(clone.objects())
        assert "no git repository" in clone.pipeline("clean", "--yes", code=2).stderr
        assert set(clone.objects()) == before

    def test_nothing_is_removed_while_dvc_runs_a_stage(self, clone):
        lock = clone.folder / ".dvc/tmp/rwlock"
        lock.write_text(json.dumps({"write": {"data": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}))
        before = set(clone.objects())
        assert f"runs a stage in process {os.getpid()}" in clone.pipeline("clean", "--yes", code=2).stderr
        assert set(clone.objects()) == before

    def test_a_list_of_running_stages_that_a_kill_cut_off_is_removed_too(self, clone):
        lock = clone.folder / ".dvc/tmp/rwlock"
        lock.write_text('{"write": {"da')
        assert f"{lock}: removed; a kill of DVC left it" in clone.pipeline("clean", "--yes").stdout
        assert not lock.exists()


class TestFiles:
    def test_a_checkpoint_of_the_last_day_goes_when_it_is_named_alone(self, project):
        clone = Clone(project.folder, "remote")
        young, old = (
            clone.kept_file(f"checkpoints/distill-{name}-{DIGEST}.pt", days)
            for name, days in (("young", 0.5), ("old", 1.5))
        )
        assert "young-0123456789abcdef.pt, 2.5 MB; kept: it was changed within a day" in clone.pipeline("clean").stdout
        clone.pipeline("clean", "--yes")
        assert (young.exists(), old.exists()) == (True, False)
        clone.pipeline("clean", "--yes", "--checkpoint", young.relative_to(clone.folder))
        assert not young.exists()

    def test_a_checkpoint_that_a_process_holds_is_kept(self, project):
        clone = Clone(project.folder, "remote")
        held = clone.kept_file(f"checkpoints/distill-old-{DIGEST}.pt")
        with held.open("rb"):
            assert "kept: a process has it open" in clone.pipeline("clean", "--yes").stdout
        assert held.exists()
        clone.pipeline("clean", "--yes", "--keep-checkpoints")
        assert held.exists()

    def test_only_checkpoints_can_be_named(self, project):
        told = project.pipeline("clean", "--yes", "--checkpoint", "params.yaml", code=2).stderr
        assert "--checkpoint params.yaml: no file of .cache/checkpoints" in told
        assert (project.folder / "params.yaml").exists()


class TestWhatStagesNeed:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("params.yaml").write_text(
            "sources: {a: {files: [{url: 'https://a/b', sha256: abc}, {url: 'https://a/c'}]}}"
        )

    def made(self, *names):
        for name in names:
            Path(".cache", name).parent.mkdir(parents=True, exist_ok=True)
            Path(".cache", name).touch()

    def found(self, kind, **commands):
        return [path.name for path in leftovers(commands)[kind]]

    def test_checkpoints_of_stages_stay_whatever_they_depend_on(self):
        stays = [f"{name}-{digest * 16}.pt" for name in ("distill-sr-a-3", "train-data-teachers-sr") for digest in "01"]
        self.made(*(f"checkpoints/{name}" for name in (*stays, f"distill-sr-a-{DIGEST}.pt", "notes.pt")))
        commands = {
            "distill@sr-a-3": "python -m components distill --output data/students/sr/a/3",
            "train_teacher@sr": "python -m components train_teacher --output data/teachers/sr --lmdb x",
        }
        assert self.found("checkpoint", **commands) == [f"distill-sr-a-{DIGEST}.pt"]

    def test_downloads_of_params_and_presets_stay(self):
        Path("conf").mkdir()
        Path("conf/other.yaml").write_text("sources: {b: {files: [{url: x, sha256: def}]}}")
        by_url = hashlib.sha256(b"https://a/c").hexdigest()
        self.made(
            *(f"downloads/{name}" for name in ("abc", "def.partial", "def.version", by_url, "012", "345.partial"))
        )
        assert self.found("download") == ["012", "345.partial"]

    def test_durations_of_other_stages_go(self):
        self.made("durations/fetch@sr.json", "durations/gone@sr.json")
        assert self.found("duration", **{"fetch@sr": "x"}) == ["gone@sr.json"]

    def test_steps_name_their_checkpoints_as_they_are_looked_for(self):
        titled = {file: re.search(r'title=f?"(\w+) ', file.read_text()) for file in (ROOT / "components").glob("*.py")}
        trains = {file.stem: found[1] for file, found in titled.items() if found}
        assert {"distill", "train_teacher"} <= set(trains)
        assert all(stem.partition("_")[0] == word for stem, word in trains.items())
        self.made(f"checkpoints/{checkpoint_path(Path(), 'distill-sr-a-3', {}).name}")
        assert len(self.found("checkpoint")) == 1


@pytest.mark.parametrize(
    ("name", "chance"),
    [("about-abac", True), ("weight-small", False), ("small", False), ("run-0a1b2c3", False), ("first-try-2", False)],
)
def test_only_names_of_dvcs_own_words_are_by_chance(name, chance):
    assert named_by_chance(name) is chance
