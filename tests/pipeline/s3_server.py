"""A real S3 API over HTTP on this machine, and a proxy in front of it that spoils what passes."""

import http.client
import logging
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from moto.server import ThreadedMotoServer

ACCESS_KEY, SECRET_KEY = "PLANTEDACCESSKEY", "planted-secret-key"


class S3:
    """The server, seen through an address: its own, or a proxy's."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.client = boto3.client("s3", **self.arguments())

    def arguments(self):
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return {"endpoint_url": f"http://{self.host}:{self.port}", "region_name": "us-east-1", **keys}

    def environment(self, port=None):
        return {
            "AWS_ENDPOINT_URL": f"http://{self.host}:{port or self.port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def bucket(self):
        """A new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def objects(self, bucket):
        """Content of all objects by key."""
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {one["Key"]: self.client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}


@contextmanager
def s3_server():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield S3(*server.get_host_and_port())
    finally:
        server.stop()


# Sums of what was sent, which would betray what the proxy does to it.
DROPPED = {"content-md5", "content-length", "expect", "transfer-encoding"}


class Proxy:
    """Passes requests on to the server, but for what `spoil` says of them.

    Attributes:
        spoil: `(method, path) -> what`; None passes, a number is the status to answer with, `cut` ends the
            connection in the middle of what is read, and before an answer to what is written; `empty` and `half`
            store less than was sent and say success.
        seen: method and path of every request.
        port: where it listens.
    """

    def __init__(self, target):
        self.target = target
        self.spoil = lambda method, path: None
        self.seen = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"proxy": self}))
        self.port = self.server.server_port

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def handle_request(self):
        self.proxy.seen.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.spoil(self.command, self.path)
        if isinstance(fault, int):
            self.answer(fault, {}, b"")
        elif fault == "cut" and body:
            self.close_connection = True
        else:
            kept = {"empty": 0, "half": len(body) // 2}.get(fault, len(body))
            self.answer(*self.passed_on(body[:kept]), cut=fault == "cut")

    def passed_on(self, body):
        headers = {key: value for key, value in self.headers.items() if key.lower() not in DROPPED}
        connection = http.client.HTTPConnection(self.proxy.target.host, self.proxy.target.port, timeout=30)
        connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def answer(self, status, headers, content, *, cut=False):
        self.send_response_only(status)
        size = headers.get("Content-Length", str(len(content)))
        for key, value in headers.items():
            if key.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(key, value)
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    def log_message(self, *_):
        pass

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_request  # noqa: N815 -- names that the base class looks for
