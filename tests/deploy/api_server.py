"""A real kube-apiserver with its etcd, and what a cluster around it does: garbage collection and one node's kubelet."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import requests
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NODE = "here"
ADMIN = "admin-of-a-test"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class ApiServer:
    """kube-apiserver from the folder `binaries`, with RBAC, on the loopback; its state is in `folder`."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder = Path(binaries), Path(folder)
        self.address = f"https://127.0.0.1:{free_port()}"
        self.processes = []
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(self.folder / "apiserver.crt")
        self.session.headers["Authorization"] = f"Bearer {ADMIN}"
        self.collects_garbage = (self.binaries / "kube-controller-manager").exists()

    def __enter__(self):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "accounts.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (self.folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
        etcd, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run(
            "etcd",
            *(f"--data-dir={self.folder}/etcd", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            *(f"--initial-cluster=default={peer}", "--unsafe-no-fsync"),
        )
        self._run(
            "kube-apiserver",
            *(f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--authorization-mode=RBAC"),
            *(f"--secure-port={self.address.rpartition(':')[2]}", f"--cert-dir={self.folder}"),
            *(f"--token-auth-file={self.folder}/tokens.csv", "--service-cluster-ip-range=10.0.0.0/24"),
            *(f"--service-account-key-file={self.folder}/accounts.key", "--service-account-issuer=https://here"),
            *(f"--service-account-signing-key-file={self.folder}/accounts.key", "--api-audiences=https://here"),
            *("--disable-admission-plugins=ServiceAccount", "--kubelet-preferred-address-types=InternalIP"),
        )
        self._wait_until_ready()
        if self.collects_garbage:
            self._run(
                "kube-controller-manager",
                *(f"--kubeconfig={self.kubeconfig(self.folder / 'manager', ADMIN)}", "--leader-elect=false"),
                "--controllers=garbagecollector,namespace",
            )
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()

    def _run(self, name, *flags):
        log = (self.folder / f"{name}.log").open("w")
        process = subprocess.Popen([str(self.binaries / name), *flags], stdout=log, stderr=subprocess.STDOUT)
        self.processes.append(process)

    def _wait_until_ready(self):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(requests.ConnectionError, OSError):
                if self.session.get(f"{self.address}/readyz", timeout=5).status_code == 200:
                    return
            time.sleep(0.2)
        raise AssertionError((self.folder / "kube-apiserver.log").read_text()[-2000:])

    def kubeconfig(self, path, token, namespace="default"):
        path = Path(path)
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {
                                "server": self.address,
                                "certificate-authority": str(self.folder / "apiserver.crt"),
                            },
                        }
                    ],
                    "users": [{"name": "u", "user": {"token": token}}],
                }
            )
        )
        return path

    def kubectl(self, *words, check=True):
        """What kubectl says as the cluster's admin."""
        config = self.kubeconfig(self.folder / "admin", ADMIN)
        environment = os.environ | {"KUBECONFIG": str(config), "HOME": str(self.folder)}
        done = subprocess.run(
            [shutil.which("kubectl"), *words], env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def ask(self, method, path, body=None, kind="application/json"):
        answer = self.session.request(
            method, self.address + path, data=json.dumps(body) if body else None, headers={"Content-Type": kind}
        )
        assert answer.ok or answer.status_code == 404, answer.text
        return answer.json() if answer.ok else None

    def token(self, namespace, account):
        """A token of a service account, as its pods get it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return self.ask("POST", path, body)["status"]["token"]


class Kubelet(ThreadingHTTPServer):
    """One node's logs, as kube-apiserver asks a kubelet for them, and the end of its pods."""

    daemon_threads = True

    def __init__(self, api):
        super().__init__(("127.0.0.1", 0), _LogHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(api.folder / "apiserver.crt", api.folder / "apiserver.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.logs, self.api = {}, api
        self.ending = threading.Event()
        api.ask("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.server_port}},
        }
        merge = "application/merge-patch+json"
        api.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, merge)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        threading.Thread(target=self._end_pods, daemon=True).start()

    def _end_pods(self):
        """A pod that is to be deleted is gone when its kubelet says so."""
        while not self.ending.wait(0.1):
            with contextlib.suppress(requests.RequestException, AssertionError):
                for pod in self.api.ask("GET", "/api/v1/pods")["items"]:
                    about = pod["metadata"]
                    if "deletionTimestamp" in about:
                        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}"
                        self.api.ask("DELETE", path, {"gracePeriodSeconds": 0})

    def close(self):
        self.ending.set()
        self.shutdown()
        self.server_close()


class _LogHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = urlsplit(self.path)
        _, kind, _, pod, _ = path.path.split("/")
        assert kind == "containerLogs"
        assert parse_qs(path.query)["timestamps"] == ["true"]
        log = self.server.logs[pod]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            with log.changed:
                while len(log.lines) == sent and not log.closed:
                    log.changed.wait(10)
                lines, sent, closed = log.lines[sent:], len(log.lines), log.closed
            for at, text in lines:
                data = f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z {text}\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
            if closed and sent == len(log.lines):
                self.wfile.write(b"0\r\n\r\n")
                return
