"""The manifests and the launcher against a real kube-apiserver, where one is at hand.

KUBEBUILDER_ASSETS names a folder with etcd and kube-apiserver, such as `setup-envtest use --print path` gives, and
TRAINER_CRDS one with Kubeflow Trainer's definitions: `manifests/base/crds` of its repository.
"""

import os
import re
import shutil
import threading
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.nodes import kubernetes_api
from tests.deploy.api_server import ADMIN, NODE, ApiServer, Kubelet
from tests.pipeline.kubernetes_server import JOBSET_LABEL, Log, now, wait_for

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/kubeflow/trainjobs"
PODS = "/api/v1/namespaces/kubeflow/pods"
MERGE = "application/merge-patch+json"
FLAGS = [
    *("--nodes", "2", "--gpus-per-node", "4", "--image", "registry/restoration-distillation:1a2b"),
    *("--runtime", "restoration-distillation", "--timeout", "60", "--poll", "0.1", "--patience", "5"),
    *("-m", "components", "distill", "--task", "sr"),
]

pytestmark = pytest.mark.skipif(
    not {"KUBEBUILDER_ASSETS", "TRAINER_CRDS"} <= os.environ.keys() or shutil.which("kubectl") is None,
    reason="no kube-apiserver: set KUBEBUILDER_ASSETS and TRAINER_CRDS, and install kubectl",
)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A server with Trainer's definitions, Kubeflow Pipelines' account, and the base of deploy/kubernetes."""
    with ApiServer(os.environ["KUBEBUILDER_ASSETS"], tmp_path_factory.mktemp("api")) as api:
        for path in sorted(Path(os.environ["TRAINER_CRDS"]).glob("trainer.kubeflow.org_tr*.yaml")):
            api.kubectl("create", "--validate=false", "-f", str(path))
        for namespace in ("kubeflow", "restoration"):
            api.kubectl("create", "namespace", namespace)
            api.kubectl("create", "serviceaccount", "pipeline-runner", "-n", namespace)
        wait_for(lambda: "trainingruntimes" in api.kubectl("api-resources", check=False))
        api.kubectl("apply", "-k", str(ROOT / "base"))
        yield api


@pytest.fixture(scope="module")
def kubelet(api):
    kubelet = Kubelet(api)
    yield kubelet
    kubelet.close()


@pytest.fixture
def launch(api, tmp_path, monkeypatch, capsys):
    token = api.token("kubeflow", "pipeline-runner")
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "config", token, "kubeflow")))
    monkeypatch.chdir(tmp_path)

    def launched(*flags):
        code = main(["launch-train-job", *flags, *FLAGS])
        said = capsys.readouterr().err
        assert token not in said
        return code, said

    return launched


class Controller:
    """Does what Trainer, JobSet, the scheduler and a node do with one TrainJob, in a thread of its own."""

    def __init__(self, api, kubelet, *states):
        self.api, self.kubelet, self.states = api, kubelet, states
        self.job = None
        self.thread = threading.Thread(target=self._play, daemon=True)
        self.thread.start()

    def _play(self):
        items = wait_for(lambda: self.api.ask("GET", JOBS)["items"])
        self.job = items[0]
        name = self.job["metadata"]["name"]
        pods = [self._pod(name, index) for index in range(2)]
        for pod in pods:
            self.state(pod, "Running", running={"startedAt": now()})
        for pod in pods:
            self.kubelet.logs[pod].write("step 1", "step 2")
        for step in self.states:
            step(self, name, pods)
        if not self.api.collects_garbage:
            wait_for(lambda: "deletionTimestamp" in self.api.ask("GET", f"{JOBS}/{name}")["metadata"])
            self.api.ask("DELETE", PODS)
            self.api.ask("PATCH", f"{JOBS}/{name}", {"metadata": {"finalizers": []}}, MERGE)

    def _pod(self, job, index):
        name = f"{job}-node-0-{index}-x7f2k"
        self.kubelet.logs[name] = Log()
        uid = self.job["metadata"]["uid"]
        owner = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "name": job, "uid": uid}
        about = {"name": name, "labels": {JOBSET_LABEL: job}}
        about["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
        spec = {"nodeName": NODE, "containers": [{"name": "node", "image": "image"}]}
        self.api.ask("POST", PODS, {"metadata": about, "spec": spec})
        return name

    def state(self, pod, phase, **state):
        container = {"name": "node", "state": state, "ready": False, "restartCount": 0, "image": "i", "imageID": "i"}
        status = {"phase": phase, "containerStatuses": [container]}
        self.api.ask("PATCH", f"{PODS}/{pod}/status", {"status": status}, MERGE)

    def finish(self, pod, code=0):
        self.kubelet.logs[pod].close()
        end = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": now(), "startedAt": now()}
        self.state(pod, "Failed" if code else "Succeeded", terminated=end)

    def condition(self, job, kind):
        condition = {"type": kind, "status": "True", "reason": "R", "message": "as told", "lastTransitionTime": now()}
        self.api.ask("PATCH", f"{JOBS}/{job}/status", {"status": {"conditions": [condition]}}, MERGE)


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_the_server_takes_every_manifest(folder, api, tmp_path):
    api.kubectl("apply", "--dry-run=server", "-k", str(ROOT / folder))


def test_the_server_takes_the_secrets_once_they_are_filled_in(api, tmp_path):
    (tmp_path / "secrets.yaml").write_text((ROOT / "secrets.template.yaml").read_text().replace('""', '"value"'))
    api.kubectl("apply", "--dry-run=server", "-n", "kubeflow", "-f", str(tmp_path / "secrets.yaml"))


def test_nothing_of_the_runtime_is_dropped(api):
    """A field that the definition does not know would be lost silently."""
    asked = yaml.safe_load((ROOT / "base" / "training-runtime.yaml").read_text())
    kept = api.ask(
        "GET", "/apis/trainer.kubeflow.org/v1alpha1/namespaces/kubeflow/trainingruntimes/" + asked["metadata"]["name"]
    )

    def contained(part, whole, path="spec"):
        if isinstance(part, dict):
            for key, value in part.items():
                assert key in whole, f"{path}.{key}"
                contained(value, whole[key], f"{path}.{key}")
        elif isinstance(part, list):
            for index, (one, other) in enumerate(zip(part, whole, strict=True)):
                contained(one, other, f"{path}[{index}]")
        else:
            assert part == whole, path

    contained(asked["spec"], kept["spec"])


def test_the_account_may_do_what_the_launcher_does_and_nothing_else(api):
    told = api.kubectl(
        "auth", "can-i", "--list", "-n", "kubeflow", "--as=system:serviceaccount:kubeflow:pipeline-runner"
    )
    rows = {
        row.split()[0]: row[row.rindex("[") :] for row in told.splitlines() if re.match(r"(pods|train|secrets)", row)
    }
    assert rows == {
        "pods": "[get list]",
        "pods/log": "[get]",
        "trainjobs.trainer.kubeflow.org": "[create get delete]",
        "trainingruntimes.trainer.kubeflow.org": "[get]",
    }


def test_a_run_with_that_accounts_token(api, kubelet, launch):
    def complete(controller, name, pods):
        for pod in pods:
            controller.finish(pod)
        controller.condition(name, "Complete")

    controller = Controller(api, kubelet, complete)
    code, said = launch()
    assert code == 0, said
    controller.thread.join(30)
    for index in range(2):
        assert re.findall(rf"^\[.*-node-0-{index}-x7f2k\] (.*)$", said, re.MULTILINE) == ["step 1", "step 2"]
    wait_for(lambda: not api.ask("GET", JOBS)["items"])
    assert api.ask("GET", PODS)["items"] == []
    spec = controller.job["spec"]
    assert spec["trainer"]["args"] == ["-m", "components", "distill", "--task", "sr"]
    assert spec["trainer"]["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": 4}


def test_a_failure_deletes_the_job_and_its_pods(api, kubelet, launch):
    def fail(controller, name, pods):
        kubelet.logs[pods[1]].write("RuntimeError: boom")
        controller.finish(pods[1], 1)
        controller.condition(name, "Failed")

    Controller(api, kubelet, fail)
    code, said = launch()
    assert code == 2
    assert "-node-0-1-x7f2k was the first to fail: exit code 1.\n" in said
    assert "  RuntimeError: boom\n" in said
    assert ": deleted\n" in said
    assert api.ask("GET", JOBS)["items"] == []
    assert api.ask("GET", PODS)["items"] == []


def test_an_account_without_the_role_is_told_so(api, launch, monkeypatch, tmp_path):
    token = api.token("restoration", "pipeline-runner")
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "other", token, "kubeflow")))
    code, said = launch()
    assert code == 2
    assert 'User "system:serviceaccount:restoration:pipeline-runner" cannot get resource "trainingruntimes"' in said
    assert said.endswith("The Role in deploy/kubernetes allows it: kubectl apply -k.\n")


def test_a_server_without_trainer_is_told_so(api, launch, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "admin", ADMIN, "kubeflow")))
    monkeypatch.setattr(kubernetes_api, "GROUP", "absent.kubeflow.org")
    code, said = launch()
    assert code == 2
    assert "Is Kubeflow Trainer v2 installed?" in said


def test_a_wrong_quantity_is_refused_by_the_definition(api, launch):
    code, said = launch("--cpu-per-node", "four")
    assert code == 2
    assert "spec.trainer.resourcesPerNode.requests.cpu" in said
    assert api.ask("GET", JOBS)["items"] == []
