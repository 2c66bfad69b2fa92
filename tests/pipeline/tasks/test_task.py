"""One task a stage, each in a process and a working copy of its own, as a container runs it."""

import json
import re
import signal
import subprocess
import time

import psutil
import pytest

from pipeline.deciding.lock import fragment_text, lock_text, read_lock
from tests.pipeline.runnable import UPSTREAM, outcome, params_with
from tests.pipeline.s3_server import ACCESS_KEY, SECRET_KEY

pytest_plugins = ["tests.pipeline.fixtures"]

UNCHANGED = dict.fromkeys(UPSTREAM, "unchanged")
OVERRIDE = '--overrides={"methods.logits.alpha": 0.75}'
CHANGED = UNCHANGED | dict.fromkeys(["distill@sr-logits", "evaluate@sr-logits", "report@sr"], "runs")


def merged(project):
    entries = {}
    for name in UPSTREAM:
        entries |= read_lock(project.locks / name)
    return lock_text(entries)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class TestWholeRun:
    @pytest.mark.slow
    def test_runs_what_is_new_then_nothing_then_what_a_parameter_changes(self, project, s3):
        """And leaves the lock, the objects and the scores that `dvc repro` and `dvc push` leave."""
        bucket = s3.bucket()
        project.environment |= s3.environment() | {"DVC_REMOTE_URL": f"s3://{bucket}/prefix"}
        assert set(project.run_all().values()) == {"runs"}
        lock = merged(project)
        assert json.loads((project.locks / "evaluate@sr-logits.json").read_text()) == {"photographs_test.psnr": 4.25}
        assert '{"photographs_test": {"psnr": 4.5}' in (project.locks / "report@sr.html").read_text()

        project.dvc("repro", "--quiet")
        assert (project.folder / "dvc.lock").read_text() == lock
        pushed = s3.objects(bucket)
        assert {key for key in pushed if "/runs/" not in key} == {
            f"prefix/files/md5/{path.parent.name}/{path.name}"
            for path in (project.folder / ".dvc" / "cache" / "files" / "md5").glob("*/*")
        }
        runs = (project.folder / ".dvc" / "cache" / "runs").glob("*/*/*")
        assert {key.rpartition("/")[2] for key in pushed if "/runs/" in key} == {path.name for path in runs}

        project.commit("the lock")
        assert project.run_all() == UNCHANGED
        assert s3.objects(bucket) == pushed
        assert project.run_all(OVERRIDE) == CHANGED
        assert json.loads((project.locks / "evaluate@sr-logits.json").read_text()) == {"photographs_test.psnr": 4.75}

        params_with(project.folder, "alpha: 0.25", "alpha: 0.75")
        project.dvc("repro", "--quiet")
        assert (project.folder / "dvc.lock").read_text() == merged(project)

    def test_takes_what_an_earlier_run_made_of_the_same_inputs(self, reproduced):
        reproduced.fragment("fetch@sr")
        found = []
        for expected in ("runs", "run before"):
            for name in ("distill@sr-logits", "evaluate@sr-logits"):
                assert outcome(reproduced.task(name, OVERRIDE).stdout, name) == expected
            found.append((reproduced.locks / "evaluate@sr-logits").read_text())
        assert found[0] == found[1]

    @pytest.mark.parametrize("loss", ["entry damaged", "output gone"])
    def test_runs_where_the_earlier_run_is_not_whole(self, loss, reproduced):
        remote = reproduced.folder.parent / "remote"
        before = {path for path in remote.rglob("*") if path.is_file()}
        reproduced.fragment("fetch@sr")
        reproduced.task("distill@sr-logits", OVERRIDE)
        new = {path for path in remote.rglob("*") if path.is_file()} - before
        (entry,) = (path for path in new if "runs" in path.parts)
        if loss == "entry damaged":
            entry.write_text(entry.read_text().replace("steps.py distill", "steps.py other"))
        else:
            next(path for path in new if path != entry and path.suffix != ".dir").unlink()
        assert outcome(reproduced.task("distill@sr-logits", OVERRIDE).stdout, "distill@sr-logits") == "runs"
        assert outcome(reproduced.task("distill@sr-logits", OVERRIDE).stdout, "distill@sr-logits") == "run before"

    def test_of_a_revision_in_a_repository(self, reproduced, tmp_path):
        reproduced.git("clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
        (reproduced.folder / "steps.py").write_text("broken")
        where = (f"--repository={tmp_path / 'origin.git'}", "--revision=main")
        assert outcome(reproduced.task("fetch@sr", *where).stdout, "fetch@sr") == "unchanged"
        assert outcome(reproduced.task("distill@sr-logits", OVERRIDE, *where).stdout, "distill@sr-logits") == "runs"


class TestUnchanged:
    def test_reads_the_scores_and_the_page_and_nothing_else(self, reproduced, tmp_path):
        cache = tmp_path / "cache"
        for name in ("evaluate@sr-scratch", "evaluate@sr-logits"):
            reproduced.fragment(name)
        told = reproduced.task("report@sr", DVC_CACHE_DIR=str(cache)).stdout
        assert outcome(told, "report@sr") == "unchanged"
        assert "<p>" in (reproduced.locks / "report@sr.html").read_text()
        kept = [path for path in cache.rglob("*") if path.is_file()]
        assert len(kept) == 2  # the list of the report's files, and the page

    def test_runs_where_the_remote_has_lost_its_outputs(self, reproduced):
        (lost,) = (reproduced.folder.parent / "remote" / "files" / "md5").glob(
            f"*/{read_lock(reproduced.folder / 'dvc.lock')['fetch@sr'].rpartition('md5: ')[2][2:38].split()[0]}"
        )
        lost.unlink()
        assert "fetch@sr: runs: its outputs are not in the remote" in reproduced.task("fetch@sr").stdout
        assert lost.exists()
        assert "unchanged" in reproduced.task("fetch@sr").stdout


class TestExecutorOutput:
    def test_has_every_artifact_and_the_scores_of_metrics(self, reproduced, tmp_path):
        reproduced.fragment("distill@sr-logits")
        kinds = {"lock": "system.Artifact", "metrics": "system.Metrics"}
        artifacts = {
            name: {"artifacts": [{"name": f"{name}-1", "uri": f"s3://x/{name}", "type": {"schemaTitle": kind}}]}
            for name, kind in kinds.items()
        }
        path = tmp_path / "deep" / "executor_output.json"
        given = json.dumps({"inputs": {}, "outputs": {"artifacts": artifacts, "outputFile": str(path)}})
        reproduced.task("evaluate@sr-logits", "--executor-input", given)
        told = json.loads(path.read_text())["artifacts"]
        assert told == {
            "lock": {"artifacts": [{"name": "lock-1", "uri": "s3://x/lock", "metadata": {}}]},
            "metrics": {
                "artifacts": [
                    {"name": "metrics-1", "uri": "s3://x/metrics", "metadata": {"photographs_test.psnr": 4.25}}
                ]
            },
        }

    def test_other_input_is_refused(self, reproduced):
        assert "--executor-input: " in reproduced.task("fetch@sr", "--executor-input", "{{$}}", code=2).stderr


class TestFailures:
    def test_a_stages_own_failure_is_the_tasks(self, reproduced):
        reproduced.fragment("fetch@sr")
        ended = reproduced.task("distill@sr-logits", '--overrides={"students.sr.fail": 3}', code=3)
        assert "loss is not finite" in ended.stderr
        assert "error: stage 'distill@sr-logits' failed with exit code 3" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not (reproduced.locks / "distill@sr-logits").exists()

    @pytest.mark.parametrize("fault", ["absent", "empty", "truncated", "other stage", "none"])
    def test_an_upstream_lock_that_is_not_right_stops_the_task_before_anything_runs(self, fault, reproduced):
        path = reproduced.fragment("distill@sr-logits")
        if fault == "absent":
            path.unlink()
        elif fault == "empty":
            path.write_text("")
        elif fault == "truncated":
            path.write_text(path.read_text()[:-40])
        elif fault == "other stage":
            path.write_text(reproduced.fragment("distill@sr-scratch").read_text())
        ended = reproduced.task("evaluate@sr-logits", upstream=[] if fault == "none" else None, code=2)
        assert {
            "absent": "no such file",
            "empty": "holds no stage",
            "truncated": "truncated or damaged",
            "other stage": "no entry for distill@sr-logits, which evaluate@sr-logits builds on",
            "none": "no entry for fetch@sr, distill@sr-logits, which evaluate@sr-logits builds on",
        }[fault] in ended.stderr
        assert "Running" not in ended.stdout

    def test_an_upstream_lock_of_another_run_is_refused_with_what_differs(self, reproduced):
        """DVC would run what is above, here."""
        reproduced.fragment("fetch@sr")
        ended = reproduced.task("distill@sr-logits", '--overrides={"fetch.images": 2}', code=2)
        assert "the entry of fetch@sr was made from another revision or with other overrides" in ended.stderr
        assert "param fetch.images: 4 -> 2" in ended.stderr

    def test_an_unknown_stage_is_named_with_its_neighbour(self, reproduced):
        told = reproduced.task("distil@sr-logits", upstream=[], code=2).stderr
        assert "no stage 'distil@sr-logits'. Did you mean 'distill@sr-logits'?" in told
        told = reproduced.task("distill", upstream=[], code=2).stderr
        assert "'distill' is a matrix; name one of its entries: distill@sr-scratch, distill@sr-logits." in told

    def test_without_a_remote_nothing_is_done(self, reproduced):
        del reproduced.environment["DVC_REMOTE_URL"]
        assert "DVC_REMOTE_URL is not set" in reproduced.task("fetch@sr", code=2).stderr

    def test_a_full_disk_is_told_as_such(self, reproduced):
        reproduced.fragment("fetch@sr")
        words = reproduced.words(*reproduced.task_words("distill@sr-logits", OVERRIDE))
        limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *words]
        ended = subprocess.run(limited, **reproduced.settings(), check=False)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert "File too large" in ended.stderr
        assert "Traceback" not in ended.stderr


