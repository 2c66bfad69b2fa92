"""What `kubectl kustomize` builds of deploy/kubernetes, against Kubernetes' and Trainer's own models of it."""

import argparse
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import kubernetes.client
import pytest
import yaml
from kubeflow_trainer_api import models as trainer

from pipeline.graph.resources import Resources
from pipeline.kubeflow import pods
from pipeline.nodes import train_job

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
FOLDERS = ["base", "overlays/example"]
TRAINER = "trainer.kubeflow.org/v1alpha1"


def built(folder):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl")
    done = subprocess.run([kubectl, "kustomize", str(ROOT / folder)], capture_output=True, text=True, check=False)
    if "cannot unmarshal object" in done.stderr and folder != "base":
        pytest.skip("kubectl is older than 1.21: its kustomize does not know `patches`")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(done.stdout)}


@pytest.fixture(scope="module", params=FOLDERS)
def objects(request):
    return built(request.param)


@pytest.fixture(scope="module")
def base():
    return built("base")


def kept(value, model):
    """What the client's model of an object keeps of it: a key that Kubernetes does not know is lost."""
    api = kubernetes.client.ApiClient()
    return api.sanitize_for_serialization(api.deserialize(SimpleNamespace(data=json.dumps(value)), model))


def runtime_of(objects):
    return objects["TrainingRuntime", pods.TRAINING_RUNTIME]


