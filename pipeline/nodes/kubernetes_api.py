"""The Kubernetes API as a training job needs it: an outage is waited out, a refusal becomes a sentence."""

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client import ApiException
from kubernetes.config.incluster_config import InClusterConfigLoader
from urllib3.exceptions import HTTPError

from pipeline.messages import PipelineError
from pipeline.patience import PASSING, patiently

Body = dict[str, Any]

# Where Kubernetes puts a pod's credentials for the API.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP, VERSION = "trainer.kubeflow.org", "v1alpha1"
JOBS = "trainjobs"
# A stream that is silent for so long is reopened, because its other end may be gone.
SILENCE = 120.0
_TIMEOUT = (10.0, 30.0)


class AbsentError(PipelineError):
    """There is no such object."""


class ConflictError(PipelineError):
    """The object exists already, or has changed in the meantime."""


class OutageError(PipelineError):
    """The API did not answer."""


class KubernetesApi:
    """What a launcher reads and writes in one namespace.

    In a pod it uses the pod's service account; elsewhere, or if KUBECONFIG is set, the user of the kubeconfig.
    """

    def __init__(self, namespace: str | None = None, patience: float = 300.0) -> None:
        """Read the address and the credentials; no request is sent yet.

        Args:
            namespace: where the job is; None = that of the pod, or of the kubeconfig's context.
            patience: seconds of an outage to wait out.

        Raises:
            PipelineError: there are no credentials.
        """
        configuration = client.Configuration()
        self._in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
        try:
            if self._in_pod:
                InClusterConfigLoader(str(ACCOUNT / "token"), str(ACCOUNT / "ca.crt")).load_and_set(configuration)
                self._home = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
            else:
                file = os.environ.get("KUBECONFIG")
                config.load_kube_config(file, client_configuration=configuration)
                self._home = config.list_kube_config_contexts(file)[1]["context"].get("namespace", "default")
        except (config.ConfigException, OSError) as error:
            raise PipelineError(f"no access to a Kubernetes cluster: {error} Set KUBECONFIG or run in a pod.") from None
        configuration.retries = False
        self.namespace = namespace or self._home
        self.patience = patience
        self.host = configuration.host
        connection = client.ApiClient(configuration)
        self._custom, self._core = client.CustomObjectsApi(connection), client.CoreV1Api(connection)

    def own_pod(self) -> Body | None:
        """The pod that this process runs in, if it is in the job's namespace."""
        if not self._in_pod or self.namespace != self._home:
            return None
        name = os.environ.get("KFP_POD_NAME") or socket.gethostname()
        try:
            return self.pod(name)
        except AbsentError:
            return None

    def runtime_kind(self, name: str) -> str:
        """Kind of the runtime of that name; the namespace's own takes precedence over the cluster's.

        Raises:
            PipelineError: there is none, or Trainer is not installed.
        """
        try:
            self._call(
                f"read the runtime {name!r}",
                self._custom.get_namespaced_custom_object,
                *(GROUP, VERSION, self.namespace, "trainingruntimes", name),
            )
        except AbsentError as absent:
            kind = "ClusterTrainingRuntime"
            try:
                self._call("", self._custom.get_cluster_custom_object, GROUP, VERSION, "clustertrainingruntimes", name)
            except OutageError:
                raise
            except PipelineError:
                raise absent from None
            return kind
        return "TrainingRuntime"

    def train_job(self, name: str) -> Body:
        """The TrainJob of that name."""
        return self._call(
            f"read the TrainJob {name}",
            self._custom.get_namespaced_custom_object,
            *(GROUP, VERSION, self.namespace, JOBS, name),
        )

    def create_train_job(self, manifest: Body) -> Body:
        """Create a TrainJob and return the API's copy of it."""
        return self._call(
            f"create the TrainJob {manifest['metadata']['name']}",
            self._custom.create_namespaced_custom_object,
            *(GROUP, VERSION, self.namespace, JOBS, manifest),
        )

    def delete_train_job(self, name: str, uid: str) -> None:
        """Ask for deletion of that very TrainJob and all that it owns; it is gone once its pods are."""
        options = client.V1DeleteOptions(propagation_policy="Foreground", preconditions=client.V1Preconditions(uid=uid))
        self._call(
            f"delete the TrainJob {name}",
            self._custom.delete_namespaced_custom_object,
            *(GROUP, VERSION, self.namespace, JOBS, name),
            body=options,
        )

    def pods(self, selector: str) -> list[Body]:
        """The pods with those labels, by name."""
        found = self._call("list pods", self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return sorted(found["items"], key=lambda pod: str(pod["metadata"]["name"]))

    def pod(self, name: str) -> Body:
        """The pod of that name."""
        return self._call(f"read the pod {name}", self._core.read_namespaced_pod, name, self.namespace)

    def log(self, pod: str, container: str, since: int | None) -> Iterator[bytes]:
        """Pieces of a container's log, each line after its time, from `since` seconds ago until the container ends.

        Raises:
            OutageError: the stream broke, or can't be opened at the moment.
            PipelineError: reading it is refused.
        """
        past = {} if since is None else {"since_seconds": since}
        try:
            response = self._core.read_namespaced_pod_log(
                *(pod, self.namespace),
                container=container,
                follow=True,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(_TIMEOUT[0], SILENCE),
                **past,
            )
            try:
                yield from response.stream(2**16)
            finally:
                response.close()
        except HTTPError as error:
            raise OutageError(_name(error)) from None
        except ApiException as error:
            # 400: the container is between being scheduled and having started.
            if error.status in PASSING | {400}:
                raise OutageError(f"{error.status} {error.reason}") from None
            raise self._refused(f"read the log of {pod}", error) from None

    def _call(self, doing: str, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Body:
        """Repeat a request until it is answered, but no longer than patience lasts."""

        def once() -> Body:
            try:
                response = ask(*arguments, _preload_content=False, _request_timeout=_TIMEOUT, **options)
                found: Body = json.loads(response.data)
            except ApiException as error:
                if error.status not in PASSING:
                    raise self._refused(doing, error) from None
                raise OutageError(f"{error.status} {error.reason}") from None
            except (HTTPError, ValueError) as error:
                raise OutageError(_name(error)) from None
            return found

        def tell(outage: Exception, wait: float) -> None:
            sys.stderr.write(f"no answer from the Kubernetes API ({outage}): trying again in {wait:.0f} s\n")

        try:
            return patiently(once, self.patience, OutageError, tell)
        except OutageError as outage:
            raise OutageError(
                f"could not {doing}: the Kubernetes API at {self.host} gave no answer for {self.patience:.0f} s "
                f"({outage})."
            ) from None

    def _refused(self, doing: str, error: ApiException) -> PipelineError:
        """A refusal in one sentence, with what to do, but without the request, which holds the token."""
        try:
            status = json.loads(error.body or "")
            said = str(status.get("message", ""))
        except (ValueError, AttributeError):
            status, said = {}, ""
        said = " ".join((said or str(error.reason)).split())
        text = f"could not {doing} in namespace {self.namespace}: {said}"
        if error.status == 404:
            details = status.get("details") or {}
            if not details.get("name"):
                text += ". Is Kubeflow Trainer v2 installed? There is no trainer.kubeflow.org/v1alpha1"
            elif "runtime" in doing:
                text += ". deploy/kubernetes has it: kubectl apply -k"
            return AbsentError(f"{text}.")
        if error.status == 409:
            return ConflictError(text)
        if error.status == 401:
            text += ". The API does not accept these credentials"
        elif error.status == 403 and " cannot " in said:
            text += ". The Role in deploy/kubernetes allows it: kubectl apply -k"
        return PipelineError(f"{text}.")


def _name(error: Exception) -> str:
    return type(error.__cause__ or error).__name__
