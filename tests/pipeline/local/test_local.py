"""The compiled pipeline in real containers on this machine: true exit codes, and what each task's pod would have."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import kfp
import pytest

from pipeline.graph.graph import Output
from pipeline.kubeflow.compile import compiled
from pipeline.local.containers import STOPPED, Containers
from pipeline.local.containers import engine as find_engine
from pipeline.local.local import summary
from pipeline.local.run import LocalRun
from pipeline.local.settings import Machine
from pipeline.messages import PipelineError
from tests.pipeline.toy import ROOT, make_project, pipeline_command, stage

pytestmark = pytest.mark.containers

SECRET = "planted-secret-51ce"
QUICK = {"retries": {"count": 0}}


def small(name, *upstream, **asked):
    """A stage that tries once, if nothing else is said."""
    score = Output(f"{name}.json", cached=True, persisted=False, metric=True)
    return stage(name, upstream=upstream, outputs=(score,), meta={"kfp": QUICK | asked})


class Local:
    """Runs of small pipelines; `said` holds what each run wrote."""

    def __init__(self, folder, image):
        self.folder = folder
        self.image = image
        self.said = []
        (folder / "shared").mkdir()
        (folder / "shared").chmod(0o777)
        self.machine = Machine(folder / "shared", {}, init=True)

    def prepared(self, *stages):
        self.said.clear()
        folder = self.folder / f"run-{time.time_ns()}"
        return LocalRun(
            compiled(stages, self.image), folder, self.machine, lambda task, line: self.said.append((task, line))
        )

    def run(self, *stages, parallel=1, **scripts):
        prepared = self.prepared(*stages)
        prepared.run({"overrides": json.dumps(scripts)}, parallel)
        return prepared

    def fails(self, *stages, parallel=1, **scripts):
        with pytest.raises(PipelineError) as error:
            self.run(*stages, parallel=parallel, **scripts)
        return str(error.value)

    def lines(self, task):
        return [line for name, line in self.said if name == task]


@pytest.fixture
def local(tmp_path, image, monkeypatch):
    monkeypatch.setenv("DVC_REMOTE_URL", "s3://bucket/prefix")
    return Local(tmp_path, image)


def lock_of(run, task):
    return Path(run.outputs[task]["lock"].path).read_text().split()


def left(engine, run):
    return engine.containers.list(all=True, filters={"label": f"restoration-distillation.run={run}"})


class TestExitCodes:
    def test_of_twenty_containers_that_fail_none_is_lost(self, engine, image, tmp_path) -> None:
        """Kfp's own runner, which this replaces, counted a third of them as successes."""
        group = Containers(tmp_path, lambda *_: None)
        command = ["sh", "-c", "exit 3"]
        with ThreadPoolExecutor(4) as pool:
            runs = [
                pool.submit(group.run, engine, image, command, {}, name=f"codes-{os.getpid()}-{index}")
                for index in range(20)
            ]
        assert [run.result() for run in runs] == [3] * 20
        assert engine.containers.list(all=True, filters={"name": f"codes-{os.getpid()}-"}) == []

    def test_that_are_not_zero_fail_the_run_and_nothing_after_it_starts(self, local) -> None:
        said = local.fails(small("one"), small("two", "one"), small("three", "two"), two="echo why; echo not; exit 3")
        assert re.match(r"task two failed with exit code 3\. The end of \S+-two\.log:\n  why\n  not\n", said)
        assert said.endswith("not started: publish, three")
        assert {name for name, _ in local.said} == {"two"}

    def test_of_a_process_that_was_killed_fail_the_run(self, local) -> None:
        assert "failed with exit code 137" in local.fails(small("one"), one="kill -9 $PPID")

    def test_of_a_task_that_tells_nothing_of_its_outputs_fail_the_run(self, local) -> None:
        said = local.fails(small("one"), small("two", "one"), one="exit 99")
        assert said.startswith("task one has not said where its outputs are (executor_output.json): lock, metrics.")

    def test_of_a_program_that_is_not_there_fail_the_run(self, local) -> None:
        prepared = local.prepared(small("one"))
        prepared._executors["exec-one"].container.command[0] = "no-such-program"
        with pytest.raises(PipelineError, match=r"(?s)task one.*no-such-program"):
            prepared.run({})


