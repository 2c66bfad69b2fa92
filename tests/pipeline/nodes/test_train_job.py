"""Against a server that answers as a Kubernetes API does, with the real client, over HTTP."""

import argparse
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import jsonschema
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes.config.incluster_config import InClusterConfigLoader
from urllib3.util import Retry

from pipeline import patience
from pipeline.__main__ import main
from pipeline.nodes import kubernetes_api, launched_job, pod_logs
from pipeline.nodes.train_job import add_arguments
from pipeline.nodes.train_job_manifest import DIGEST, Command, Nodes, equal, train_job
from tests.pipeline.kubernetes_server import JOBSET_LABEL, SCHEMA, TOKEN, KubernetesServer, wait_for
from tests.small_project import SmallProject

ROOT = Path(__file__).parents[3]
WORDS = ["components", "distill", "--task", "sr", "--output", "data/students/sr/dckd"]
FLAGS = [
    *("--nodes", "2", "--gpus-per-node", "4", "--image", "registry/restoration-distillation:1a2b"),
    *("--runtime", "restoration-distillation", "--timeout", "60"),
]
QUICK = ["--poll", "0.05", "--patience", "5"]


@pytest.fixture
def server():
    with KubernetesServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
        assert server.problems == []


@pytest.fixture
def launch(server, tmp_path, monkeypatch, capsys):
    """Run the command in this process; what it said never holds the token."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr(patience, "RETRY", Retry(total=None, backoff_factor=0.01, backoff_max=0.1))
    monkeypatch.setattr(pod_logs, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pod_logs, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(launched_job, "_END_PATIENCE", 0.5)
    monkeypatch.chdir(tmp_path)

    def launched(*flags, words=WORDS):
        code = main(["launch-train-job", *FLAGS, *QUICK, *flags, "-m", *words])
        said = capsys.readouterr()
        assert said.out == ""
        assert TOKEN not in said.err
        return code, said.err

    return launched


def only(values):
    (value,) = values
    return value


def good(server, lines=("step 1", "step 2")):
    """A job of two pods that write `lines` and complete."""

    def controller(job):
        name = job["metadata"]["name"]
        pods = [server.add_pod(name, index) for index in range(2)]
        for pod in pods:
            server.run_pod(pod)
            server.logs[pod].write(*lines)
        for pod in pods:
            server.end_pod(pod)
        server.set_condition(name, "Complete", "AllJobsCompleted", "jobset completed successfully")

    return controller


def endless(server):
    """A job of one pod that runs until it is deleted."""

    def controller(job):
        pod = server.add_pod(job["metadata"]["name"], 0)
        server.run_pod(pod)
        server.logs[pod].write("step 1")

    return controller


def failing(server, code=1, reason=""):
    def controller(job):
        name = job["metadata"]["name"]
        first, second = (server.add_pod(name, index) for index in range(2))
        for pod in (first, second):
            server.run_pod(pod)
        server.logs[second].write(*(f"line {index}" for index in range(30)), "RuntimeError: boom")
        server.end_pod(second, code, reason, finished="2026-01-01T00:00:01Z")
        server.end_pod(first, 143, finished="2026-01-01T00:00:02Z")
        server.set_condition(name, "Failed", "FailedJobs", "jobset failed due to one or more job failures.")

    return controller


def manifest(nodes=None, words=WORDS, folder="/mnt/shared/workspaces/a", owner=None, environment=None, **changes):
    command = Command(tuple(words), folder, environment or {})
    values = {
        "name": command.name("key"),
        "namespace": "team",
        "runtime": ("TrainingRuntime", "restoration-distillation"),
        "image": "registry/restoration-distillation:1a2b",
        "command": command,
        "nodes": nodes or Nodes(2, 4),
        "seconds": 3600,
        "owner": owner,
    }
    return train_job(**values | changes)


class TestManifest:
    @pytest.mark.parametrize(
        "made",
        [
            manifest(),
            manifest(Nodes(1, 0)),
            manifest(Nodes(16, 8, "amd.com/gpu", "500m", "64Gi")),
            manifest(words=["components." + "a_long_name" * 9]),
            manifest(environment={"KFP_RUN_ID": "a"}),
            manifest(owner={"metadata": {"name": "pod", "uid": "1"}}),
        ],
    )
    def test_it_fits_the_definition_of_trainer(self, made):
        jsonschema.Draft202012Validator(SCHEMA).validate(made)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"metadata": {"name": "2nodes", "namespace": "team"}},
            {"spec": {}},
            {"spec": {"runtimeRef": {"name": "a"}, "podTemplateOverrides": []}},
            {"spec": {"runtimeRef": {"name": "a"}, "trainer": {"numProcPerNode": "auto"}}},
            {"spec": {"runtimeRef": {"name": "a"}, "trainer": {"resourcesPerNode": {"limits": {"cpu": "four"}}}}},
        ],
    )
    def test_the_definition_refuses_what_trainer_does(self, wrong):
        assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(manifest() | wrong)

    def test_each_node_runs_torchrun_in_the_shared_folder_with_the_steps_own_arguments(self):
        trainer = manifest()["spec"]["trainer"]
        assert trainer["command"][:2] == ["sh", "-c"]
        assert trainer["command"][3] == "/mnt/shared/workspaces/a"
        assert trainer["args"] == ["-m", *WORDS]
        assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)

    def test_gpus_are_requested_and_limited_since_trainer_2_0_counts_the_requests(self):
        resources = manifest()["spec"]["trainer"]["resourcesPerNode"]
        assert resources == {"requests": {"nvidia.com/gpu": 4}, "limits": {"nvidia.com/gpu": 4}}

    def test_without_gpus_each_node_runs_one_process_with_the_runtimes_resources(self):
        trainer = manifest(Nodes(2, 0))["spec"]["trainer"]
        assert trainer["numProcPerNode"] == 1
        assert "resourcesPerNode" not in trainer

    def test_kubernetes_puts_no_variables_into_the_steps_arguments(self):
        made = manifest(words=["components", "distill", "--output", "$(HOME)/a"], folder="/mnt/$(X)")
        assert made["spec"]["trainer"]["args"][-1] == "$$(HOME)/a"
        assert made["spec"]["trainer"]["command"][-1] == "/mnt/$$(X)"

    def test_the_nodes_get_the_variables_given_and_no_others(self):
        assert "env" not in manifest()["spec"]["trainer"]
        made = manifest(environment={"KFP_RUN_ID": "run", "GIT_REVISION": "$(HOME)"})
        assert made["spec"]["trainer"]["env"] == [
            {"name": "GIT_REVISION", "value": "$$(HOME)"},
            {"name": "KFP_RUN_ID", "value": "run"},
        ]

    def test_the_name_is_that_of_step_and_key_and_of_nothing_else(self):
        one = Command(tuple(WORDS), "/a")
        assert re.fullmatch(r"distill-[0-9a-f]{12}", one.name("key"))
        assert one.name("key") == Command(tuple(WORDS), "/b").name("key")
        assert one.name("key") != one.name("another")
        assert one.name("key") != Command((*WORDS, "--more"), "/a").name("key")

    @pytest.mark.parametrize(
        "change",
        [
            {"image": "other"},
            {"nodes": Nodes(3, 4)},
            {"folder": "/b"},
            {"environment": {"KFP_RUN_ID": "b"}},
            {"owner": {"metadata": {"name": "p", "uid": "2"}}},
        ],
    )
    def test_a_job_is_equal_only_if_all_of_it_is(self, change):
        assert equal(manifest(), manifest())
        assert not equal(manifest(), manifest(**change))
        assert not equal({"metadata": {}}, {"metadata": {}})


class TestGoodRun:
    def test_every_pods_lines_come_after_its_name(self, server, launch):
        server.controller = good(server)
        code, said = launch()
        assert code == 0
        name = only({name for name, _, _ in server.deletions})
        for index in range(2):
            pod = f"{name}-node-0-{index}-x7f2k"
            assert re.findall(rf"^\[{pod}\] (.*)$", said, re.MULTILINE) == ["step 1", "step 2"]
        assert f"TrainJob {name}: 2 nodes, 4 processes on each\n" in said
        assert re.search(rf"TrainJob {name}: complete after \d+ s\n", said)

    def test_the_job_is_gone_with_its_pods(self, server, launch):
        server.controller = good(server)
        launch()
        assert only(server.deletions)[2] == "Foreground"
        assert (server.jobs, server.pods) == ({}, {})

    def test_the_working_directory_is_that_of_the_step(self, server, launch, tmp_path):
        seen = []
        server.controller = lambda job: (seen.append(job), good(server)(job))
        launch()
        assert only(seen)["spec"]["trainer"]["command"][3] == str(tmp_path)
        assert only(seen)["spec"]["activeDeadlineSeconds"] == 60
        assert "ownerReferences" not in only(seen)["metadata"]

    def test_the_namespace_and_resources_of_the_command_line(self, server, launch):
        seen = []
        server.controller = lambda job: (seen.append(job), good(server)(job))
        flags = [
            "--namespace",
            "team",
            "--accelerator",
            "amd.com/gpu",
            "--cpu-per-node",
            "8",
            "--memory-per-node",
            "9Gi",
        ]
        assert launch(*flags)[0] == 0
        assert only(seen)["spec"]["trainer"]["resourcesPerNode"] == {
            "requests": {"amd.com/gpu": 4, "memory": "9Gi", "cpu": "8"},
            "limits": {"amd.com/gpu": 4, "memory": "9Gi"},
        }

    @pytest.mark.usefixtures("launch")
    def test_lines_that_come_slowly_are_shown_as_they_come(self, server):
        go_on = threading.Event()

        def controller(job):
            name = job["metadata"]["name"]
            pod = server.add_pod(name, 0)
            server.run_pod(pod)
            server.logs[pod].write("first")
            go_on.wait(20)
            server.logs[pod].write("second")
            server.end_pod(pod)
            server.set_condition(name, "Complete", "AllJobsCompleted", "done")

        server.controller = controller
        process = started(server)
        assert "first" in next(line for line in process.stderr if "first" in line)
        go_on.set()
        assert "second" in process.communicate(timeout=30)[1]
        assert process.returncode == 0

    def test_what_a_pod_waits_for_is_told_once(self, server, launch):
        def controller(job):
            name = job["metadata"]["name"]
            server.set_condition(name, "Suspended", "Suspended", "TrainJob is suspended")
            time.sleep(0.2)
            server.set_condition(name, "Suspended", "Resumed", "TrainJob is resumed", "False")
            unschedulable = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            }
            pod = server.add_pod(name, 0, conditions=[unschedulable])
            time.sleep(0.2)
            server.set_state(pod, waiting={"reason": "ContainerCreating"})
            time.sleep(0.1)
            server.set_state(pod, waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"})
            time.sleep(0.2)
            server.run_pod(pod)
            server.logs[pod].write("step 1")
            server.end_pod(pod)
            server.set_condition(name, "Complete", "AllJobsCompleted", "done")

        server.controller = controller
        _, said = launch()
        assert said.count("waits: TrainJob is suspended") == 1
        assert said.count("waits: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.") == 1
        assert said.count("waits: ImagePullBackOff: Back-off pulling image") == 1
        assert "ContainerCreating" not in said
        assert "step 1" in said

    def test_pods_of_a_second_attempt_are_followed(self, server, launch):
        def controller(job):
            name = job["metadata"]["name"]
            first = server.add_pod(name, 0, "aaaaa")
            server.run_pod(first)
            server.logs[first].write("step 1")
            server.end_pod(first, 1)
            time.sleep(0.3)
            with server.lock:
                del server.pods[first]
            second = server.add_pod(name, 0, "bbbbb")
            server.run_pod(second)
            server.logs[second].write("going on from step 1")
            server.end_pod(second)
            server.set_condition(name, "Complete", "AllJobsCompleted", "done")

        server.controller = controller
        code, said = launch()
        assert code == 0
        assert "node-0-0-aaaaa] step 1\n" in said
        assert "node-0-0-bbbbb] going on from step 1\n" in said


class TestFailedRun:
    def test_a_failure_names_the_pod_that_failed_first_and_shows_its_last_lines(self, server, launch):
        server.controller = failing(server)
        code, said = launch()
        assert code == 2
        name, _, _ = only(server.deletions)
        pod = f"{name}-node-0-1-x7f2k"
        assert said.endswith(
            f"error: TrainJob {name} failed: FailedJobs: jobset failed due to one or more job failures. "
            f"{pod} was the first to fail: exit code 1.\n"
        )
        last = said.partition(f"last lines of {pod}:\n")[2].splitlines()
        assert last[:20] == [*(f"  line {index}" for index in range(11, 30)), "  RuntimeError: boom"]
        assert f"TrainJob {name}: deleted\n" in said
        assert server.jobs == {}

    def test_a_kill_for_memory_is_named(self, server, launch):
        server.controller = failing(server, 137, "OOMKilled")
        assert "exit code 137 (OOMKilled)." in launch()[1]

    def test_a_job_that_takes_too_long_is_deleted(self, server, launch):
        server.controller = endless(server)
        code, said = launch("--timeout", "1")
        assert code == 2
        assert re.search(r"error: TrainJob distill-\w+ is not complete after 1 s \(--timeout\)\.\n$", said)
        assert server.jobs == {}

    def test_a_job_that_somebody_deletes_is_a_failure(self, server, launch):
        def controller(job):
            endless(server)(job)
            time.sleep(0.3)
            server.remove_job(job["metadata"]["name"])

        server.controller = controller
        code, said = launch()
        assert code == 2
        assert "was deleted by somebody else while it ran." in said
        assert server.deletions == []

    def test_one_that_is_replaced_is_left_alone(self, server, launch):
        def controller(job):
            time.sleep(0.2)
            with server.lock:
                job["metadata"]["uid"] = "another"

        server.controller = controller
        assert launch()[0] == 2
        assert server.deletions == []
        assert only(server.jobs.values())["metadata"]["uid"] == "another"

    def test_a_deletion_that_takes_long_is_told(self, server, launch, monkeypatch):
        monkeypatch.setattr(launched_job, "_END_SECONDS", 0.1)
        server.deletion_seconds = 5
        server.controller = failing(server)
        assert ": is being deleted\n" in launch()[1]


def left_behind(server, launch, change=lambda job: None):
    """A job that an earlier try of the very same command left, but for `change`."""
    seen = []

    def controller(job):
        seen.append(json.loads(json.dumps(job)))
        server.set_condition(job["metadata"]["name"], "Failed", "FailedJobs", "failed")

    server.controller = controller
    assert launch()[0] == 2
    job = only(seen)
    job["metadata"]["uid"] = "old"
    change(job)
    server.jobs[job["metadata"]["name"]] = job
    server.deletions.clear()
    return job


class TestAnotherTry:
    def test_a_running_job_of_another_manifest_is_deleted_before_one_is_created(self, server, launch):
        left_behind(server, launch, lambda job: job["metadata"]["annotations"].update({DIGEST: "other"}))
        running = []

        def controller(job):
            running.append([other["metadata"]["uid"] for other in server.jobs.values()])
            good(server)(job)

        server.controller = controller
        code, said = launch()
        assert code == 0
        assert server.deletions[0][1:] == ("old", "Foreground")
        assert "an earlier try left it: it is deleted first" in said
        assert len(only(running)) == 1
        assert only(running) != ["old"]

    def test_a_running_job_of_the_same_manifest_is_followed(self, server, launch):
        job = left_behind(server, launch)
        good(server)(job)
        server.jobs[job["metadata"]["name"]]["status"]["conditions"] = []
        threading.Timer(
            0.3, server.set_condition, (job["metadata"]["name"], "Complete", "AllJobsCompleted", "done")
        ).start()
        code, said = launch()
        assert code == 0
        assert "exists already" in said
        assert "step 2" in said
        assert [uid for _, uid, _ in server.deletions] == ["old"]

    @pytest.mark.parametrize("condition", ["Complete", "Failed"])
    def test_one_that_is_over_is_run_anew_since_its_outputs_are_gone(self, condition, server, launch):
        over = {"type": condition, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "t"}
        left_behind(server, launch, lambda job: job["status"].update(conditions=[over]))
        server.controller = good(server)
        code, said = launch()
        assert code == 0
        assert said.count("step 2") == 2
        assert server.deletions[0][1] == "old"

    def test_one_that_does_not_end_is_told(self, server, launch):
        left_behind(server, launch, lambda job: job["metadata"]["annotations"].update({DIGEST: "other"}))
        server.deletion_seconds = 20
        code, said = launch("--patience", "0.3")
        assert code == 2
        assert "of an earlier try is still being deleted after 0 s: `kubectl -n team describe" in said

    def test_an_answer_that_is_lost_makes_no_second_job(self, server, launch):
        server.faults = [("POST .*trainjobs", "answer is lost", 1)]
        created = []

        def slowly(job):
            created.append(job)
            time.sleep(0.3)
            good(server)(job)

        server.controller = slowly
        code, _ = launch()
        assert code == 0
        assert len(created) == 1


class TestOutage:
    @pytest.mark.parametrize("fault", ["reset", 429, 500, 502, 503, 504])
    def test_a_short_one_is_waited_for_wherever_it_comes(self, fault, server, launch):
        server.faults = [
            ("GET .*trainingruntimes", fault, 2),
            ("POST .*trainjobs", fault, 2),
            ("GET .*trainjobs/", fault, 3),
            ("GET .*pods$", fault, 3),
            ("GET .*pods/[^/]+$", fault, 3),
            ("GET .*pods/.*/log", fault, 3),
            ("DELETE .*trainjobs", fault, 1),
        ]
        server.controller = good(server)
        code, said = launch()
        assert code == 0, said
        assert server.faults == []
        assert said.count("] step 2\n") == 2
        assert "no answer from the Kubernetes API (" in said
        assert len(server.deletions) == 1

    def test_a_long_one_ends_with_what_may_be_left(self, server, launch):
        def controller(job):
            endless(server)(job)
            server.faults = [("trainjobs", 503, 10_000)]

        server.controller = controller
        code, said = launch("--patience", "0.5")
        assert code == 2
        name = only(server.jobs)
        assert (
            f"error: could not read the TrainJob {name}: the Kubernetes API at {server.address} gave no answer "
            "for 0 s (503 Service Unavailable).\n"
        ) in said
        assert f"It may still run: `kubectl -n team delete trainjob {name}`\n" in said

    def test_no_server_at_all(self, server, launch, tmp_path):
        server.shutdown()
        server.server_close()
        code, said = launch("--patience", "0.2")
        assert code == 2
        assert "ConnectionRefusedError" in said.splitlines()[-1]

    @pytest.mark.parametrize("breaks", [[0], [1], [30], [31, 0, 77], [36, 40, 200, 500], [600]])
    def test_a_log_that_breaks_anywhere_is_shown_once_and_whole(self, breaks, server, launch):
        lines = [f"step {index} of a training" for index in range(20)]

        def controller(job):
            name = job["metadata"]["name"]
            pod = server.add_pod(name, 0)
            server.run_pod(pod)
            # Half of them at the very same time.
            server.logs[pod].write(*lines[:5])
            server.logs[pod].write(*lines[5:15], step=0)
            time.sleep(0.2)
            server.logs[pod].write(*lines[15:])
            server.end_pod(pod)
            server.set_condition(name, "Complete", "AllJobsCompleted", "done")

        server.controller = controller
        server.breaks = list(breaks)
        code, said = launch()
        assert code == 0
        assert re.findall(r"^\[.*\] (.*)$", said, re.MULTILINE) == lines
        assert server.breaks == []

    def test_a_log_that_ends_in_the_middle_of_a_line_while_the_pod_runs(self, server, launch):
        def controller(job):
            name = job["metadata"]["name"]
            pod = server.add_pod(name, 0)
            server.run_pod(pod)
            server.logs[pod].write("step 1", "step 2")
            path = f"GET /api/v1/namespaces/team/pods/{pod}/log"
            wait_for(lambda: server.counted()[path] > 1)
            server.end_pod(pod)
            server.set_condition(name, "Complete", "AllJobsCompleted", "done")

        server.controller = controller
        server.ends = [35]
        code, said = launch()
        assert code == 0
        assert re.findall(r"^\[.*\] (.*)$", said, re.MULTILINE) == ["step 1", "step 2"]

    def test_a_log_is_read_on_from_where_it_broke(self, server, launch):
        """Lines longer ago than the overlap are not asked for again."""
        server.breaks = [200]
        questions = []

        def controller(job):
            name = job["metadata"]["name"]
            pod = server.add_pod(name, 0)
            server.run_pod(pod)
            server.logs[pod].write(*(f"step {index}" for index in range(50)))
            server.end_pod(pod)
            server.set_condition(name, "Complete", "AllJobsCompleted", "done")
            questions.append(pod)

        server.controller = controller
        assert launch()[0] == 0
        assert server.counted()[f"GET /api/v1/namespaces/team/pods/{only(questions)}/log"] == 2


class TestRefusal:
    @pytest.mark.parametrize(
        ("pattern", "doing"),
        [
            ("GET .*/trainingruntimes", "read the runtime 'restoration-distillation'"),
            ("POST .*trainjobs", r"create the TrainJob distill-\w+"),
            ("GET .*trainjobs/", r"read the TrainJob distill-\w+"),
            ("GET .*pods$", "list pods"),
        ],
    )
    def test_missing_rights_are_told_with_the_role_that_gives_them(self, pattern, doing, server, launch):
        server.refused = [pattern]
        server.controller = endless(server)
        code, said = launch()
        assert code == 2
        assert re.search(
            rf"error: could not {doing} in namespace team: forbidden: User \"[a-z:-]+\" cannot do that\. "
            r"The Role in deploy/kubernetes allows it: kubectl apply -k\.\n$",
            said,
        )

    def test_logs_that_may_not_be_read_do_not_end_the_run(self, server, launch):
        server.refused = ["GET .*/log"]
        server.controller = good(server)
        code, said = launch()
        assert code == 0
        assert "its log can't be read: could not read the log of distill-" in said

    def test_wrong_credentials(self, server, launch, tmp_path):
        server.kubeconfig(tmp_path / "kubeconfig", token="expired")  # noqa: S106
        code, said = launch()
        assert code == 2
        assert "Unauthorized. The API does not accept these credentials.\n" in said

    def test_a_cluster_without_trainer(self, server, launch):
        server.installed = False
        code, said = launch()
        assert code == 2
        assert "Is Kubeflow Trainer v2 installed? There is no trainer.kubeflow.org/v1alpha1.\n" in said

    def test_a_runtime_that_is_not_there(self, server, launch):
        server.runtimes.clear()
        code, said = launch()
        assert code == 2
        assert said == (
            "error: could not read the runtime 'restoration-distillation' in namespace team: "
            'trainingruntimes.trainer.kubeflow.org "restoration-distillation" not found. '
            "deploy/kubernetes has it: kubectl apply -k.\n"
        )

    def test_a_runtime_of_the_cluster_serves_as_well(self, server, launch):
        server.runtimes = {("ClusterTrainingRuntime", "restoration-distillation")}
        seen = []
        server.controller = lambda job: (seen.append(job), good(server)(job))
        assert launch()[0] == 0
        assert only(seen)["spec"]["runtimeRef"]["kind"] == "ClusterTrainingRuntime"

    def test_a_manifest_that_the_definition_refuses(self, server, launch):
        code, said = launch("--cpu-per-node", "four")
        assert code == 2
        assert "could not create the TrainJob" in said
        assert "spec.trainer.resourcesPerNode.requests.cpu: 'four' does not match" in said
        assert server.deletions == []

    def test_no_credentials(self, server, launch, monkeypatch, tmp_path):
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
        code, said = launch()
        assert code == 2
        assert said.startswith("error: no access to a Kubernetes cluster: ")

    @pytest.mark.parametrize("flags", [["--nodes", "0"], ["--nodes", "two"], ["--gpus-per-node", "-1"]])
    def test_wrong_flags(self, flags, launch, capsys):
        with pytest.raises(SystemExit) as left:
            launch(*flags)
        assert left.value.code == 2
        assert "is not a whole number of at least" in capsys.readouterr().err

    def test_nothing_to_run(self, launch):
        code, said = launch(words=[])
        assert code == 2
        assert "Write a module and its arguments last" in said


def started(server):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "launch-train-job", *FLAGS, *QUICK, "-m", *WORDS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestStop:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    @pytest.mark.usefixtures("launch")
    def test_a_signal_deletes_the_job_and_says_so(self, number, code, server):
        server.controller = endless(server)
        process = started(server)
        wait_for(lambda: any(path.endswith("/log") for path in server.counted()))
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == code
        assert f"stopped by {number.name}\n" in said
        assert re.search(r"^TrainJob distill-\w+: deleted$", said, re.MULTILINE)
        assert "Traceback" not in said
        assert (server.jobs, server.pods) == ({}, {})

    @pytest.mark.usefixtures("launch")
    def test_a_second_signal_does_not_keep_it_from_that(self, server):
        server.controller = endless(server)
        server.deletion_seconds = 1
        process = started(server)
        wait_for(lambda: any(path.endswith("/log") for path in server.counted()))
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.deletions)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 143
        assert ": deleted\n" in said
        assert server.jobs == {}

    @pytest.mark.usefixtures("launch")
    def test_one_that_comes_while_a_failed_job_is_deleted_does_not_either(self, server):
        server.controller = failing(server)
        server.deletion_seconds = 1
        process = started(server)
        wait_for(lambda: server.deletions)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 2
        assert ": deleted\n" in said
        assert server.jobs == {}

    @pytest.mark.usefixtures("launch")
    def test_one_that_comes_before_the_api_has_answered_leaves_no_job(self, server):
        entered = threading.Event()

        def controller(job):
            entered.set()

        server.controller = controller
        server.faults = [("POST .*trainjobs", "answer is lost", 1), ("trainjobs", 503, 2)]
        process = started(server)
        entered.wait(20)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 143
        assert server.jobs == {}, said


def test_flags_that_pods_py_writes_are_known():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = parser.parse_args([*FLAGS, "-m", "components", "distill", "--nodes", "9"])
    assert found.nodes == 2
    assert found.words == ["components", "distill", "--nodes", "9"]
    assert os.environ.get("TRAIN_JOB_KEY") == found.key


@pytest.fixture
def account(tmp_path, monkeypatch):
    """A pod's own account, as Kubernetes mounts it, and a server whose certificate it trusts."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, today - timedelta(1), today + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes((tmp_path / "ca.crt").read_bytes() + private)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("team\n")
    monkeypatch.setattr(kubernetes_api, "ACCOUNT", tmp_path)
    return tmp_path