class TestRemoteFaults:
    @pytest.fixture
    def behind(self, reproduced, s3, proxy):
        """The project, its objects in S3, reached through the proxy."""
        bucket = s3.bucket()
        for path in (reproduced.folder.parent / "remote").rglob("*"):
            if path.is_file():
                key = f"prefix/{path.relative_to(reproduced.folder.parent / 'remote')}"
                s3.client.upload_file(str(path), bucket, key)
        reproduced.environment |= s3.environment(proxy.port) | {"DVC_REMOTE_URL": f"s3://{bucket}/prefix"}
        reproduced.fragment("fetch@sr")
        return reproduced

    def test_away_during_the_push_fails_the_task_and_a_rerun_completes_without_running(self, behind, proxy, tmp_path):
        proxy.spoil = lambda method, path: 503 if method == "PUT" else None
        cache = {"DVC_CACHE_DIR": str(tmp_path / "shared")}
        ended = behind.task("distill@sr-logits", OVERRIDE, code=2, **cache)
        assert "step 2" in ended.stdout
        assert re.search(rf"prefix/files/md5/\S+ at 127\.0\.0\.1:{proxy.port}: the server answers 503", ended.stderr)
        proxy.spoil = lambda method, path: None
        ended = behind.task("distill@sr-logits", OVERRIDE, **cache)
        assert outcome(ended.stdout, "distill@sr-logits") == "run before"
        assert "step" not in ended.stdout
        assert outcome(behind.task("evaluate@sr-logits", OVERRIDE).stdout, "evaluate@sr-logits") == "runs"

    def test_away_during_the_pull_fails_the_task_and_a_rerun_completes(self, behind, proxy):
        proxy.spoil = lambda method, path: "cut" if method == "GET" and "files" in path else None
        ended = behind.task("distill@sr-logits", OVERRIDE, code=2)
        assert f"at 127.0.0.1:{proxy.port}: " in ended.stderr
        assert "Running" not in ended.stdout
        proxy.spoil = lambda method, path: None
        assert outcome(behind.task("distill@sr-logits", OVERRIDE).stdout, "distill@sr-logits") == "runs"

    def test_a_server_that_stores_nothing_and_says_success_fails_the_task(self, behind, proxy, s3):
        bucket = behind.environment["DVC_REMOTE_URL"].split("/")[2]
        lists = {key for key in s3.objects(bucket) if key.endswith(".dir")}
        proxy.spoil = lambda method, path: "empty" if method == "PUT" else None
        ended = behind.task("distill@sr-logits", OVERRIDE, code=2)
        assert "0 bytes were stored of" in ended.stderr
        # What has a list of files counts as whole, so the list goes last.
        assert {key for key in s3.objects(bucket) if key.endswith(".dir")} == lists
        assert not (behind.locks / "distill@sr-logits").exists()

    def test_a_wrong_secret_is_told_and_not_shown(self, behind, proxy):
        proxy.spoil = lambda method, path: 403
        ended = behind.task("distill@sr-logits", OVERRIDE, code=2)
        assert "403" in ended.stderr
        assert "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in ended.stderr
        assert SECRET_KEY not in ended.stdout + ended.stderr

    def test_keys_reach_no_output_and_no_object(self, behind, s3, tmp_path):
        cache = tmp_path / "cache"
        ended = behind.task("distill@sr-logits", OVERRIDE, "--keep", DVC_CACHE_DIR=str(cache))
        written = [ended.stdout.encode(), ended.stderr.encode()]
        written += [path.read_bytes() for path in behind.folder.parent.rglob("*") if path.is_file()]
        written += s3.objects(behind.environment["DVC_REMOTE_URL"].split("/")[2]).values()
        assert len(written) > 50
        for secret in (SECRET_KEY, ACCESS_KEY):
            assert not any(secret.encode() in content for content in written)


