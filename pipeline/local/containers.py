"""Run containers so that nothing about them is lost: exit code, log, and the containers themselves on Ctrl-C."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import docker
import requests

from pipeline.messages import PipelineError, lines_of

GRACE_SECONDS = 10
TAIL_LINES = 20
STOPPED = 143


@dataclass(frozen=True)
class Ending:
    """How a container ended.

    Attributes:
        code: exit code, as the engine reports it.
        tail: the last lines of its log.
        late: whether it was stopped at its time limit.
    """

    code: int
    tail: tuple[str, ...]
    late: bool


class Containers:
    """Containers started here, by name. `run` replaces kfp's own `run_docker_container`.

    kfp's lets the engine remove a container as soon as it has ended, and counts one that it can no longer query as a
    success.
    """

    def __init__(self, logs: Path, write: Callable[[str, str], None]) -> None:
        """Keep logs in a folder, and pass on each line of them.

        Args:
            logs: a file `NAME.log` is written for each container.
            write: takes the name of a container and a line of its log.
        """
        self.stopping = threading.Event()
        self._logs = logs
        self._write = write
        self._live: dict[str, Any] = {}
        self._limits: dict[str, float] = {}
        self._endings: dict[str, Ending] = {}
        self._lock = threading.Lock()

    def limit(self, name: str, seconds: float) -> None:
        """Stop the container `name` after so many seconds."""
        self._limits[name] = seconds

    def ending(self, name: str) -> Ending:
        """How the container `name` ended."""
        return self._endings[name]

    def stop(self) -> None:
        """Stop every container that was started here, and start no more; `run` removes them."""
        with self._lock:
            self.stopping.set()
            live = list(self._live.values())
        stops = [threading.Thread(target=_stop, args=(container,)) for container in live]
        for thread in stops:
            thread.start()
        for thread in stops:
            thread.join()

    def run(
        self, client: Any, image: str, command: Sequence[str], volumes: Mapping[str, Any], *, name: str, **settings: Any
    ) -> int:
        """Run one container to its end, as Kubernetes does: the command replaces the image's entrypoint.

        Args:
            client: the engine.
            image: an image that the engine has.
            command: program and arguments.
            volumes: folders of this machine, as docker-py takes them.
            name: of the container.
            settings: of docker-py's `containers.create`.

        Returns:
            The exit code.
        """
        self._endings[name] = Ending(STOPPED, (), late=False)
        container = client.containers.create(
            image, list(command[1:]), entrypoint=[command[0]], volumes=dict(volumes), name=name, **settings
        )
        try:
            with self._lock:
                if self.stopping.is_set():
                    return STOPPED
                container.start()
                self._live[name] = container
            self._endings[name] = self._follow(container, name)
            return self._endings[name].code
        finally:
            with self._lock:
                self._live.pop(name, None)
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True)

    def _follow(self, container: Any, name: str) -> Ending:
        late = threading.Event()
        timer = threading.Timer(self._limits.get(name, threading.TIMEOUT_MAX), _stop, (container, late))
        timer.daemon = True
        timer.start()
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        told = 0
        try:
            with (self._logs / f"{name}.log").open("w", encoding="utf-8") as log:

                def tell(text: str) -> None:
                    line = text.rstrip("\r")
                    tail.append(line)
                    log.write(f"{line}\n")
                    self._write(name, line)

                for line in lines_of(container.logs(stream=True, follow=True), last=False):
                    tell(line)
                    told += 1
                code = int(container.wait()["StatusCode"])
                # The engine may close a followed log before its last lines have come.
                for line in islice(lines_of(container.logs(stream=True, follow=False), last=True), told, None):
                    tell(line)
            return Ending(code, tuple(tail), late.is_set())
        finally:
            timer.cancel()


def _stop(container: Any, flag: threading.Event | None = None) -> None:
    if flag:
        flag.set()
    # It may have ended by itself meanwhile.
    with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
        container.stop(timeout=GRACE_SECONDS)


def engine() -> Any:
    """The Docker engine of this machine.

    Raises:
        PipelineError: no engine answers.
    """
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        raise PipelineError(f"no Docker engine answers: start one, or set DOCKER_HOST. ({error})") from error
    return client


def require_image(client: Any, image: str) -> None:
    """Check that the engine has an image.

    Raises:
        PipelineError: it has no such image.
    """
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound as error:
        raise PipelineError(f"--image {image}: the engine has no such image: `make image`, or pull it.") from error