class TestRun:
    def test_hands_every_task_what_those_before_it_wrote(self, local, engine) -> None:
        run = local.run(small("a"), small("b", "a"), small("c", "a"), small("d", "b", "c"))
        assert lock_of(run, "d") == ["a", "b", "c", "d"]
        assert lock_of(run, "publish") == ["a", "b", "c", "d", "publish"]
        assert run.outputs["d"]["metrics"].metadata == {"score": 1.5}
        assert left(engine, run._folder.name) == []

    def test_ends_with_scores_and_the_place_of_the_lock(self, local) -> None:
        page = stage(
            "report",
            upstream=("a",),
            outputs=(Output("r.html", cached=True, persisted=False, metric=False),),
            meta={"kfp": {**QUICK, "page": "r.html"}},
        )
        run = local.run(small("a"), page)
        assert list(summary(run.outputs)) == [
            "a  score = 1.5",
            f"report  page: {run.outputs['report']['page'].path}",
            f"dvc.lock of the run: {run.outputs['publish']['lock'].path}",
        ]

    def test_tells_and_keeps_the_log_of_each_task(self, local) -> None:
        run = local.run(small("a"), a="echo first; printf 'no end'; sleep 1")
        assert local.lines("a") == ["first", "no end"]
        assert [path.read_text() for path in (run._folder / "logs").glob("*-a.log")] == ["first\nno end\n"]

    def test_runs_tasks_at_the_same_time_if_asked_to(self, local) -> None:
        """Each waits for the other."""
        meet = (
            "touch /mnt/shared/{0}; for i in $(seq 300); do test -e /mnt/shared/{1} && exit 0; sleep 0.1; done; exit 7"
        )
        local.run(small("a"), small("b"), a=meet.format("a", "b"), b=meet.format("b", "a"), parallel=2)

    def test_runs_one_after_the_other_otherwise(self, local) -> None:
        alone = "test ! -e /mnt/shared/busy || exit 7; touch /mnt/shared/busy; sleep 0.3; rm /mnt/shared/busy"
        local.run(small("a"), small("b"), small("c"), a=alone, b=alone, c=alone)

    def test_waits_for_those_that_run_when_another_fails(self, local) -> None:
        said = local.fails(
            *(small("bad"), small("good"), small("never", "good")),
            bad="exit 4",
            good="sleep 2; touch /mnt/shared/ended",
            parallel=2,
        )
        assert "task bad failed with exit code 4" in said
        assert "not started: never" in said
        assert (local.folder / "shared" / "ended").exists()


