"""The TrainJob of one training step, as a manifest.

Its fields are those that Kubeflow Trainer v2.0 to v2.3 all understand alike: whatever the cluster decides (volumes,
node selectors, tolerations) is in the runtime, because that part of the API changed between these releases.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from pipeline.nodes.kubernetes_api import GROUP, VERSION

DIGEST = "restoration-distillation/manifest"
# The name that Trainer's torch policy looks for.
CONTAINER = "node"
_PROJECT = "restoration-distillation"
# torchrun finds nodes, rank and address in PET_..., which Trainer sets.
_SCRIPT = """\
cd "$0" || { echo "error: $0: no such folder in this pod: the runtime has to mount its volume." >&2; exit 2; }
exec torchrun "$@"
"""


@dataclass(frozen=True)
class Nodes:
    """The machines of a job.

    Attributes:
        count: how many.
        gpus: GPUs of each, and processes on it; 0 = one process on the CPU.
        accelerator: resource name of the GPUs.
        cpu: processors asked for on each; None = as the runtime says.
        memory: memory asked for and allowed on each; None = as the runtime says.
    """

    count: int
    gpus: int
    accelerator: str = "nvidia.com/gpu"
    cpu: str | None = None
    memory: str | None = None

    def resources(self) -> dict[str, dict[str, Any]]:
        """Requests and limits of each. GPUs are in both: without the request, Trainer v2.0 starts one process."""
        gpus = {self.accelerator: self.gpus} if self.gpus else {}
        memory = {"memory": self.memory} if self.memory else {}
        requests = gpus | memory | ({"cpu": self.cpu} if self.cpu else {})
        limits = gpus | memory
        return {name: values for name, values in (("requests", requests), ("limits", limits)) if values}


@dataclass(frozen=True)
class Command:
    """What each process runs: `python -m WORDS` in `folder`, which every node must see.

    Attributes:
        words: module and arguments.
        folder: where.
        environment: variables that it gets besides the runtime's. The manifest shows them, so none may be a secret.
    """

    words: tuple[str, ...]
    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def name(self, key: str) -> str:
        """The job's name: the step's, and a hash that is the same for every try of one task."""
        *_, last = takewhile(lambda word: not word.startswith("-"), self.words)
        step = last.rpartition(".")[2].replace("_", "-").lower()
        digest = hashlib.sha256("\0".join([key, *self.words]).encode()).hexdigest()
        return f"{step[:30].strip('-')}-{digest[:12]}"


def train_job(
    name: str,
    namespace: str,
    runtime: tuple[str, str],
    image: str,
    command: Command,
    nodes: Nodes,
    seconds: int,
    owner: dict[str, Any] | None,
) -> dict[str, Any]:
    """The manifest, annotated with its own hash, by which an equal one is recognised.

    Args:
        name: of the job.
        namespace: where it runs.
        runtime: kind and name of the runtime.
        image: of every node.
        command: what runs.
        nodes: where.
        seconds: how long it may run; Trainer before v2.2 ignores it.
        owner: the pod with which the job is deleted.
    """
    labels = {"app.kubernetes.io/part-of": _PROJECT, "app.kubernetes.io/component": name.rpartition("-")[0]}
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    if owner:
        about = owner["metadata"]
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": about["name"], "uid": about["uid"]}]
    resources = nodes.resources()
    variables = [{"name": key, "value": _literal(value)} for key, value in sorted(command.environment.items())]
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": runtime[0], "name": runtime[1]},
            "trainer": {
                "image": image,
                "command": ["sh", "-c", _SCRIPT, _literal(command.folder)],
                "args": ["-m", *map(_literal, command.words)],
                "numNodes": nodes.count,
                "numProcPerNode": max(1, nodes.gpus),
                **({"resourcesPerNode": resources} if resources else {}),
                **({"env": variables} if variables else {}),
            },
            "activeDeadlineSeconds": seconds,
        },
    }
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    metadata["annotations"] = {DIGEST: digest}
    return manifest


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two jobs do the same, in the same place, for the same pod."""
    return bool(_digest(one)) and _digest(one) == _digest(other)


def _digest(job: dict[str, Any]) -> Any:
    return (job["metadata"].get("annotations") or {}).get(DIGEST)


def _literal(word: str) -> str:
    """Escape a word: Kubernetes replaces `$(NAME)` by a variable, and `$$(NAME)` by that text."""
    return word.replace("$(", "$$(")