class TestInPod:
    @pytest.fixture
    def server(self, account):
        with KubernetesServer(account / "server.pem") as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            server.pods["task-pod"] = {"metadata": {"name": "task-pod", "uid": "pod-uid", "labels": {JOBSET_LABEL: ""}}}
            yield server
            server.shutdown()
            assert server.problems == []

    @pytest.fixture(autouse=True)
    def pod(self, server, launch, monkeypatch):
        monkeypatch.delenv("KUBECONFIG")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_port))
        monkeypatch.setenv("KFP_POD_NAME", "task-pod")

    def owners(self, server, launch, *flags):
        seen = []
        server.controller = lambda job: (seen.append(job), good(server)(job))
        assert launch(*flags)[0] == 0
        return only(seen)["metadata"].get("ownerReferences")

    def test_the_job_belongs_to_the_pod_so_that_it_ends_with_it(self, server, launch):
        assert self.owners(server, launch) == [
            {"apiVersion": "v1", "kind": "Pod", "name": "task-pod", "uid": "pod-uid"}
        ]

    def test_it_belongs_to_nobody_where_the_pod_is_not_found(self, server, launch):
        del server.pods["task-pod"]
        assert self.owners(server, launch) is None

    def test_an_owner_in_another_namespace_would_end_it_at_once(self, account, server, launch):
        (account / "namespace").write_text("another")
        assert self.owners(server, launch, "--namespace", "team") is None

    def test_the_token_may_change_meanwhile(self, account, server, launch, monkeypatch):
        """Kubernetes writes a new one before the old one ends; the client reads it again after a minute."""
        monkeypatch.setattr(
            InClusterConfigLoader, "_read_token_file", expiring_at_once(InClusterConfigLoader._read_token_file)
        )

        def controller(job):
            server.token = "another"  # noqa: S105
            (account / "token").write_text("another")
            good(server)(job)

        server.controller = controller
        code, said = launch("--patience", "0")
        assert code == 0, said

    def test_an_account_without_a_token(self, account, launch):
        (account / "token").unlink()
        code, said = launch()
        assert code == 2
        assert said.startswith("error: no access to a Kubernetes cluster: Service token file does not exist. Set KUBE")


