"""A server that answers as a Kubernetes API does, for TrainJobs, their pods and logs, over HTTP on the loopback."""

import json
import re
import socket
import ssl
import struct
import threading
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

SCHEMA = yaml.safe_load(Path(__file__).with_name("train_job_schema.yaml").read_text(encoding="utf-8"))
TOKEN = "token-that-nobody-may-see"  # noqa: S105
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Log:
    """What a container has written: lines with their times, and whether more may come."""

    def __init__(self):
        self.lines, self.closed, self.changed = [], False, threading.Condition()
        self.clock = datetime.now(UTC)

    def write(self, *texts, step=0.001):
        with self.changed:
            for text in texts:
                self.clock += timedelta(seconds=step)
                self.lines.append((self.clock, text))
            self.changed.notify_all()

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()


class KubernetesServer(ThreadingHTTPServer):
    """The API's state, what it is to do wrong, and what it was asked.

    Attributes:
        controller: called with a new TrainJob in a thread of its own: plays Trainer, JobSet and the nodes.
        faults: (pattern of "METHOD PATH", what to do, how often): a status code, "reset" or "hang up".
        breaks: after how many bytes the next log streams break.
        ends: after how many bytes the next log streams end as if there were no more.
        refused: patterns of "METHOD PATH" that RBAC forbids.
        deletion_seconds: how long the pods of a deleted job take to end.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if certificate else "http"
        self.jobs, self.pods, self.logs = {}, {}, {}
        self.runtimes = {("TrainingRuntime", "restoration-distillation")}
        self.installed, self.token = True, TOKEN
        self.controller = lambda job: None
        self.faults, self.breaks, self.ends, self.refused = [], [], [], []
        self.deletion_seconds = 0.05
        self.asked, self.deletions, self.problems = [], [], []
        self.lock = threading.RLock()

    @property
    def address(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def kubeconfig(self, path, token=TOKEN, namespace="team"):
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
                    "clusters": [{"name": "c", "cluster": {"server": self.address}}],
                    "users": [{"name": "u", "user": {"token": token}}],
                }
            )
        )
        return path

    def counted(self):
        """How often each "METHOD PATH" was asked for."""
        with self.lock:
            return Counter(self.asked)

    # What a controller does.

    def add_pod(self, job, index, suffix="x7f2k", **status):
        name = f"{job}-node-0-{index}-{suffix}"
        with self.lock:
            self.logs[name] = Log()
            self.pods[name] = {
                "metadata": {"name": name, "uid": str(uuid.uuid4()), "labels": {JOBSET_LABEL: job}},
                "status": {"phase": "Pending", **status},
            }
        return name

    def run_pod(self, pod):
        self.set_state(pod, running={"startedAt": now()})

    def end_pod(self, pod, code=0, reason="", finished=None):
        self.logs[pod].close()
        kind = reason or ("Completed" if code == 0 else "Error")
        self.set_state(pod, terminated={"exitCode": code, "reason": kind, "finishedAt": finished or now()})

    def set_state(self, pod, **state):
        with self.lock:
            if pod in self.pods:
                self.pods[pod]["status"] = {"containerStatuses": [{"name": "node", "state": state}]}

    def set_condition(self, job, kind, reason, message, status="True"):
        condition = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": now(),
        }
        with self.lock:
            found = self.jobs.get(job)
            if found is not None:
                conditions = [other for other in found["status"]["conditions"] if other["type"] != kind]
                found["status"]["conditions"] = [*conditions, condition]

    def remove_job(self, job, uid=None):
        with self.lock:
            found = self.jobs.get(job)
            if found is None or uid not in {None, found["metadata"]["uid"]}:
                return
            del self.jobs[job]
            for pod in [pod for pod, body in self.pods.items() if body["metadata"]["labels"][JOBSET_LABEL] == job]:
                self.logs[pod].close()
                del self.pods[pod]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KubernetesServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def do_DELETE(self):
        self._answer("DELETE")

    def _answer(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        split = urlsplit(self.path)
        self.question = {key: values[0] for key, values in parse_qs(split.query).items()}
        asked = f"{method} {split.path}"
        with self.server.lock:
            self.server.asked.append(asked)
        try:
            if not self._go_wrong(asked):
                self._route(method, split.path, json.loads(body) if body else None)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as error:
            self.server.problems.append(repr(error))
            raise

    def _go_wrong(self, asked):
        with self.server.lock:
            for index, (pattern, fault, times) in enumerate(self.server.faults):
                if re.search(pattern, asked):
                    self.server.faults[index : index + 1] = [(pattern, fault, times - 1)] if times > 1 else []
                    break
            else:
                fault = None
        if fault == "reset":
            # A close with nothing left to wait for: the other side gets RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.close_connection = True
        elif fault == "answer is lost":
            self._route_unanswered = True
            return False
        elif fault is not None:
            self._status(fault, "InternalError", "etcdserver: request timed out")
        if fault is None and self.headers.get("Authorization", "").lower() != f"bearer {self.server.token}":
            self._status(401, "Unauthorized", "Unauthorized")
            return True
        if fault is None and any(re.search(pattern, asked) for pattern in self.server.refused):
            user = 'User "system:serviceaccount:team:pipeline-runner" cannot do that'
            self._status(403, "Forbidden", f"forbidden: {user}")
            return True
        return fault is not None

    _route_unanswered = False

    def _route(self, method, path, body):
        base = "/apis/trainer.kubeflow.org/v1alpha1"
        for pattern, handle in (
            (rf"{base}/namespaces/team/trainingruntimes/([^/]+)", self._runtime("TrainingRuntime")),
            (rf"{base}/clustertrainingruntimes/([^/]+)", self._runtime("ClusterTrainingRuntime")),
            (rf"{base}/namespaces/team/trainjobs()", self._create),
            (rf"{base}/namespaces/team/trainjobs/([^/]+)", self._job),
            (r"/api/v1/namespaces/team/pods()", self._pods),
            (r"/api/v1/namespaces/team/pods/([^/]+)", self._pod),
            (r"/api/v1/namespaces/team/pods/([^/]+)/log", self._log),
        ):
            found = re.fullmatch(pattern, path)
            if found and (self.server.installed or path.startswith("/api/")):
                handle(method, found[1], body)
                return
        self._send(404, b"404 page not found\n", "text/plain")

    def _runtime(self, kind):
        def handle(_, name, __):
            if (kind, name) in self.server.runtimes:
                self._json(200, {"kind": kind, "metadata": {"name": name}})
            else:
                plural = f"{kind.lower()}s.trainer.kubeflow.org"
                self._status(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})

        return handle

    def _create(self, _, __, body):
        errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(body))
        name = body.get("metadata", {}).get("name", "")
        if errors:
            told = "; ".join(f"{error.json_path}: {error.message}" for error in errors)
            self._status(422, "Invalid", f'TrainJob.trainer.kubeflow.org "{name}" is invalid: {told}')
            return
        with self.server.lock:
            if name in self.server.jobs:
                told = f'trainjobs.trainer.kubeflow.org "{name}" already exists'
                self._status(409, "AlreadyExists", told, {"name": name})
                return
            body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            body["status"] = {"conditions": []}
            self.server.jobs[name] = body
        threading.Thread(target=self.server.controller, args=(body,), daemon=True).start()
        self._json(201, body)

    def _job(self, method, name, body):
        with self.server.lock:
            job = self.server.jobs.get(name)
            if job is None:
                told = f'trainjobs.trainer.kubeflow.org "{name}" not found'
                self._status(404, "NotFound", told, {"name": name, "kind": "trainjobs"})
                return
            uid = job["metadata"]["uid"]
            if method == "DELETE":
                wanted = (body or {}).get("preconditions", {}).get("uid", uid)
                if wanted != uid:
                    self._status(409, "Conflict", f"the UID in the precondition ({wanted}) does not match ({uid})")
                    return
                self.server.deletions.append((name, uid, body["propagationPolicy"]))
                if "deletionTimestamp" not in job["metadata"]:
                    job["metadata"] |= {"deletionTimestamp": now(), "finalizers": ["foregroundDeletion"]}
                    threading.Timer(self.server.deletion_seconds, self.server.remove_job, (name, uid)).start()
            answer = json.dumps(job).encode()
        self._send(200, answer, "application/json")

    def _pods(self, *_):
        key, _, value = self.question["labelSelector"].partition("=")
        with self.server.lock:
            items = [pod for pod in self.server.pods.values() if pod["metadata"]["labels"].get(key) == value]
            answer = json.dumps({"kind": "PodList", "items": items}).encode()
        self._send(200, answer, "application/json")

    def _pod(self, _, name, __):
        with self.server.lock:
            pod = self.server.pods.get(name)
        if pod is None:
            self._status(404, "NotFound", f'pods "{name}" not found', {"name": name, "kind": "pods"})
        else:
            self._json(200, pod)

    def _log(self, _, name, __):
        log = self.server.logs.get(name)
        if name not in self.server.pods:
            self._status(404, "NotFound", f'pods "{name}" not found', {"name": name, "kind": "pods"})
            return
        if self.question.get("follow") != "True" or self.question.get("container") != "node":
            self.server.problems.append(f"asked for a log with {self.question}")
        with self.server.lock:
            breaks, clean = (self.server.ends, True) if self.server.ends else (self.server.breaks, False)
            left = breaks.pop(0) if breaks else None
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since = datetime.now(UTC) - timedelta(seconds=float(self.question.get("sinceSeconds", "1e6")))
        sent = 0
        while True:
            with log.changed:
                while len(log.lines) == sent and not log.closed:
                    log.changed.wait(10)
                lines, sent, closed = log.lines[sent:], len(log.lines), log.closed
            stamped = (
                f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z {text}\n" for at, text in lines if at >= since.replace(microsecond=0)
            )
            data = "".join(stamped).encode()
            if left is not None and len(data) >= left:
                if left:
                    self._chunk(data[:left])
                if clean:
                    self.wfile.write(b"0\r\n\r\n")
                    return
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            left = None if left is None else left - len(data)
            if data:
                self._chunk(data)
            if closed and sent == len(log.lines):
                self.wfile.write(b"0\r\n\r\n")
                return

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, code, body):
        self._send(code, json.dumps(body).encode(), "application/json")

    def _status(self, code, reason, message, details=None):
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        self._json(code, {**body, "message": message, "details": details or {}})

    def _send(self, code, data, kind):
        if self._route_unanswered:
            self._route_unanswered = False
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def wait_for(condition, seconds=20):
    """Wait until `condition` gives something, and give it back."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("it never came to that")