class TestInterrupted:
    STEPS = ("--overrides", json.dumps({"students.sr.steps": 6}))

    def started(self, project, shared, stage="distill@sr-logits", **environment):
        """A task that has come to its fourth step, with the checkpoints of its run, and goes no further."""
        project.fragment("fetch@sr")
        words = project.words(*project.task_words(stage, *self.STEPS))
        settings = project.settings({"CHECKPOINT_DIR": str(shared), "HOLD_AT_STEP": "3", **environment})
        running = subprocess.Popen(words, **settings)
        wait_for(lambda: any(path.is_file() and path.read_text() == "3" for path in shared.glob("*/*")))
        return running

    def test_a_killed_task_is_resumed_in_a_fresh_working_copy(self, reproduced, tmp_path):
        shared = tmp_path / "checkpoints"
        running = self.started(reproduced, shared)
        for process in (*psutil.Process(running.pid).children(recursive=True), running):
            process.kill()
        running.communicate()
        subprocess.run(["rm", "-rf", *reproduced.workspaces.iterdir()], check=True)
        assert [len(path.name) for path in shared.iterdir() if path.is_dir() and path.name != "check"] == [64]
        told = reproduced.task("distill@sr-logits", *self.STEPS, CHECKPOINT_DIR=str(shared)).stdout
        assert re.findall(r"^step (\d+)$", told, re.MULTILINE) == ["3", "4", "5"]
        assert [path.name for path in shared.iterdir()] == ["check"]

    def test_a_second_task_of_the_same_run_waits_for_the_result_of_the_first_and_takes_it(self, reproduced, tmp_path):
        shared = tmp_path / "checkpoints"
        first = self.started(reproduced, shared, HOLD_UNTIL=str(tmp_path / "go on"))
        words = reproduced.words(*reproduced.task_words("distill@sr-logits", *self.STEPS))
        second = subprocess.Popen(words, **reproduced.settings({"CHECKPOINT_DIR": str(shared)}))
        assert any(line.startswith("another task runs the same, as ") for line in second.stdout)
        (tmp_path / "go on").touch()
        said, fault = first.communicate()
        assert first.returncode == 0, said + fault
        told, fault = second.stdout.read(), second.stderr.read()
        assert second.wait() == 0, told + fault
        assert outcome(told, "distill@sr-logits") == "run before"
        assert [path.name for path in shared.iterdir()] == ["check"]

    def test_another_run_does_not_see_the_checkpoint(self, reproduced, tmp_path):
        shared = tmp_path / "checkpoints"
        running = self.started(reproduced, shared)
        running.send_signal(signal.SIGTERM)
        running.communicate()
        told = reproduced.task("distill@sr-logits", OVERRIDE, CHECKPOINT_DIR=str(shared)).stdout
        assert "step 0\n" in told

    def test_sigterm_stops_the_stage_and_removes_the_working_copy(self, reproduced, tmp_path):
        running = self.started(reproduced, tmp_path / "checkpoints")
        (copy,) = reproduced.workspaces.iterdir()
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=60)
        assert running.returncode == 143
        assert "stopped by SIGTERM" in said
        assert not copy.exists()
        left = subprocess.run(["pgrep", "-f", str(copy)], capture_output=True, text=True, check=False)
        assert left.stdout == ""


