"""Kubeflow Pipelines through its REST API: start a run, and follow it."""

import contextlib
import functools
import io
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import requests
from urllib3.exceptions import HTTPError

from pipeline.kubeflow.run_request import RunRequest
from pipeline.messages import PipelineError
from pipeline.patience import PASSING, patiently
from pipeline.project import without_secrets

POLL_SECONDS = 10.0
OUTAGE_SECONDS = 300.0
_GOING = {None, "RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "PAUSED", "CANCELING"}


class AwayError(PipelineError):
    """The cluster does not answer at the moment."""


@dataclass(frozen=True)
class Cluster:
    """An installation of Kubeflow Pipelines; each failure is a `PipelineError` of one sentence.

    Attributes:
        host: address of its UI, without a slash at the end.
        namespace: the user's namespace; empty if it has no users.
        token: the user's bearer token; empty if it asks for none. Never printed.
    """

    host: str
    namespace: str
    token: str = field(repr=False)

    def check(self) -> None:
        """Ask whether the API answers, accepts the token, and wants a namespace."""
        certificates = os.environ.get("SSL_CERT_FILE")
        if certificates and not Path(certificates).is_file():
            raise PipelineError(
                f"SSL_CERT_FILE: {certificates}: no such file; write that of the authorities, or unset it."
            )
        with requests.Session() as session:
            session.trust_env = False  # otherwise a password in ~/.netrc would replace the token
            session.headers.update({"Authorization": f"Bearer {self.token}"} if self.token else {})
            session.verify = certificates or True
            try:
                reply = session.get(f"{self.host}/apis/v2beta1/healthz", timeout=(10, 30), allow_redirects=False)
            except requests.exceptions.SSLError as error:
                raise PipelineError(
                    f"{self.host}: its certificate is not trusted: set SSL_CERT_FILE to a file of authorities. "
                    f"({_innermost(error)})"
                ) from error
            except (requests.RequestException, ValueError) as error:
                raise AwayError(f"{self.host} can't be reached: is KFP_HOST right? ({_innermost(error)})") from error
        if reply.status_code >= 400:
            raise self._refused(reply.status_code, reply.text)
        try:
            several_users = bool(reply.json().get("multi_user"))
        except (ValueError, AttributeError) as error:
            raise PipelineError(
                f"{self.host}: this is not the API of Kubeflow Pipelines but a page, perhaps a login page: "
                "check KFP_HOST, which often ends with /pipeline, and KFP_TOKEN."
            ) from error
        if several_users and not self.namespace:
            raise PipelineError(f"{self.host} has several users: set KFP_NAMESPACE to your namespace.")
        if self.namespace and not several_users:
            raise PipelineError(f"{self.host} has no users with namespaces: unset KFP_NAMESPACE.")

    def start(self, request: RunRequest, experiment: str, service_account: str | None) -> str:
        """Start a run.

        Args:
            request: what to run.
            experiment: Kubeflow's group of runs; created if it does not exist.
            service_account: of the pods; None = Kubeflow's default.

        Returns:
            The run's id.
        """
        with tempfile.TemporaryDirectory() as folder, self._sentences(), contextlib.redirect_stdout(io.StringIO()):
            path = Path(folder, "pipeline.yaml")
            path.write_text(request.pipeline, encoding="utf-8")
            started = self._client.create_run_from_pipeline_package(
                str(path),
                arguments=request.parameters,
                run_name=request.name,
                experiment_name=experiment,
                namespace=self.namespace or None,
                enable_caching=False,
                service_account=service_account,
            )
        return str(started.run_id)

    def wait(self, identifier: str) -> None:
        """Print each new state of a run until it has ended.

        Raises:
            PipelineError: it failed or was cancelled; names the tasks that failed.
        """
        told = ""
        while True:
            current = self._current(identifier)
            if current.state != told:
                told = current.state
                sys.stdout.write(f"{told}\n")
                sys.stdout.flush()
            if told not in _GOING:
                break
            time.sleep(POLL_SECONDS)
        if told != "SUCCEEDED":
            raise PipelineError("\n".join([f"run {identifier}: {told}", *_failures(current)]))

    def _current(self, identifier: str) -> Any:
        """A run's current state; an outage of some minutes is no reason to stop waiting."""

        def ask() -> Any:
            with self._sentences():
                return self._client.get_run(identifier)

        return patiently(ask, OUTAGE_SECONDS, AwayError)

    @functools.cached_property
    def _client(self) -> Any:
        """Kfp's client, silenced: it prints and logs the server's answers, in which some proxies repeat the token."""
        logging.disable()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                return kfp.Client(
                    host=self.host,
                    namespace=self.namespace or "kubeflow",  # kfp's value for none
                    existing_token=self.token or None,
                    ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
                )
        finally:
            logging.disable(logging.NOTSET)

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except kfp_server_api.ApiException as error:
            raise self._refused(error.status, error.body or error.reason) from None
        except (HTTPError, TimeoutError) as error:
            raise AwayError(f"{self.host}: the connection broke: {_innermost(error)}") from None

    def _refused(self, status: int, body: Any) -> PipelineError:
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
        with contextlib.suppress(ValueError, AttributeError):
            text = str(json.loads(text).get("message", text))
        text = without_secrets(text)
        hints = {
            401: "it does not accept the token in KFP_TOKEN" if self.token else "it asks for a token: set KFP_TOKEN",
            403: f"namespace {self.namespace or '(none)'!r} is not open to this user: see KFP_NAMESPACE and KFP_TOKEN",
            404: "there is no API of Kubeflow Pipelines: check KFP_HOST, which often ends with /pipeline",
        }
        hint = hints.get(status, "it refused")
        kind = AwayError if status in PASSING else PipelineError
        return kind(f"{self.host}: {hint}. (HTTP {status}: {' '.join(text.split())[:300]})")


def _innermost(error: BaseException) -> str:
    """The cause, without the layers of libraries around it."""
    while isinstance(inner := getattr(error, "reason", None) or error.__cause__ or error.__context__, BaseException):
        error = inner
    return str(error)


def _failures(ended: Any) -> list[str]:
    details = (ended.run_details and ended.run_details.task_details) or []
    return [
        f"task {task.display_name}: {task.error.message if task.error else task.state}"
        for task in details
        if task.state == "FAILED"
    ]
