"""Send a journal to MLflow so that sending any part of it twice changes nothing there.

A run is looked up by its journal's tag before it is created, numbers keep the time at which they were recorded (MLflow
stores equal ones once), and params, tags and files replace earlier ones of the same name.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

from mlflow.entities import Experiment, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from components.run.secrets import without_secrets
from components.telemetry.follow import AwayError, UnusableError, shown
from components.telemetry.journal import FILES, Event, Journal, Sent
from components.telemetry.registry import register

JOURNAL = "tracking.journal"
PIPELINE = "pipeline.key"
_PARENT = "mlflow.parentRunId"
_OF_THE_PIPELINE = ("git.rev", "dvc.exp", "dvc.exp.baseline", "kfp.run_id", "image.digest")
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # which of its two views the page shows
_AT_ONCE = 500  # MLflow takes 1000 numbers, 100 params and 100 tags
_FEW_AT_ONCE = 100
_LONGEST_TAG = 4000
_NO_NAME = re.compile(r"[^\w\-. :/]")
_LOG = logging.getLogger(__name__)

Value = TypeVar("Value")


class MlflowSender:
    """Sends journals to one server.

    Args:
        server: its address.
        experiment: name of the group of runs; `$MLFLOW_EXPERIMENT_ID` takes precedence.
        artifacts: where a new group keeps its files; None leaves the choice to the server.
    """

    def __init__(self, server: str, experiment: str, artifacts: str | None = None) -> None:
        self.server = server
        self._name, self._artifacts, self._experiment = experiment, artifacts, ""
        self._client = self._get(lambda: MlflowClient(server, os.environ.get("MLFLOW_REGISTRY_URI", server)))
        self._parents: dict[str, str] = {}

    def send(self, journal: Journal) -> None:
        """Send what has not arrived, in the order of recording.

        Raises:
            AwayError: the server is away, too slow, or denies access.
        """
        try:
            self._send(journal, journal.sent(shown(self.server)), alive=journal.alive)
        except GoneError:  # somebody deleted the run: it is begun anew
            self._parents.clear()
            journal.note(Sent(shown(self.server)))
            self._send(journal, journal.sent(shown(self.server)), alive=journal.alive)

    def _send(self, journal: Journal, sent: Sent, *, alive: bool) -> None:
        if sent.run:
            self._ask(lambda: self._standing(sent.run))
        numbers: list[Metric] = []
        last: Event = {}
        for event, offset in journal.events(sent.offset):
            if event["event"] == "metrics":
                numbers += _numbers(event)
            if event["event"] != "metrics" or len(numbers) >= _AT_ONCE:
                numbers = self._send_numbers(sent.run, numbers)
            if event["event"] != "metrics":
                self._send_event(journal, event, sent)
            last, sent.offset = event, offset
            if not numbers:
                journal.note(sent)
        self._send_numbers(sent.run, numbers)
        if last:
            journal.note(sent)
        if sent.run and not alive and sent.status == "RUNNING":
            self._end(journal, sent, "KILLED", last.get("time"))

    def _send_event(self, journal: Journal, event: Event, sent: Sent) -> None:
        kind = event["event"]
        if kind == "begin":
            sent.run = self._begun(event)
            sent.status = "RUNNING"
        elif kind == "again":
            self._ask(lambda: self._client.update_run(sent.run, status="RUNNING"))
            self._tag(sent.run, event["tags"])
            sent.status = "RUNNING"
        elif kind == "tags":
            self._tag(sent.run, event["values"])
        elif kind == "file":
            path = journal.folder / FILES / event["name"]
            folder = str(PurePosixPath(event["name"]).parent)
            if path.is_file():
                self._ask(lambda: self._client.log_artifact(sent.run, str(path), None if folder == "." else folder))
        elif kind == "model":
            run = self._ask(lambda: self._client.get_run(sent.run))
            if run:
                self._ask(lambda: register(self._client, run, event, remote=self.server.startswith("http")))
        elif kind == "end":
            self._end(journal, sent, event["status"], event["time"])

    def _begun(self, event: Event) -> str:
        """The server's run for a journal: the one injected for it, the one created earlier, or a new one."""
        injected = self._injected(event["injected"])
        if injected and _PARENT in injected.data.tags:
            run, parent = injected, ""
            experiment = injected.info.experiment_id
        else:
            experiment = injected.info.experiment_id if injected else self._experiment_id()
            parent = injected.info.run_id if injected else self._parent(event, experiment)
            run = self._found(experiment, JOURNAL, event["id"], {_PARENT: parent}, event["stage"], event["time"])
        named = {name: event["tags"][name] for name in ("step", "git.rev") if name in event["tags"]}
        source = {"mlflow.source.name": named.get("step", ""), "mlflow.source.git.commit": named.get("git.rev", "")}
        self._tag(run.info.run_id, {JOURNAL: event["id"], **event["tags"], **{k: v for k, v in source.items() if v}})
        params = [Param(_NO_NAME.sub("_", name), value) for name, value in event["params"].items()]
        for some in _parts(params, _FEW_AT_ONCE):
            self._ask(partial(self._client.log_batch, run.info.run_id, params=some))
        return str(run.info.run_id)

    def _injected(self, run: str) -> Run | None:
        """The run that Kubeflow or a user began: the stage's own if it has a parent, otherwise the pipeline's."""
        if not run:
            return None
        try:
            return self._ask(lambda: self._standing(run))
        except GoneError:
            _LOG.warning("MLFLOW_RUN_ID: %s has no run %s, or has deleted it.", shown(self.server), run)
            return None

    def _standing(self, run: str) -> Run:
        """A run that the server has and has not deleted: it would refuse all that is sent to one that it has."""
        found = self._client.get_run(run)
        if found.info.lifecycle_stage == "deleted":
            raise RefusedError(404, "deleted")
        return found

    def _parent(self, event: Event, experiment: str) -> str:
        key = event["parent"]
        if key not in self._parents:
            tags = {name: value for name, value in event["tags"].items() if name in _OF_THE_PIPELINE}
            run = self._found(experiment, PIPELINE, key, tags, event["parent_name"], event["time"])
            self._parents[key] = run.info.run_id
        return self._parents[key]

    def _found(self, experiment: str, tag: str, value: str, tags: Mapping[str, str], name: str, begun: int) -> Run:
        """The one run with that tag, created if there is none.

        If pods without a shared folder create two at the same moment, the older one stays.
        """

        def search() -> list[Run]:
            chosen = f"tags.`{tag}` = '{value.replace(chr(39), '')}'"
            order = ["attributes.start_time ASC", "attributes.run_id ASC"]
            return list(self._client.search_runs([experiment], chosen, order_by=order, max_results=2))

        found = self._get(search)
        if not found:
            all_tags = {**tags, tag: value.replace("'", "")}
            made = self._get(lambda: self._client.create_run(experiment, begun, all_tags, name))
            found = self._get(search) or [made]
            if found[0].info.run_id != made.info.run_id:
                self._get(lambda: self._client.delete_run(made.info.run_id))
        return found[0]

    def _experiment_id(self) -> str:
        chosen = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
        named = f"MLFLOW_EXPERIMENT_ID={chosen}" if chosen else f"MLFLOW_EXPERIMENT_NAME={self._name}"

        def get() -> Experiment | None:
            if chosen:
                return self._client.get_experiment(chosen)
            return self._client.get_experiment_by_name(self._name)

        if self._experiment:
            return self._experiment
        try:
            found = _asked(get)
            if found is None:
                # If another pod has created it meanwhile, this is refused, and the experiment is there.
                self._ask(lambda: self._client.create_experiment(self._name, self._artifacts, _KIND))
                found = _asked(get)
        except RefusedError as error:
            raise UnusableError(f"refuses {named} ({error}): name another experiment") from error
        if found is None:
            raise AwayError(f"has not created {named}")
        if found.lifecycle_stage == "deleted":
            raise UnusableError(
                f"has {named} among its deleted experiments: restore it by `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or name another one by MLFLOW_EXPERIMENT_NAME"
            )
        self._experiment = str(found.experiment_id)
        return self._experiment

    def _end(self, journal: Journal, sent: Sent, status: str, time: int | None) -> None:
        self._ask(lambda: self._client.set_terminated(sent.run, status, time))
        begin = next(event for event, _ in journal.events())
        parent = self._parents.get(begin["parent"]) or self._own_parent(sent.run)
        if parent and not begin["injected"]:
            self._ask(lambda: self._client.set_terminated(parent, status, time))
        sent.status = status
        journal.note(sent)

    def _own_parent(self, run: str) -> str:
        found = self._ask(lambda: self._client.get_run(run))
        return str(found.data.tags.get(_PARENT, "")) if found else ""

    def _tag(self, run: str, tags: Mapping[str, str]) -> None:
        all_tags = [RunTag(_NO_NAME.sub("_", name), str(value)[:_LONGEST_TAG]) for name, value in tags.items()]
        for some in _parts(all_tags, _FEW_AT_ONCE):
            self._ask(partial(self._client.log_batch, run, tags=some))

    def _send_numbers(self, run: str, numbers: list[Metric]) -> list[Metric]:
        for some in _parts(numbers, _AT_ONCE):
            self._ask(partial(self._client.log_batch, run, metrics=some))
        return []

    def _get(self, call: Callable[[], Value]) -> Value:
        """The server's answer, without which nothing can continue."""
        try:
            return _asked(call)
        except RefusedError as error:
            raise AwayError(f"refuses ({error})") from error

    def _ask(self, call: Callable[[], Value]) -> Value | None:
        """The server's answer; None if it refuses this content, which must not block the journal."""
        try:
            return _asked(call)
        except RefusedError as error:
            if error.status == 404:
                raise GoneError("has deleted the run") from error
            _LOG.warning("tracking: %s refuses: %s", shown(self.server), error)
            return None


class GoneError(AwayError):
    """The server no longer has this run, or has it among those deleted."""


class RefusedError(Exception):
    """The server answered, but did not do what was asked."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status}: {message}")


def _asked(call: Callable[[], Value]) -> Value:
    try:
        return call()
    except RefusedError:
        raise
    except MlflowException as error:
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        told = " ".join(str(without_secrets(error.message)).split())[:300]
        if status in {401, 403}:
            raise UnusableError(
                f"denies access (HTTP {status}): check MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, "
                "MLFLOW_TRACKING_TOKEN"
            ) from error
        if 400 <= status < 500 and status not in {408, 429}:
            raise RefusedError(status, told) from error
        raise AwayError(f"does not answer properly ({told})") from error
    except Exception as error:
        raise AwayError(f"can't be used ({type(error).__name__}: {without_secrets(str(error))[:300]})") from error


def _numbers(event: Event) -> list[Metric]:
    return [
        Metric(_NO_NAME.sub("_", name), value, event["time"], event["step"]) for name, value in event["values"].items()
    ]


def _parts(items: list[Value], size: int) -> Iterable[list[Value]]:
    return (items[start : start + size] for start in range(0, len(items), size))