class TestSettings:
    def test_environment_is_each_tasks_own(self, local) -> None:
        local.run(
            *(small("one"), small("several", gpu=4)),
            one='test -z "$STEP_LAUNCHER" -a "$DVC_CACHE_DIR" = /mnt/shared/dvc-cache',
            several='test "$STEP_LAUNCHER" = "torchrun --standalone --nproc-per-node=4"',
        )

    def test_several_nodes_are_this_machine_alone(self, local) -> None:
        prepared = local.prepared(small("wide", nodes=2, gpu=8))
        assert {task.name: task.settings.alone for task in prepared.tasks.values()} == {"wide": True, "publish": False}
        prepared.run({"overrides": json.dumps({"wide": 'test -z "$STEP_LAUNCHER"'})})

    def test_secrets_come_from_the_environment_and_are_shown_nowhere(self, local, monkeypatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        run = local.run(
            small("a"),
            a=f'test "$AWS_SECRET_ACCESS_KEY" = {SECRET[:7]}"{SECRET[7:]}" -a -z "${{AWS_SESSION_TOKEN+set}}"',
        )
        written = [path.read_bytes() for path in run._folder.rglob("*") if path.is_file()]
        assert not [text for text in written if SECRET.encode() in text]
        assert SECRET not in str(local.said)

    def test_a_secret_that_the_tasks_need_is_asked_for_before_anything_runs(self, local, monkeypatch) -> None:
        monkeypatch.delenv("DVC_REMOTE_URL")
        with pytest.raises(PipelineError, match="DVC_REMOTE_URL is not set: on a cluster it comes from the secret"):
            local.prepared(small("a"))

    def test_the_shared_volume_is_a_folder_of_this_machine(self, local) -> None:
        local.run(
            *(small("a"), small("b", "a")),
            a="echo there > /mnt/shared/file",
            b='test "$(cat /mnt/shared/file)" = there',
        )
        assert (local.folder / "shared" / "file").read_text() == "there\n"

    def test_further_folders_may_be_mounted(self, local, tmp_path) -> None:
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "file").touch()
        local.machine = replace(local.machine, mounts={tmp_path / "more": "/more"})
        local.run(small("a"), a="test -e /more/file")

    def test_shared_memory_has_the_size_that_was_asked_for(self, local) -> None:
        size = "test $(df -k /dev/shm | awk 'END {print $2}') = "
        local.run(*(small("a", shm="256Mi"), small("b")), a=f"{size}{256 * 1024}", b=f"{size}{64 * 1024}")

    def test_the_user_is_that_of_the_image(self, local) -> None:
        if os.getuid():
            pytest.skip("who is not root runs containers as himself")
        local.run(small("a"), a="id; test $(id -u):$(id -g) = 10001:0")

    def test_who_is_not_root_runs_containers_as_himself(self, local, monkeypatch) -> None:
        """So that he may delete what they write."""
        monkeypatch.setattr("pipeline.local.settings.os.getuid", lambda: 4321)
        run = local.run(small("a"), a="test $(id -u):$(id -g) = 4321:0; touch /mnt/shared/his")
        assert Path(run.outputs["a"]["lock"].path).stat().st_uid == 4321

    def test_a_task_that_runs_too_long_is_stopped(self, local, engine) -> None:
        said = local.fails(small("slow", timeout=1), slow="echo started; exec sleep 600")
        assert re.match(r"task slow ran longer than 1 s\. The end of \S+:\n  started\n", said)

    def test_a_task_is_tried_again_as_often_as_asked(self, local) -> None:
        third = "echo x >> /mnt/shared/tries; test $(wc -l < /mnt/shared/tries) = 3 || exit 5"
        run = local.run(small("a", retries={"count": 2, "backoff": 0}), small("b", "a"), a=third)
        assert (local.folder / "shared" / "tries").read_text() == "x\n" * 3
        assert [line.split(".")[0] for line in local.lines("a")] == ["task a failed with exit code 5"] * 2
        assert sorted(path.name.rpartition("-")[2] for path in (run._folder / "logs").glob("*-a*")) == [
            "a.log",
            "retry1.log",
            "retry2.log",
        ]

    def test_a_task_that_fails_every_time_fails_the_run(self, local) -> None:
        said = local.fails(small("a", retries={"count": 1, "backoff": 0}), a="echo x >> /mnt/shared/tries; exit 5")
        assert "exit code 5" in said
        assert (local.folder / "shared" / "tries").read_text() == "x\n" * 2

    def test_waits_grow_as_kubeflow_lets_them_grow(self, local) -> None:
        prepared = local.prepared(small("a", retries={"count": 4, "backoff": 10, "factor": 3}))
        assert prepared.tasks["a"].settings.waits == (10, 30, 90, 270)

    def test_tries_may_be_set_for_a_run(self, local) -> None:
        local.machine = replace(local.machine, retries=0)
        assert local.prepared(small("a", retries={"count": 5})).tasks["a"].settings.waits == ()


