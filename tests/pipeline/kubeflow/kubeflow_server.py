"""The part of Kubeflow Pipelines' REST API (v2beta1) that submitting a run uses, over real HTTP."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class KubeflowServer:
    """A server on 127.0.0.1; remembers what was asked.

    Attributes:
        token: what it accepts; None = anything.
        namespaces: those it has; None = an installation without users.
        states: of a run, one for each time that it is asked for; the last one stays.
        broken: so many further answers are HTTP 503.
    """

    def __init__(self):
        self.token = None
        self.namespaces = None
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.task_details = []
        self.broken = 0
        self.page = False
        self.requests = []
        self.experiments = []
        self.runs = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                server.answer(self, None)

            def do_POST(self):
                server.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler, body):
        parts = urlsplit(handler.path)
        path, query = parts.path, parse_qs(parts.query)
        authorization = handler.headers.get("Authorization")
        self.requests.append((handler.command, path, query, authorization, body))
        if self.page:
            return reply(handler, 200, "<html>Log in</html>", "text/html")
        if self.broken:
            self.broken -= 1
            return reply(handler, 503, "upstream connect error")
        if self.token and authorization != f"Bearer {self.token}":
            # Some proxies repeat what they were given.
            return reply(handler, 401, {"error": "no", "code": 16, "message": f"Unauthenticated: {authorization}"})
        if not path.startswith("/apis/v2beta1/"):
            return reply(handler, 404, {"error": "Not Found"})
        return self.resource(handler, handler.command, path.removeprefix("/apis/v2beta1/"), query, body)

    def resource(self, handler, verb, name, query, body):
        namespace = (body or {}).get("namespace") or query.get("namespace", [""])[0]
        routes = {
            ("GET", "healthz"): lambda: {"multi_user": self.namespaces is not None},
            ("GET", "experiments"): lambda: self.listed(query),
            ("POST", "experiments"): lambda: kept(self.experiments, {**body, "experiment_id": "experiment"}),
            ("POST", "runs"): lambda: kept(self.runs, {**body, "run_id": "run"}),
            ("GET", "runs"): lambda: {"run_id": name.split("/")[1], **self.state()},
        }
        route = routes.get((verb, name.partition("/")[0]))
        if route is None:
            return reply(handler, 404, {"error": "Not Found"})
        if name == "experiments" and self.namespaces is not None and namespace not in self.namespaces:
            return reply(handler, 403, {"code": 7, "message": f"User is not authorized in namespace {namespace}"})
        return reply(handler, 200, route())

    def listed(self, query):
        wanted = json.loads(query["filter"][0])["predicates"][0]["stringValue"]
        return {"experiments": [entry for entry in self.experiments if entry["display_name"] == wanted]}

    def state(self):
        state = self.states[0] if len(self.states) == 1 else self.states.pop(0)
        return {"state": state, "run_details": {"task_details": self.task_details}}


def kept(entries, entry):
    """Add an entry, its id made its own by a number."""
    identifier = list(entry)[-1]
    entries.append({**entry, identifier: f"{entry[identifier]}-{len(entries)}"})
    return entries[-1]


def reply(handler, status, content, kind="application/json"):
    data = (content if isinstance(content, str) else json.dumps(content)).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