def expiring_at_once(read):
    def reading(loader):
        read(loader)
        loader.token_expires_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(1)

    return reading


class TwoNodes:
    """Runs each pod's command as Trainer and a node would: torchrun finds nodes, rank and address in PET_..."""

    def __init__(self, server):
        self.server, self.jobs = server, []

    def __call__(self, job):
        self.jobs.append(job)
        name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        threads = [
            threading.Thread(target=self.node, args=(self.server.add_pod(name, rank), trainer, rank, port))
            for rank in range(trainer["numNodes"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ends = [pod["status"]["containerStatuses"][0]["state"] for pod in self.server.pods.values()]
        kind = "Complete" if all(end["terminated"]["exitCode"] == 0 for end in ends) else "Failed"
        self.server.set_condition(name, kind, "R", "as its pods ended")

    def node(self, pod, trainer, rank, port):
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }
        environment |= {variable["name"]: variable["value"] for variable in trainer.get("env", [])}
        self.server.run_pod(pod)
        with subprocess.Popen(
            [*trainer["command"], *trainer["args"]],
            cwd="/",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout:
                self.server.logs[pod].write(line.rstrip("\n"))
        self.server.end_pod(pod, process.returncode)


@pytest.mark.slow
class TestRealTraining:
    """From a stage's command over STEP_LAUNCHER and the API to two nodes' torchrun, and back."""

    @pytest.fixture
    def distilled(self, server, tmp_path):
        project = SmallProject(tmp_path)
        project.training_images()
        project.teacher()
        project.encoder()
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(project.params))
        server.controller = TwoNodes(server)

        def run():
            launcher = [sys.executable, "-m", "pipeline", "launch-train-job", *FLAGS, *QUICK]
            launcher[launcher.index("--gpus-per-node") + 1] = "0"
            flags = ["--task=sr", "--student=sr", "--method=scratch", "--seed=5"]
            files = [f"--{name}={name}" for name in ("lmdb", "teacher", "check", "encoder", "output")]
            return subprocess.run(
                [sys.executable, "-m", "components", "distill", *flags, *files],
                cwd=tmp_path,
                env=os.environ
                | {
                    "PYTHONPATH": str(ROOT),
                    "STEP_LAUNCHER": shlex.join(launcher),
                    "KFP_RUN_ID": "a-run",
                    "MLFLOW_RUN_ID": "injected",
                    "MLFLOW_TRACKING_PASSWORD": "secret",
                    "KUBECONFIG": str(server.kubeconfig(tmp_path / "kubeconfig")),
                },
                capture_output=True,
                text=True,
                check=False,
            )

        return run

    def test_two_nodes_train_one_student(self, distilled, server, tmp_path):
        done = distilled()
        assert done.returncode == 0, done.stderr
        shown = [line for line in done.stderr.splitlines() if "distill scratch: step 12/12" in line]
        assert re.match(r"\[distill-\w+-node-0-0-x7f2k\] distill scratch: step 12/12 ", only(shown))
        assert {path.name for path in (tmp_path / "output").iterdir()} == {
            "student.safetensors",
            "history.csv",
            "validation.csv",
        }
        assert (server.jobs, server.pods) == ({}, {})
        (job,) = server.controller.jobs
        assert job["spec"]["trainer"]["env"] == [
            {"name": "KFP_RUN_ID", "value": "a-run"},
            {"name": "MLFLOW_RUN_ID", "value": "injected"},
        ]

    def test_bad_input_on_the_nodes_is_told_at_the_end(self, distilled, tmp_path):
        (tmp_path / "check").write_text('{"sha256": "another"}')
        done = distilled()
        assert done.returncode == 2
        said = "error: check is about other weights than teacher: run check_teacher again."
        assert f"traceback : {said}" in done.stderr.partition("last lines of ")[2]
        assert re.search(r"error: TrainJob distill-\w+ failed: .* first to fail: exit code 1\.\n$", done.stderr)
