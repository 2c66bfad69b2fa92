"""One container component per task, so that tasks with different numbers of inputs need no optional ones."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from kfp import dsl


def add_task(
    name: str,
    image: str,
    words: Sequence[str],
    parameters: Mapping[str, str],
    upstream: Sequence[dsl.PipelineTask],
    outputs: Mapping[str, type[dsl.Artifact]],
) -> dsl.PipelineTask:
    """Add a task that runs `python -m pipeline WORDS` to the pipeline that is being defined.

    Every task writes the artifact `lock`: the entries of dvc.lock of its stage and all of its ancestors. The fragments
    of the upstream tasks come as `lock0`, `lock1`, ...

    Args:
        name: name of the component.
        image: image of the container.
        words: the command of `pipeline`, and those of its flags that are the same in every run.
        parameters: the flags that differ between runs, with their values.
        upstream: tasks that it waits for.
        outputs: kinds of the artifacts that it writes besides `lock`, each by the flag `--NAME-output`.
    """
    artifacts = {"lock": dsl.Artifact, **outputs}
    locks = {f"lock{index}": task.outputs["lock"] for index, task in enumerate(upstream)}
    signature = {
        **dict.fromkeys(parameters, str),
        **dict.fromkeys(locks, dsl.Input[dsl.Artifact]),
        **{artifact: dsl.Output[kind] for artifact, kind in artifacts.items()},
    }

    def container(*values: Any) -> dsl.ContainerSpec:
        given = dict(zip(signature, values, strict=True))
        flags = [word for parameter in parameters for word in (f"--{parameter}", given[parameter])]
        flags += [word for lock in locks for word in ("--upstream", given[lock].path)]
        flags += [word for artifact in artifacts for word in (f"--{artifact}-output", given[artifact].path)]
        flags += ["--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
        return dsl.ContainerSpec(image=image, command=["python", "-m", "pipeline", *words], args=flags)

    # kfp reads a component's interface from its function's name and signature.
    container.__name__ = name
    container.__dict__["__signature__"] = inspect.Signature(
        [
            inspect.Parameter(argument, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
            for argument, kind in signature.items()
        ]
    )
    return dsl.container_component(container)(**parameters, **locks)
