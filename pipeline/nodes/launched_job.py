"""The life of one TrainJob: made, followed, and deleted, whatever happens."""

import sys
import time
from typing import Any

from pipeline.messages import PipelineError
from pipeline.nodes.kubernetes_api import AbsentError, Body, ConflictError, KubernetesApi, OutageError
from pipeline.nodes.pod_logs import PodLogs
from pipeline.nodes.train_job_manifest import CONTAINER, equal

# The label that JobSet, which Trainer builds on, gives the pods.
_SELECTOR = "jobset.sigs.k8s.io/jobset-name={}"
# A task that is asked to end kills its stage 20 seconds later: deletion must be requested by then.
_END_PATIENCE = 8.0
_END_SECONDS = 10.0
_LAST_LINES_SECONDS = 10.0
_LONG_WITHOUT_PODS = 60.0


class LaunchedJob:
    """A TrainJob that lives no longer than this process follows it."""

    def __init__(self, api: KubernetesApi, manifest: Body, poll: float) -> None:
        """Create nothing yet.

        Args:
            api: the namespace it runs in.
            manifest: of the job.
            poll: seconds between two checks of it.
        """
        self._api, self._manifest, self._poll = api, manifest, poll
        self._name: str = manifest["metadata"]["name"]
        self._uid = ""
        self._asked_for = False
        self._logs = PodLogs(api, CONTAINER)
        self._pods: dict[str, Body] = {}
        self._told: set[str] = set()

    def start(self) -> None:
        """Create the job. One that an earlier try left is deleted first; one that this very pod made is followed.

        Raises:
            PipelineError: it was refused, or an earlier one does not go away.
        """
        while not self._uid:
            self._asked_for = True
            try:
                self._uid = self._api.create_train_job(self._manifest)["metadata"]["uid"]
            except ConflictError:
                self._adopt_or_delete()
            except OutageError:
                raise
            except PipelineError:
                self._asked_for = False
                raise
        trainer = self._manifest["spec"]["trainer"]
        self._say(f"{trainer['numNodes']} nodes, {trainer['numProcPerNode']} processes on each")

    def _adopt_or_delete(self) -> None:
        try:
            found = self._api.train_job(self._name)
        except AbsentError:
            return
        uid = found["metadata"]["uid"]
        over = _condition(found, "Complete") or _condition(found, "Failed")
        if equal(found, self._manifest) and not over and "deletionTimestamp" not in found["metadata"]:
            self._say("exists already")
            self._uid = uid
            return
        self._say("an earlier try left it: it is deleted first")
        if not self._delete(uid, self._api.patience):
            raise PipelineError(
                f"TrainJob {self._name} of an earlier try is still being deleted after {self._api.patience:.0f} s: "
                f"`kubectl -n {self._api.namespace} describe trainjob,pod` says what it waits for."
            )

    def follow(self, seconds: float) -> None:
        """Copy the logs of the job's pods until it is complete.

        Args:
            seconds: how long it may take.

        Raises:
            PipelineError: it failed, took too long, or was deleted.
        """
        began = time.monotonic()
        while True:
            job = self._now()
            self._look_at_pods(time.monotonic() - began)
            if failed := _condition(job, "Failed"):
                raise self._failure(failed)
            if _condition(job, "Complete"):
                self._logs.finish(_LAST_LINES_SECONDS)
                self._say(f"complete after {time.monotonic() - began:.0f} s")
                return
            if suspended := _condition(job, "Suspended"):
                self._say(f"waits: {suspended.get('message') or 'suspended'}", once=True)
            left = began + seconds - time.monotonic()
            if left < 0:
                raise PipelineError(f"TrainJob {self._name} is not complete after {seconds:.0f} s (--timeout).")
            time.sleep(min(self._poll, left + 0.01))

    def end(self) -> None:
        """Delete the job with all its pods, and say so; do nothing if it was never created."""
        if not self._asked_for:
            return
        self._api.patience = min(self._api.patience, _END_PATIENCE)
        try:
            uid = self._uid
            if not uid:
                # The answer to the request to create it was lost.
                found = self._api.train_job(self._name)
                if not equal(found, self._manifest):
                    return
                uid = found["metadata"]["uid"]
            self._say("deleted" if self._delete(uid, _END_SECONDS) else "is being deleted")
        except AbsentError:
            return
        except PipelineError as error:
            self._say(f"{error} It may still run: `kubectl -n {self._api.namespace} delete trainjob {self._name}`")

    def _delete(self, uid: str, seconds: float) -> bool:
        """Ask for its deletion; whether it and its pods were gone within `seconds`."""
        until = time.monotonic() + seconds
        try:
            self._api.delete_train_job(self._name, uid)
            while self._api.train_job(self._name)["metadata"]["uid"] == uid:
                if time.monotonic() > until:
                    return False
                time.sleep(min(self._poll, 1.0))
        except (AbsentError, ConflictError):
            # If there is a job of that name, it is another one.
            pass
        return True

    def _now(self) -> Body:
        try:
            job = self._api.train_job(self._name)
        except AbsentError:
            job = {"metadata": {"uid": ""}}
        if job["metadata"]["uid"] != self._uid:
            raise PipelineError(f"TrainJob {self._name} was deleted by somebody else while it ran.")
        return job

    def _look_at_pods(self, seconds: float) -> None:
        pods = self._api.pods(_SELECTOR.format(self._name))
        self._pods.update((pod["metadata"]["name"], pod) for pod in pods)
        self._logs.follow(pods)
        if not self._pods and seconds > _LONG_WITHOUT_PODS:
            self._say(
                f"no pod yet: `kubectl -n {self._api.namespace} describe trainjob,jobset,job` says why", once=True
            )

    def _failure(self, condition: dict[str, Any]) -> PipelineError:
        """Print the last lines of what failed first, and return the error."""
        self._logs.finish(_LAST_LINES_SECONDS)
        text = f"TrainJob {self._name} failed: {condition.get('reason')}: {str(condition.get('message')).rstrip('.')}"
        ends = [(name, end) for name, pod in self._pods.items() for end in _failed_ends(pod)]
        if ends:
            name, end = min(ends, key=lambda found: str(found[1].get("finishedAt")))
            why = "" if end.get("reason") in {None, "Error"} else f" ({end['reason']})"
            text += f". {name} was the first to fail: exit code {end['exitCode']}{why}"
            sys.stderr.writelines([f"last lines of {name}:\n", *(f"  {line}\n" for line in self._logs.tail(name))])
        return PipelineError(f"{text}.")

    def _say(self, text: str, *, once: bool = False) -> None:
        if once and text in self._told:
            return
        self._told.add(text)
        sys.stderr.write(f"TrainJob {self._name}: {text}\n")
        sys.stderr.flush()


def _condition(job: Body, kind: str) -> dict[str, Any] | None:
    """The job's condition of that kind, if it is true."""
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["type"] == kind and condition["status"] == "True":
            return dict(condition)
    return None


def _failed_ends(pod: Body) -> list[dict[str, Any]]:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    ends = [(status.get("state") or {}).get("terminated") for status in statuses]
    return [end for end in ends if end and end.get("exitCode")]