def pod_of(objects):
    (job,) = runtime_of(objects)["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def node_of(objects):
    (container,) = pod_of(objects)["containers"]
    return container


def test_kubernetes_knows_every_key(objects):
    core = {key: value for key, value in objects.items() if value["apiVersion"] != TRAINER}
    assert len(core) >= 4
    for (kind, _), value in core.items():
        assert kept(value, f"V1{kind}") == value


def test_trainer_knows_every_key_of_its_runtime(objects):
    runtime = runtime_of(objects)
    assert trainer.TrainerV1alpha1TrainingRuntime.from_dict(runtime).to_dict() == runtime
    job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    assert kept(job, "V1JobTemplateSpec") == job


def test_a_wrong_key_would_be_seen(base):
    role = base["Role", "restoration-distillation-launcher"]
    assert kept(role | {"rulez": []}, "V1Role") != role | {"rulez": []}
    runtime = json.loads(json.dumps(runtime_of(base)))
    pod_of({("TrainingRuntime", pods.TRAINING_RUNTIME): runtime})["volume"] = []
    assert trainer.TrainerV1alpha1TrainingRuntime.from_dict(runtime).to_dict() != runtime


def test_all_of_it_is_in_the_one_namespace(objects):
    (namespace,) = {value["metadata"]["namespace"] for value in objects.values()}
    subjects = [subject for value in objects.values() for subject in value.get("subjects", [])]
    assert {subject["namespace"] for subject in subjects} == {namespace}


def test_no_secret_is_built(objects):
    assert "Secret" not in {kind for kind, _ in objects}


class TestRuntime:
    def test_trainer_finds_the_container_that_it_is_to_fill_in(self, base):
        runtime = runtime_of(base)
        (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        assert runtime["spec"]["mlPolicy"] == {"numNodes": 1, "torch": {}}
        assert (job["name"], node_of(base)["name"]) == ("node", "node")
        labels = job["template"]["metadata"]["labels"]
        assert labels == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}

    def test_it_mounts_the_shared_volume_where_the_tasks_have_it(self, base):
        assert ("PersistentVolumeClaim", pods.SHARED_VOLUME) in base
        (volume,) = [found for found in pod_of(base)["volumes"] if "persistentVolumeClaim" in found]
        assert volume["persistentVolumeClaim"] == {"claimName": pods.SHARED_VOLUME}
        mounts = {mount["mountPath"]: mount["name"] for mount in node_of(base)["volumeMounts"]}
        assert mounts[pods.SHARED_FOLDER] == volume["name"]
        assert base["PersistentVolumeClaim", pods.SHARED_VOLUME]["spec"]["accessModes"] == ["ReadWriteMany"]

    def test_data_loaders_have_memory_to_share(self, base):
        mounts = {mount["name"]: Path(mount["mountPath"]) for mount in node_of(base)["volumeMounts"]}
        (memory,) = [volume for volume in pod_of(base)["volumes"] if volume.get("emptyDir", {}).get("medium")]
        assert memory["emptyDir"]["medium"] == "Memory"
        assert mounts[memory["name"]] == Path("/dev", "shm")

    def test_its_environment_is_that_of_the_tasks(self, base):
        node = node_of(base)
        assert {entry["name"]: entry["value"] for entry in node["env"]} == pods.ENVIRONMENT
        assert node["envFrom"] == [{"secretRef": {"name": pods.STORAGE_SECRET, "optional": True}}]

    def test_a_pod_that_fails_ends_its_job_so_that_all_start_again_together(self, base):
        spec = runtime_of(base)["spec"]["template"]["spec"]
        assert spec["failurePolicy"] == {"maxRestarts": 1}
        assert spec["replicatedJobs"][0]["template"]["spec"]["backoffLimit"] == 0
        assert pod_of(base)["restartPolicy"] == "Never"

    def test_it_runs_as_nobody_in_particular(self, objects):
        pod, node = pod_of(objects), node_of(objects)
        assert pod["automountServiceAccountToken"] is False
        assert ("ServiceAccount", pod["serviceAccountName"]) in objects
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert node["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]

    def test_what_is_to_be_written_is_on_a_volume(self, base):
        mounts = {Path(mount["mountPath"]) for mount in node_of(base)["volumeMounts"]}
        assert mounts == {Path("/mnt", "shared"), Path("/dev", "shm"), Path("/", "tmp")}


class TestLauncher:
    def test_the_role_has_what_the_launcher_asks_for_and_nothing_else(self, objects):
        rules = {
            (group, resource): rule["verbs"]
            for rule in objects["Role", "restoration-distillation-launcher"]["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        assert rules == {
            ("trainer.kubeflow.org", "trainjobs"): ["create", "get", "delete"],
            ("trainer.kubeflow.org", "trainingruntimes"): ["get"],
            ("", "pods"): ["get", "list"],
            ("", "pods/log"): ["get"],
        }

    @pytest.mark.parametrize(
        ("folder", "account"), [("base", "pipeline-runner"), ("overlays/example", "default-editor")]
    )
    def test_the_tasks_account_has_that_role(self, folder, account):
        binding = built(folder)["RoleBinding", "restoration-distillation-launcher"]
        assert binding["roleRef"]["name"] == "restoration-distillation-launcher"
        (subject,) = binding["subjects"]
        assert (subject["kind"], subject["name"]) == ("ServiceAccount", account)

    def test_what_a_stage_on_several_nodes_is_launched_by_is_a_command_line_of_the_launcher(self):
        words = shlex.split(pods.step_launcher(Resources(nodes=2, gpu=4), "image"))
        assert words[:4] == ["python", "-m", "pipeline", "launch-train-job"]
        parser = argparse.ArgumentParser()
        train_job.add_arguments(parser)
        found = parser.parse_args([*words[4:], "-m", "components", "distill", "--task", "sr"])
        assert (found.nodes, found.gpus_per_node, found.image) == (2, 4, "image")
        assert found.runtime == pods.TRAINING_RUNTIME
        assert found.words == ["components", "distill", "--task", "sr"]


class TestSecretTemplate:
    def test_it_has_the_keys_that_the_tasks_read_and_no_value(self):
        secrets = {
            secret["metadata"]["name"]: secret
            for secret in yaml.safe_load_all((ROOT / "secrets.template.yaml").read_text(encoding="utf-8"))
        }
        keys = {name: set(secret["stringData"]) for name, secret in secrets.items()}
        assert keys == {
            pods.STORAGE_SECRET: {*pods.STORAGE_VARIABLES, *pods.OPTIONAL_STORAGE_VARIABLES},
            pods.GIT_SECRET: set(pods.GIT_VARIABLES),
        }
        for secret in secrets.values():
            assert set(secret["stringData"].values()) == {""}
            assert kept(secret, "V1Secret") == secret

    def test_no_kustomization_names_it(self):
        for path in ROOT.rglob("kustomization.yaml"):
            assert "secret" not in path.read_text(encoding="utf-8").lower()


class TestExample:
    def test_gpus_and_storage_are_where_the_overlay_says(self):
        objects = built("overlays/example")
        claim = objects["PersistentVolumeClaim", pods.SHARED_VOLUME]["spec"]
        assert (claim["storageClassName"], claim["resources"]) == ("shared-files", {"requests": {"storage": "1Ti"}})
        pod = pod_of(objects)
        assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]

    def test_its_quota_refuses_no_pod_that_states_no_request(self):
        hard = built("overlays/example")["ResourceQuota", "restoration-distillation"]["spec"]["hard"]
        assert not {key.rpartition(".")[2] for key in hard} & {"cpu", "memory"}
