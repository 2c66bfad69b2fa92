"""What the compiled pipeline says about a task besides its command, for a container on this machine.

kfp's local runner reads none of it: environment, secrets, volumes, /dev/shm, GPUs, timeout, retries.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2

from pipeline.graph.resources import in_bytes
from pipeline.kubeflow.pods import SHM_FOLDER
from pipeline.messages import PipelineError


@dataclass(frozen=True)
class Machine:
    """What this machine lends to the containers.

    Attributes:
        shared: the folder that stands for the cluster's shared volume.
        mounts: further folders, `{folder here: folder in the container}`.
        network: of the engine; None = its default.
        gpus: whether tasks get the GPUs that they ask for.
        retries: how often a failed task is tried again; None = as the pipeline says.
        init: whether the engine has an init process.
    """

    shared: Path
    mounts: Mapping[Path, str]
    network: str | None = None
    gpus: bool = False
    retries: int | None = None
    init: bool = False


@dataclass(frozen=True)
class Settings:
    """The settings of one task.

    Attributes:
        container: settings of docker-py's `containers.create`.
        timeout: seconds, or None.
        waits: seconds before each further try.
        alone: whether the task would run on several nodes of a cluster, but runs on this machine alone.
    """

    container: dict[str, Any]
    timeout: int | None
    waits: tuple[float, ...]
    alone: bool


def read_settings(task: Any, executor: Any, platform: Mapping[str, Any], machine: Machine) -> Settings:
    """Settings of one task.

    Args:
        task: its `PipelineTaskSpec`.
        executor: its `ExecutorSpec`.
        platform: the entry of its executor in the pipeline's Kubernetes document.
        machine: what this machine lends.

    Raises:
        PipelineError: a variable that the cluster takes from a secret is not set here.
    """
    pod = json_format.ParseDict(platform, kubernetes_pb2.KubernetesExecutorConfig())
    environment = {variable.name: variable.value for variable in executor.container.env}
    alone = "launch-train-job" in environment.get("STEP_LAUNCHER", "")
    if alone:
        del environment["STEP_LAUNCHER"]
    volumes = {str(machine.shared): mount.mount_path for mount in pod.pvc_mount}
    volumes |= {str(source): target for source, target in machine.mounts.items()}
    container: dict[str, Any] = {
        "environment": environment | dict(_secrets(pod)),
        "mounts": [docker.types.Mount(target, source, type="bind") for source, target in volumes.items()],
        "tmpfs": {mount.mount_path: "" for mount in pod.empty_dir_mounts if mount.mount_path != SHM_FOLDER},
        "init": machine.init,
    }
    for mount in pod.empty_dir_mounts:
        if mount.mount_path == SHM_FOLDER:
            container["shm_size"] = in_bytes(mount.size_limit)
    if machine.network:
        container["network_mode"] = machine.network
    if os.getuid():
        container["user"] = f"{os.getuid()}:0"  # so that whoever runs this may delete what the containers write
    wanted = executor.container.resources.accelerator.resource_count
    if machine.gpus and wanted:
        container["device_requests"] = [docker.types.DeviceRequest(count=int(wanted), capabilities=[["gpu"]])]
    policy = task.retry_policy
    retries = policy.max_retry_count if machine.retries is None else machine.retries
    waits = tuple(float(policy.backoff_duration.ToSeconds() * policy.backoff_factor**retry) for retry in range(retries))
    return Settings(container, int(pod.active_deadline_seconds) or None, waits, alone)


def _secrets(pod: Any) -> Iterator[tuple[str, str]]:
    for secret in pod.secret_as_env:
        for entry in secret.key_to_env:
            value = os.environ.get(entry.env_var)
            if value is not None:
                yield entry.env_var, value
            elif not secret.optional:
                raise PipelineError(
                    f"{entry.env_var} is not set: on a cluster it comes from the secret {secret.secret_name}, "
                    "here from the environment."
                )
