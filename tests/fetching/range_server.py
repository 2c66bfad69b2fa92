"""A real server on 127.0.0.1 that can misbehave: each request takes the next fault of a script, then it behaves."""

import re
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """One misbehaviour.

    status: answer this instead. cut: close after so many body bytes. hold: after so many, wait until `release` is set.
    ranges: whether Range is honoured. at_most: answer a range with no more bytes. if_range: whether If-Range is
    honoured. claim: Content-Length to claim. chunked: send without one. headers: added to the answer. raw: send these
    pieces in place of an answer. drip: seconds after each piece.
    """

    status: int = 0
    cut: int | None = None
    hold: int | None = None
    ranges: bool = True
    at_most: int | None = None
    if_range: bool = True
    claim: int | None = None
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    raw: tuple[bytes, ...] | None = None
    drip: float = 0


GOOD = Fault()


class RangeServer:
    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.etag: str | None = '"first"'
        self.modified: str | None = None
        self.script: deque[Fault] = deque()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent: list[int] = []
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"control": self}))
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def range_server():
    server = RangeServer()
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    control: RangeServer

    def do_GET(self):
        control = self.control
        fault = control.script.popleft() if control.script else GOOD
        control.requests.append((self.path, dict(self.headers)))
        control.sent.append(0)
        place = len(control.sent) - 1
        if fault.raw is not None:
            self._send_raw(fault)
            return
        body = control.files.get(self.path.partition("?")[0])
        if fault.status or body is None:
            self._start(fault.status or 404, {"Content-Length": "0", **fault.headers})
            return
        start = self._start_asked(fault)
        if start and start >= len(body):
            self._start(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        rest = body[start:][: fault.at_most if start else None]
        headers = {"Content-Range": f"bytes {start}-{start + len(rest) - 1}/{len(body)}"} if start else {}
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
            rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
        else:
            headers["Content-Length"] = str(len(rest) if fault.claim is None else fault.claim)
        versions = {"ETag": control.etag, "Last-Modified": control.modified}
        headers |= {name: value for name, value in versions.items() if value}
        self._start(206 if start else 200, {**headers, **fault.headers})
        if fault.hold is not None:
            self._send(rest[: fault.hold], place)
            control.release.wait()
            rest = rest[fault.hold :]
        self._send(rest[: fault.cut], place)

    def do_HEAD(self):
        self._start(200, {"ETag": self.control.etag or "", "Content-Length": str(len(self.control.files[self.path]))})

    def _start_asked(self, fault: Fault) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        known = {None, self.control.etag, self.control.modified}
        unchanged = self.headers.get("If-Range") in known or not fault.if_range
        return int(asked[1]) if asked and fault.ranges and unchanged else 0

    def _start(self, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_raw(self, fault: Fault) -> None:
        self.close_connection = True
        with suppress(ConnectionError):
            for piece in fault.raw:
                self.wfile.write(piece)
                if self.control.release.wait(fault.drip):
                    return

    def _send(self, data, place):
        self.control.sent[place] += len(data)
        with suppress(ConnectionError):  # the other side was killed
            self.wfile.write(data)
            self.wfile.flush()

    def log_message(self, *_):
        pass
