"""The logs of a job's pods, copied line by line while they run, through broken streams and outages."""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pipeline.messages import PipelineError, lines_of
from pipeline.nodes.kubernetes_api import AbsentError, KubernetesApi, OutageError

TAIL_LINES = 20
# Seconds between the first two openings of a stream; each further pause is twice as long, until a line comes.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# More is read again than was missed, because clocks differ; what was shown is not shown twice.
_OVERLAP_SECONDS = 60


class PodLogs:
    """Copies each pod's log to stderr, each line after the pod's name, and says why a pod does not start."""

    def __init__(self, api: KubernetesApi, container: str) -> None:
        """Copy what `container` of each pod writes."""
        self._api, self._container = api, container
        self._lock, self._finished = threading.Lock(), threading.Event()
        self._copiers: dict[str, threading.Thread] = {}
        self._told: dict[str, str] = {}
        self._tails: dict[str, deque[str]] = {}

    def follow(self, pods: Iterable[dict[str, Any]]) -> None:
        """Begin to copy the pods that have started since the last call."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if name in self._copiers:
                continue
            if _state(pod, self._container).keys() & {"running", "terminated"}:
                self._copiers[name] = threading.Thread(target=self._copy, args=(name,), name=name, daemon=True)
                self._copiers[name].start()
            elif (reason := _waits_for(pod, self._container)) and reason != self._told.get(name):
                self._told[name] = reason
                self._write(name, f"waits: {reason}")

    def finish(self, seconds: float) -> None:
        """Wait for the last lines, at most for `seconds`; nothing is copied afterwards."""
        until = time.monotonic() + seconds
        for copier in self._copiers.values():
            copier.join(max(0.0, until - time.monotonic()))
        self._finished.set()

    def tail(self, pod: str) -> list[str]:
        """A pod's last lines."""
        with self._lock:
            return list(self._tails.get(pod, ()))

    def _copy(self, pod: str) -> None:
        """Read until the pod has ended or is gone; only its last lines are given up, when patience ends."""
        shown = _Shown()
        pause, heard, ended = FIRST_PAUSE, 0.0, math.inf
        while not self._finished.is_set():
            try:
                # Asked before the stream is opened: a stream that is opened after the pod's end is complete.
                if "terminated" in _state(self._api.pod(pod), self._container):
                    ended = min(ended, time.monotonic())
                since = math.ceil(time.monotonic() - heard) + _OVERLAP_SECONDS if shown.any else None
                shown.reopen()
                for line in lines_of(self._api.log(pod, self._container, since), last=ended < math.inf):
                    pause, heard = FIRST_PAUSE, time.monotonic()
                    text = shown.new(line)
                    if text is not None:
                        self._write(pod, text)
                if ended < math.inf:
                    return
            except OutageError as error:
                if time.monotonic() - ended > self._api.patience:
                    self._write(pod, f"its last lines can't be read: {error}")
                    return
            except AbsentError:
                return
            except PipelineError as error:
                self._write(pod, f"its log can't be read: {error}")
                return
            self._finished.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _write(self, pod: str, text: str) -> None:
        with self._lock:
            self._tails.setdefault(pod, deque(maxlen=TAIL_LINES)).append(text)
            sys.stderr.write(f"[{pod}] {text}\n")
            sys.stderr.flush()


class _Shown:
    """How far a log has been shown, because a reopened stream repeats lines."""

    def __init__(self) -> None:
        self._last, self._alike, self._repeated = datetime.min.replace(tzinfo=UTC), 0, 0
        self._catching_up = False

    @property
    def any(self) -> bool:
        """Whether there was a line."""
        return self._alike > 0

    def reopen(self) -> None:
        """Note that a stream begins, perhaps with lines that were shown."""
        self._catching_up, self._repeated = self.any, self._alike

    def new(self, line: str) -> str | None:
        """The text of a line, which the API gives as `TIME TEXT`, or None if it was shown."""
        stamp, _, text = line.partition(" ")
        try:
            at = datetime.fromisoformat(stamp)
        except ValueError:
            return line
        if self._catching_up and at <= self._last:
            if at < self._last:
                return None
            self._repeated -= 1
            if self._repeated >= 0:
                return None
        self._catching_up = False
        self._last, self._alike = at, self._alike + 1 if at == self._last else 1
        return text


def _state(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """`{"running": {...}}`, `{"waiting": {...}}` or `{"terminated": {...}}`; empty before the node knows of it."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((dict(status.get("state") or {}) for status in statuses if status["name"] == container), {})


def _waits_for(pod: dict[str, Any], container: str) -> str:
    """Why a pod does not run, in Kubernetes' words; empty if that is normal at this point."""
    waiting = _state(pod, container).get("waiting") or {}
    if waiting.get("reason", "ContainerCreating") not in {"ContainerCreating", "PodInitializing"}:
        return ": ".join(filter(None, [waiting["reason"], waiting.get("message")]))
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return ": ".join(filter(None, [condition.get("reason"), condition.get("message")]))
    return ""
