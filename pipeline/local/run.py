"""Run a compiled pipeline with kfp's local runner, but handle containers, order and failures here."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import kfp
import requests
from google.protobuf import json_format
from kfp import local
from kfp.components import load_component_from_text
from kfp.local import docker_task_handler, executor_input_utils, io, logging_utils, status, utils
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

from pipeline.local.containers import Containers
from pipeline.local.schedule import run_in_order
from pipeline.local.settings import Machine, Settings, read_settings
from pipeline.messages import PipelineError

KFP_VERSION = "2.16.1"
_OUTPUTS = "outputs"
RUN_LABEL = "restoration-distillation.run"


@dataclass(frozen=True)
class Task:
    """One task of a compiled pipeline: its name in the UI, what kfp knows about it, and what its container gets."""

    name: str
    spec: Any
    component: Any
    settings: Settings


class LocalRun:
    """One run of a compiled pipeline.

    kfp reads the pipeline and makes each task's arguments, command and outputs. What its runner for Docker lacks is
    done here: settings for each task, several tasks at a time, retries, and exit codes that are never lost.

    Attributes:
        tasks: by their key in the pipeline.
        outputs: artifacts of the tasks that have succeeded, by the tasks' names.
        containers: those of this run.
    """

    def __init__(self, text: str, folder: Path, machine: Machine, write: Callable[[str, str], None]) -> None:
        """Read a compiled pipeline.

        Args:
            text: its YAML.
            folder: for outputs and logs; its name is the run's.
            machine: what this machine lends to the containers.
            write: takes the name of a task and a line about it.

        Raises:
            PipelineError: kfp is not the release that this was written for, or a secret's variable is not set.
        """
        if kfp.__version__ != KFP_VERSION:
            raise PipelineError(
                f"`local` was written for kfp {KFP_VERSION}, but this is {kfp.__version__}: install requirements.lock."
            )
        component = load_component_from_text(text)
        self._spec = component.pipeline_spec
        self._executors = {
            label: utils.struct_to_executor_spec(executor)
            for label, executor in self._spec.deployment_spec["executors"].items()
        }
        platform = json_format.MessageToDict(component.platform_spec)
        pods = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        self._folder = folder
        self._write = write
        self._containers_of: dict[str, str] = {}
        self.tasks = {key: self._task(spec, pods, machine) for key, spec in sorted(self._spec.root.dag.tasks.items())}
        self.outputs: dict[str, Mapping[str, Any]] = {}
        self.containers = Containers(folder / "logs", lambda name, line: write(self._containers_of[name], line))

    def _task(self, spec: Any, pods: Mapping[str, Any], machine: Machine) -> Task:
        component = self._spec.components[spec.component_ref.name]
        label = component.executor_label
        settings = read_settings(spec, self._executors[label], pods.get(label, {}), machine)
        return Task(spec.task_info.name, spec, component, settings)

    def run(self, arguments: Mapping[str, str], parallel: int = 1) -> None:
        """Run all tasks, each after those that it depends on. Ctrl-C stops and removes their containers.

        Args:
            arguments: the pipeline's parameters.
            parallel: how many tasks may run at the same time.

        Raises:
            PipelineError: a task failed. No other was started after that, and running ones were waited for.
        """
        (self._folder / "logs").mkdir(parents=True)
        store = io.IOStore()
        inputs = OrchestratorUtils.join_user_inputs_and_defaults(dict(arguments), self._spec.root.input_definitions)
        for name, value in inputs.items():
            store.put_parent_input(name, value)
        upstream = {key: frozenset(task.spec.dependent_tasks) for key, task in self.tasks.items()}
        with _kfp_with(self.containers):
            faults, left = run_in_order(
                upstream, lambda key: self._run_task(key, store), self.containers.stop, parallel
            )
        if faults and left:
            faults.append(f"not started: {', '.join(self.tasks[key].name for key in left)}")
        if faults:
            raise PipelineError("\n".join(faults))

    def _run_task(self, key: str, store: Any) -> str | None:
        """Run a task until it succeeds or has no tries left; return what went wrong, or None."""
        task = self.tasks[key]
        fault = self._attempt(key, task, store, f"{self._folder.name}-{key}")
        for retry, pause in enumerate(task.settings.waits, start=1):
            if fault is None:
                break
            self._write(task.name, f"{fault.splitlines()[0]} Next try in {pause:g} s.")
            if self.containers.stopping.wait(pause):
                break
            fault = self._attempt(key, task, store, f"{self._folder.name}-{key}-retry{retry}")
        return fault

    def _attempt(self, key: str, task: Task, store: Any, name: str) -> str | None:
        self._containers_of[name] = task.name
        if task.settings.timeout:
            self.containers.limit(name, task.settings.timeout)
        self._open_outputs(task)
        try:
            outputs, ended = OrchestratorUtils.execute_single_task(
                task_name=key,
                task_spec=task.spec,
                pipeline_resource_name=_OUTPUTS,
                components=self._spec.components,
                executors=self._executors,
                io_store=store,
                pipeline_root=str(self._folder),
                runner=local.DockerRunner(name=name, labels={RUN_LABEL: self._folder.name}, **task.settings.container),
                unique_pipeline_id=self._folder.name,
                fail_stack=[],
            )
        except (docker.errors.DockerException, requests.RequestException, ValueError) as error:
            return f"task {task.name}: {error}"
        if ended != status.Status.SUCCESS:
            return self._fault(task, name)
        if missing := sorted(task.component.output_definitions.artifacts.keys() - outputs.keys()):
            return f"task {task.name} has not said where its outputs are (executor_output.json): {', '.join(missing)}."
        for output, artifact in outputs.items():
            store.put_task_output(key, output, artifact)
        self.outputs[task.name] = outputs
        return None

    def _fault(self, task: Task, name: str) -> str:
        ending = self.containers.ending(name)
        how = f"ran longer than {task.settings.timeout} s" if ending.late else f"failed with exit code {ending.code}"
        log = self._folder / "logs" / f"{name}.log"
        return "\n".join([f"task {task.name} {how}. The end of {log}:", *(f"  {line}" for line in ending.tail)])

    def _open_outputs(self, task: Task) -> None:
        """Make the folder of a task's outputs, in which any user inside the container may write."""
        folder = Path(
            executor_input_utils.construct_local_task_root(
                pipeline_root=str(self._folder),
                pipeline_resource_name=_OUTPUTS,
                task_resource_name=executor_input_utils.get_local_task_resource_name(task.spec.component_ref.name),
            )
        )
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)


@contextlib.contextmanager
def _kfp_with(containers: Containers) -> Iterator[None]:
    """Kfp's local runner with our containers, and without its own log, which is not thread-safe."""
    replacements: tuple[tuple[Any, str, Any], ...] = (
        (docker_task_handler, "run_docker_container", containers.run),
        (logging_utils, "local_logger_context", contextlib.nullcontext),
        (logging_utils, "indented_print", contextlib.nullcontext),
        (logging_utils, "print_horizontal_line", lambda: None),
    )
    originals = [getattr(module, name) for module, name, _ in replacements]
    silent = logging.NullHandler()  # otherwise logging prints what kfp has no handler for
    logging.getLogger().addHandler(silent)
    for module, name, new in replacements:
        setattr(module, name, new)
    try:
        yield
    finally:
        for (module, name, _), original in zip(replacements, originals, strict=True):
            setattr(module, name, original)
        logging.getLogger().removeHandler(silent)
