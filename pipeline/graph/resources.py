"""What a stage asks of the cluster: `meta: {kfp: {...}}` of its entry in dvc.yaml, typed. DVC does not hash it."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from pipeline.graph.graph import Stage
from pipeline.messages import PipelineError, did_you_mean

_UNITS: dict[str, int] = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("KMGTPE", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)},
}

Processors = Annotated[str, BeforeValidator(str), Field(pattern=r"^(\d+(\.\d+)?|\d+m)$")]
Bytes = Annotated[str, BeforeValidator(str), Field(pattern=r"^\d+([KMGTPE]i?)?$")]

Label = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]


def in_bytes(quantity: str) -> int:
    """Bytes of a Kubernetes quantity such as `16Gi`."""
    digits = quantity.rstrip("KMGTPEi")
    return int(digits) * _UNITS[quantity[len(digits) :]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retries(_Part):
    """Tries after a failure: the first after `backoff` seconds, each further one after `factor` times as long."""

    count: NonNegativeInt = 2
    backoff: NonNegativeInt = 60
    factor: PositiveInt = 2


class Toleration(_Part):
    """A taint that does not keep the task's pod off a node."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Resources(_Part):
    """What one stage needs; the defaults are those of a small CPU stage.

    Attributes:
        cpu: processors asked for, such as `2` or `500m`.
        cpu_limit: processors allowed; unset = no limit.
        memory: memory asked for, such as `8Gi`.
        memory_limit: memory allowed; unset = what is asked for.
        shm: size of /dev/shm, for the workers of data loaders; part of `memory_limit`. Unset = the node's 64 MiB.
        accelerator: resource name of the GPUs.
        gpu: GPUs on each node. With several, the stage's training runs in as many processes.
        nodes: machines. With several, the stage's training runs as a TrainJob with `gpu`, `cpu` and `memory` on each,
            and the stage's own task waits for it in a small pod; the job's runtime sets where it runs, and /dev/shm.
        node_selector: labels of nodes that may be used.
        tolerations: taints of nodes that may be used nevertheless.
        timeout: seconds after which a task that still runs is stopped.
        retries: what happens after a failure.
        labels: labels of the pod.
        page: an HTML file among the stage's outputs that the UI shows.
        display_name: name in the UI; unset = the stage's own.
    """

    cpu: Processors = "1"
    cpu_limit: Processors | None = None
    memory: Bytes = "4Gi"
    memory_limit: Bytes | None = None
    shm: Bytes | None = None
    accelerator: str = "nvidia.com/gpu"
    gpu: NonNegativeInt = 0
    nodes: PositiveInt = 1
    node_selector: dict[str, Label] = {}
    tolerations: tuple[Toleration, ...] = ()
    timeout: PositiveInt = 24 * 3600
    retries: Retries = Retries()
    labels: dict[str, Label] = {}
    page: str | None = None
    display_name: str | None = None

    @model_validator(mode="after")
    def _limits_hold_what_is_asked(self) -> Self:
        limit = self.memory_limit or self.memory
        for name, quantity in (("memory", self.memory), ("shm", self.shm)):
            if quantity and in_bytes(quantity) > in_bytes(limit):
                raise ValueError(f"{name} {quantity} is more than the memory_limit {limit}")
        return self


def _explain(where: str, fault: Any) -> str:
    place = ".".join([where, *(str(part) for part in fault["loc"])])
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
    parts: dict[str, type[_Part]] = {"retries": Retries, "tolerations": Toleration}
    keys = parts.get(fault["loc"][0], Resources).model_fields
    guess = did_you_mean(str(fault["loc"][-1]), keys)
    return f"{place}: unknown key.{guess} There are: {', '.join(sorted(keys))}."


def read_resources(stage: Stage) -> Resources:
    """What `stage` asks for.

    Raises:
        PipelineError: a key or value of `meta.kfp` is wrong, or `page` is not among the stage's outputs.
    """
    where = f"{stage.file}: stage {stage.name!r}: meta.kfp"
    asked = stage.meta.get("kfp", {})
    if not isinstance(asked, dict):
        raise PipelineError(f"{where}: expected keys such as `gpu: 1`, got {asked!r}.")
    try:
        resources = Resources.model_validate(asked)
    except ValidationError as error:
        raise PipelineError("\n".join(_explain(where, fault) for fault in error.errors())) from error
    page = resources.page
    if page and not any(page == output.path or page.startswith(f"{output.path}/") for output in stage.outputs):
        raise PipelineError(f"{where}.page: {page!r} is not among the stage's outputs.")
    return resources
