"""The pod of one task: resources, volumes, secrets and environment, as Kubeflow's Kubernetes platform states them."""

import re
import shlex

from kfp import kubernetes
from kfp.dsl import PipelineTask

from pipeline.graph.graph import Stage
from pipeline.graph.resources import Resources, read_resources

PROJECT = "restoration-distillation"
SHARED_VOLUME = f"{PROJECT}-shared"
SHARED_FOLDER = "/mnt/shared"
SHM_FOLDER = "/dev/shm"  # noqa: S108 -- shared memory, not a temporary folder
STORAGE_SECRET = f"{PROJECT}-storage"
GIT_SECRET = f"{PROJECT}-git"
TRAINING_RUNTIME = PROJECT

ENVIRONMENT = {
    "DVC_NO_ANALYTICS": "1",
    "DVC_CACHE_DIR": f"{SHARED_FOLDER}/dvc-cache",
    "CHECKPOINT_DIR": f"{SHARED_FOLDER}/checkpoints",
}
# Each key of a secret has the name of the variable that it becomes.
STORAGE_VARIABLES = ("DVC_REMOTE_URL",)
TRACKING_VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
OPTIONAL_STORAGE_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    *TRACKING_VARIABLES,
)
GIT_VARIABLES = ("GIT_USERNAME", "GIT_PASSWORD")


def step_launcher(resources: Resources, image: str) -> str:
    """What a training step runs under: nothing, several processes on its node, or a job on several nodes."""
    if resources.nodes > 1:
        words = ["python", "-m", "pipeline", "launch-train-job"]
        words += ["--nodes", str(resources.nodes), "--gpus-per-node", str(resources.gpu), "--image", image]
        words += ["--runtime", TRAINING_RUNTIME, "--timeout", str(resources.timeout)]
        words += ["--accelerator", resources.accelerator, "--cpu-per-node", resources.cpu]
        words += ["--memory-per-node", resources.memory_limit or resources.memory]
        return shlex.join(words)
    return f"torchrun --standalone --nproc-per-node={resources.gpu}" if resources.gpu > 1 else ""


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:63].rstrip("-")


def _secrets(task: PipelineTask) -> None:
    for secret, names, optional in (
        (STORAGE_SECRET, STORAGE_VARIABLES, False),
        (STORAGE_SECRET, OPTIONAL_STORAGE_VARIABLES, True),
        (GIT_SECRET, GIT_VARIABLES, True),
    ):
        kubernetes.use_secret_as_env(task, secret, {name: name for name in names}, optional=optional)


def _place(task: PipelineTask, resources: Resources) -> None:
    """Set which nodes the pod may run on, and what it needs there besides CPU and memory."""
    if resources.gpu:
        task.set_accelerator_type(resources.accelerator).set_accelerator_limit(resources.gpu)
    if resources.shm:
        kubernetes.empty_dir_mount(task, "shm", SHM_FOLDER, medium="Memory", size_limit=resources.shm)
    for key, value in sorted(resources.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in resources.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())


def configure(task: PipelineTask, resources: Resources, image: str, labels: dict[str, str]) -> None:
    """Give `task` its pod's settings.

    Args:
        task: a task of a pipeline that is being defined.
        resources: what its stage asks for.
        image: the task's image, which the nodes of a job use as well.
        labels: the pod's labels, in addition to those of `resources`.
    """
    several = resources.nodes > 1
    kept = {"timeout", "retries", "labels"}
    own = Resources.model_validate(resources.model_dump(include=kept)) if several else resources  # it only waits then
    task.set_caching_options(enable_caching=False)
    task.set_cpu_request(own.cpu)
    if own.cpu_limit:
        task.set_cpu_limit(own.cpu_limit)
    task.set_memory_request(own.memory).set_memory_limit(own.memory_limit or own.memory)
    retries = own.retries
    task.set_retry(retries.count, f"{retries.backoff}s", retries.factor)
    kubernetes.set_timeout(task, own.timeout)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.mount_pvc(task, SHARED_VOLUME, SHARED_FOLDER)
    _place(task, own)
    _secrets(task)
    for key, value in sorted({"app.kubernetes.io/part-of": PROJECT, **labels, **own.labels}.items()):
        kubernetes.add_pod_label(task, key, value)
    for name, value in ENVIRONMENT.items():
        task.set_env_variable(name, value)
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")  # for tracking
    if digest := image.partition("@")[2]:
        task.set_env_variable("IMAGE_DIGEST", digest)  # likewise
    if launcher := step_launcher(resources, image):
        task.set_env_variable("STEP_LAUNCHER", launcher)
    if several:
        task.set_env_variable("WORKSPACE_ROOT", f"{SHARED_FOLDER}/workspaces")
        # The same for every try of this task, so that a try finds a job that the previous one left behind.
        kubernetes.use_field_path_as_env(task, "TRAIN_JOB_KEY", "metadata.labels['pipeline/runid']")


def stage_labels(stage: Stage) -> dict[str, str]:
    """Labels by which a stage's pods are found."""
    return {"app.kubernetes.io/component": _label(stage.name.partition("@")[0]), "dvc-stage": _label(stage.name)}


def configure_stage(task: PipelineTask, stage: Stage, image: str) -> None:
    """Give the task of `stage` its display name and its pod's settings."""
    resources = read_resources(stage)
    task.set_display_name(resources.display_name or stage.name)
    configure(task, resources, image, stage_labels(stage))