class TestCommand:
    @pytest.fixture
    def project(self, tmp_path):
        return make_project(tmp_path / "project")

    def run(self, project, image, *flags, code=0, **environment):
        return pipeline_command(
            *("local", "--image", image, *flags),
            folder=project,
            code=code,
            **{"DVC_REMOTE_URL": "s3://b", **environment},
        )

    def test_runs_dvc_yaml_and_ends_with_the_scores(self, project, image) -> None:
        result = self.run(project, image, "--name", "first", "--set", "factor=3")
        assert "sum  score = 1.5\ndvc.lock of the run: " in result.stdout
        assert re.search(r"/\.cache/pipeline/runs/first-[0-9-]+/outputs/publish/lock\n$", result.stdout)
        assert result.stderr == ""

    def test_ends_with_2_and_the_task_that_failed(self, project, image) -> None:
        result = self.run(project, "restoration-distillation-base:bookworm", "--retries", "0", code=2)
        assert result.stderr.startswith("error: task source")
        assert "Traceback" not in result.stderr
        assert "error: not started: double@a, double@b, publish, sum" in result.stderr

    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_stops_and_removes_its_containers_when_interrupted(self, tmp_path, image, engine, kind) -> None:
        params = {"source": "", "names": ["a"], "factor": 1}
        project = make_project(tmp_path / "project", params=params)
        script = ("--set", "source='touch /mnt/shared/started; exec sleep 600'")
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "local", "--image", image, *script],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_REMOTE_URL": "s3://b"},
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (project / ".cache/pipeline/shared/started").exists():
            assert process.poll() is None
            time.sleep(0.1)
        [folder] = (project / ".cache/pipeline/runs").iterdir()
        assert len(left(engine, folder.name)) == 1
        process.send_signal(kind)
        assert process.communicate()[1] == "interrupted\n"
        assert process.returncode == 130
        assert left(engine, folder.name) == []

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--set", "facto=1"], "facto"),
            (["--mount", "/no/such:/x"], "--mount /no/such:/x: expected SOURCE:TARGET"),
            (["--mount", "/"], "--mount /: expected SOURCE:TARGET"),
            (["--parallel", "0"], "--parallel must be at least 1"),
            (["--image", "no-such-image:1"], "--image no-such-image:1: the engine has no such image"),
        ],
    )
    def test_a_mistake_is_told_before_anything_runs(self, project, image, flags, said) -> None:
        assert said in self.run(project, image, *flags, code=2).stderr
        assert not (project / ".cache/pipeline/runs").exists()

    def test_a_missing_engine_is_told(self, project) -> None:
        result = self.run(project, "x:1", code=2, DOCKER_HOST="tcp://127.0.0.1:1")
        assert result.stderr.startswith("error: no Docker engine answers: start one, or set DOCKER_HOST.")


def test_another_release_of_kfp_is_refused(local, monkeypatch) -> None:
    monkeypatch.setattr(kfp, "__version__", "2.17.0")
    with pytest.raises(PipelineError, match=r"written for kfp 2\.16\.1, but this is 2\.17\.0"):
        local.prepared(small("a"))


def test_a_container_is_not_started_once_the_run_is_being_stopped(engine, image, tmp_path) -> None:
    group = Containers(tmp_path, lambda *_: None)
    group.stop()
    name = f"late-{os.getpid()}"
    assert group.run(find_engine(), image, ["sh", "-c", "exit 0"], {}, name=name) == STOPPED
    assert engine.containers.list(all=True, filters={"name": name}) == []


def test_containers_that_run_are_stopped_together(engine, image, tmp_path) -> None:
    group = Containers(tmp_path, lambda *_: None)
    started = threading.Semaphore(0)
    group._write = lambda *_: started.release()
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(
                *(group.run, engine, image, ["sh", "-c", "echo; exec sleep 600"], {}),
                name=f"together-{os.getpid()}-{index}",
                init=True,
            )
            for index in range(2)
        ]
        for _ in runs:
            started.acquire()
        group.stop()
    assert [run.result() for run in runs] == [143, 143]