class TestParallel:
    @pytest.mark.slow
    def test_tasks_share_a_cache(self, reproduced, tmp_path):
        reproduced.fragment("fetch@sr")
        shared = {"DVC_CACHE_DIR": str(tmp_path / "cache"), "CHECKPOINT_DIR": str(tmp_path / "checkpoints")}
        stages = ["distill@sr-scratch", "distill@sr-logits", "distill@sr-logits"]
        running = [
            subprocess.Popen(
                reproduced.words(*reproduced.task_words(name, '--overrides={"students.sr.steps": 7}')),
                **reproduced.settings(shared),
            )
            for name in stages
        ]
        for process in running:
            said, fault = process.communicate()
            assert process.returncode == 0, said + fault
        changed = '--overrides={"students.sr.steps": 7}'
        for name in ("evaluate@sr-scratch", "evaluate@sr-logits", "report@sr"):
            reproduced.task(name, changed, **shared)
        params_with(reproduced.folder, "steps: 3", "steps: 7")
        reproduced.dvc("repro", "--quiet")
        entries = read_lock(reproduced.folder / "dvc.lock")
        assert read_lock(reproduced.locks / "report@sr") == entries
        assert fragment_text(entries) == (reproduced.locks / "report@sr").read_text()


def test_neither_torch_nor_other_heavy_packages_are_imported(reproduced):
    code = (
        "import sys; from pipeline.__main__ import main; code = main(sys.argv[1:]); "
        "print('loaded', sorted({'torch', 'mlflow', 'great_expectations', 'kfp', 's3fs', 'pandas', 'numpy'}"
        " & set(sys.modules))); sys.exit(code)"
    )
    words = [reproduced.words()[0], "-c", code, *reproduced.task_words("fetch@sr")]
    ended = subprocess.run(words, **reproduced.settings(), check=False)
    assert "fetch@sr: unchanged\nloaded []\n" in ended.stdout, ended.stderr
