"""The plan: what a run would run, and why, without data, on a fresh clone as well."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.deciding.lock import entry_of, lock_text, read_lock
from tests.pipeline.runnable import UPSTREAM, outcome, params_with

pytest_plugins = ["tests.pipeline.fixtures"]

ROOT = Path(__file__).parents[3]
NOTHING = dict.fromkeys(UPSTREAM, "not run")


@pytest.fixture
def clone(reproduced, tmp_path):
    """A fresh clone, without data, cache or remote of its own."""
    reproduced.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    reproduced.folder = tmp_path / "clone"
    return reproduced


def plan(project, *words, **environment):
    """`{stage: (will, reasons)}`, in the order of the plan."""
    printed = project.pipeline("plan", "--json", *words, **environment).stdout
    return {line["stage"]: (line["will"], line["reasons"]) for line in json.loads(printed)}


def wills(found):
    return {stage: will for stage, (will, _) in found.items()}


class TestWhatRuns:
    @pytest.mark.parametrize("remote", [True, False])
    def test_nothing_where_nothing_changed(self, remote, clone):
        if not remote:
            clone.environment["DVC_REMOTE_URL"] = ""
        assert wills(plan(clone)) == NOTHING

    def test_nothing_in_a_clone_whose_git_rewrites_files_elsewhere(self, reproduced, tmp_path):
        """This project's .gitattributes outweigh a user's settings: line ends, keywords, filters, encodings."""
        shutil.copy(ROOT / ".gitattributes", reproduced.folder)
        shutil.copy(ROOT / "tests/methods/csd_oracle.npz", reproduced.folder)
        (reproduced.folder / "run").write_text("#!/bin/sh\n# $Id$\n")
        (reproduced.folder / "run").chmod(0o755)
        reproduced.commit("attributes")
        rules = tmp_path / "attributes"
        rules.write_text("* text eol=crlf ident filter=upper working-tree-encoding=UTF-16\n")
        settings = ["core.autocrlf=true", "core.eol=crlf", f"core.attributesFile={rules}"]
        settings += ["filter.upper.smudge=tr a-z A-Z", "core.symlinks=false", "core.fileMode=false"]
        flags = [word for setting in settings for word in ("-c", setting)]
        reproduced.git("clone", "--quiet", *flags, ".", str(tmp_path / "clone"))
        for name in reproduced.git("ls-files").splitlines():
            here, there = reproduced.folder / name, tmp_path / "clone" / name
            assert there.read_bytes() == here.read_bytes(), name
            assert there.stat().st_mode & 0o100 == here.stat().st_mode & 0o100, name
        reproduced.folder = tmp_path / "clone"
        assert wills(plan(reproduced)) == NOTHING

    def test_everything_where_nothing_was_ever_run(self, project):
        found = plan(project, DVC_REMOTE_URL="")
        assert all(one == ("run", ["never run"]) for one in found.values())
        assert list(found) == list(UPSTREAM)

    def test_a_changed_param_with_both_values_and_what_is_below_perhaps(self, clone):
        found = plan(clone, "--set", "methods.logits.alpha=0.75")
        assert found["distill@sr-logits"] == ("run", ["param methods.logits.alpha: 0.25 -> 0.75"])
        assert found["evaluate@sr-logits"] == ("may run", ["distill@sr-logits may make something else"])
        assert found["report@sr"] == ("may run", ["evaluate@sr-logits may make something else"])
        others = [name for name in UPSTREAM if name not in {"distill@sr-logits", "evaluate@sr-logits", "report@sr"}]
        assert {found[name][0] for name in others} == {"not run"}

    def test_a_stage_that_changed_itself_runs_for_certain_below_one_that_runs(self, clone):
        found = plan(clone, "--set", "fetch.images=5", "--set", "students.sr.steps=9")
        assert found["distill@sr-scratch"][0] == "run"
        assert found["distill@sr-scratch"][1] == ["param students.sr.steps: 3 -> 9"]
        assert found["evaluate@sr-scratch"][0] == "may run"

    def test_a_changed_file_and_a_changed_command(self, clone):
        graph = clone.folder / "dvc.yaml"
        graph.write_text(graph.read_text().replace("steps.py evaluate", "./steps.py evaluate"))
        (clone.folder / "steps.py").write_text((clone.folder / "steps.py").read_text() + "\n")
        found = plan(clone)
        assert found["fetch@sr"] == ("run", ["changed: steps.py"])
        assert found["evaluate@sr-logits"] == ("run", ["its command changed", "changed: steps.py"])

    def test_a_new_output(self, clone):
        graph = clone.folder / "dvc.yaml"
        graph.write_text(
            graph.read_text().replace('outs: ["data/raw/${item.task}"]', 'outs: ["data/raw/${item.task}", data/more]')
        )
        assert plan(clone)["fetch@sr"] == ("run", ["output data/more was never made"])

    def test_a_stage_whose_input_has_another_entry_in_the_lock(self, clone):
        """Fresh clones mislead `dvc status` and `dvc repro --single-item`: the data is not there."""
        entries = read_lock(clone.folder / "dvc.lock")
        digest = entries["fetch@sr"].rpartition("md5: ")[2].split()[0]
        entries["fetch@sr"] = entries["fetch@sr"].replace(digest, "0" * 32 + ".dir")
        (clone.folder / "dvc.lock").write_text(lock_text(entries))
        found = plan(clone, DVC_REMOTE_URL="")
        assert found["fetch@sr"] == ("not run", [])
        assert found["distill@sr-logits"] == ("run", ["changed: data/raw/sr"])

    def test_outputs_that_the_remote_has_not(self, clone, tmp_path):
        found = plan(clone, DVC_REMOTE_URL=str(tmp_path / "other"))
        assert all(one == ("run", ["its outputs are not in the remote"]) for one in found.values())

    def test_what_was_run_before_with_the_same_inputs_is_restored(self, clone):
        clone.fragment("fetch@sr")
        for name in ("distill@sr-logits", "evaluate@sr-logits"):
            assert outcome(clone.task(name, '--overrides={"methods.logits.alpha": 0.75}').stdout, name) == "runs"
        found = wills(plan(clone, "--set", "methods.logits.alpha=0.75"))
        restored = {"distill@sr-logits": "restore", "evaluate@sr-logits": "restore", "report@sr": "run"}
        assert found == NOTHING | restored


class TestTheProject:
    def test_stays_as_it_is(self, clone):
        before = {path: path.read_bytes() for path in clone.folder.rglob("*") if path.is_file()}
        plan(clone, "--set", "fetch.images=9")
        clone.pipeline("plan", "--revision", "HEAD")
        assert {path: path.read_bytes() for path in clone.folder.rglob("*") if path.is_file()} == before

    def test_may_have_changes_that_are_not_committed(self, clone):
        params_with(clone.folder, "alpha: 0.25", "alpha: 0.5")
        assert plan(clone)["distill@sr-logits"][0] == "run"
        assert wills(plan(clone, "--revision", "HEAD")) == NOTHING

    def test_downloads_nothing(self, clone, tmp_path):
        plan(clone, "--set", "fetch.images=9", DVC_CACHE_DIR=str(tmp_path / "cache"))
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


class TestTargets:
    def test_are_planned_with_what_they_build_on(self, clone):
        assert list(plan(clone, "--targets", "evaluate@sr-logits")) == [
            "fetch@sr",
            "distill@sr-logits",
            "evaluate@sr-logits",
        ]
        assert list(plan(clone, "--targets", "distill")) == ["fetch@sr", "distill@sr-scratch", "distill@sr-logits"]

    def test_an_unknown_one_is_named(self, clone):
        assert (
            "Did you mean 'distill@sr-logits'?"
            in clone.pipeline("plan", "--targets", "distil@sr-logits", code=2).stderr
        )


class TestWords:
    def test_are_a_line_a_stage_and_a_sum(self, clone):
        said = clone.pipeline("plan", "--set", "methods.logits.alpha=0.75").stdout.splitlines()
        assert said[0] == "stage                will        time     memory     disk  why"
        assert said[1] == "fetch@sr             not run"
        assert said[3] == (
            "distill@sr-logits    run            ?   asks 4Gi     10 B  param methods.logits.alpha: 0.25 -> 0.75"
        )
        unknown = "not recorded: distill@sr-logits, evaluate@sr-logits, report@sr"
        assert said[7:] == [
            "1 of 6 stages will run, 2 more may.",
            f"time: not known, not known with those that may; {unknown}",
            "disk: 10 B, 163 B with those that may",
            f"memory: not known; {unknown}, which ask a cluster for up to 4Gi",
        ]

    def test_say_nothing_of_costs_where_nothing_runs(self, clone):
        assert clone.pipeline("plan").stdout.splitlines()[5:] == [
            "report@sr            not run",
            "0 of 6 stages will run, 0 more may.",
        ]

    def test_add_up_what_is_recorded_of_the_stages_that_run(self, clone):
        folder = clone.folder / ".cache" / "durations"
        folder.mkdir(parents=True)
        for name, seconds, memory in (("distill@sr-logits", 190.0, 1.5e9), ("report@sr", 20.0, 4e8)):
            (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds, "memory_bytes": int(memory)}))
        said = clone.pipeline("plan", "--set", "methods.logits.alpha=0.75").stdout.splitlines()
        assert said[3].split("  param")[0] == "distill@sr-logits    run        3 min     1.5 GB     10 B"
        assert said[8:] == [
            "time: 3 min, at least 4 min with those that may; not recorded: evaluate@sr-logits",
            "disk: 10 B, 163 B with those that may",
            "memory: 1.5 GB at a time; not recorded: evaluate@sr-logits, which ask a cluster for up to 4Gi",
        ]
        found = json.loads(clone.pipeline("plan", "--json", "--set", "methods.logits.alpha=0.75").stdout)
        costs = {line["stage"]: (line["seconds"], line["memory_bytes"], line["output_bytes"]) for line in found}
        assert costs["distill@sr-logits"] == (190.0, 1_500_000_000, 10)
        assert costs["evaluate@sr-logits"] == (None, None, 49)

    def test_say_that_no_remote_was_asked(self, clone):
        clone.environment["DVC_REMOTE_URL"] = ""
        assert "the remote was not asked" in clone.pipeline("plan").stdout.splitlines()[-1]

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--set", "fetch.image=3"], "unknown key 'image'. Did you mean 'images'?"),
            (["--set", "fetch"], "expected KEY=VALUE"),
            (["--revision", "nowhere"], "--revision nowhere: no commit of this clone"),
        ],
    )
    def test_name_a_mistake(self, words, told, clone):
        ended = clone.pipeline("plan", *words, code=2)
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr


def test_the_plan_is_what_dvc_then_does(clone):
    """Of the uncertain stages, those that have to."""
    params_with(clone.folder, "images: 4", "images: 5")
    found = plan(clone)
    (clone.folder / ".dvc" / "config.local").write_text(
        f"[core]\n    remote = other\n['remote \"other\"']\n    url = {clone.environment['DVC_REMOTE_URL']}\n"
    )
    clone.dvc("pull", "--quiet")
    ran = {line.split("'")[1] for line in clone.dvc("repro").splitlines() if line.startswith("Running stage")}
    certain = {stage for stage, (will, _) in found.items() if will == "run"}
    possible = {stage for stage, (will, _) in found.items() if will != "not run"}
    assert certain == {"fetch@sr"}
    assert certain <= ran <= possible


def test_entries_are_written_by_dvc_itself():
    assert entry_of("a", {"cmd": "x"}) == "  a:\n    cmd: x\n"


def test_help_is_quick_and_imports_no_dvc(project):
    code = "import sys\nfrom pipeline.__main__ import main\n"
    code += "try:\n    main(['plan', '--help'])\nfinally:\n    print('dvc.repo' in sys.modules)"
    ended = subprocess.run([project.words()[0], "-c", code], **project.settings(), check=False)
    assert ended.stdout.splitlines()[-1] == "False"
