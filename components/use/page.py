"""The page's server: it serves the page's files, lists the networks, and restores pictures one at a time."""

import itertools
import threading
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import cast

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from components.exporting.opening import Restorer, open_network
from components.images.photographs import read_photograph
from components.images.pixels import Samples
from components.run.errors import InputError
from components.use.bands import enlarged_rows, restored_rows
from components.use.faults import fault_of

NO_STUDENT = "There is no student yet. Run `make repro` (about five minutes), then load this page again."
_FILES = Path(__file__).parent / "static"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LOCAL = ["127.0.0.1", "localhost", "[::1]"]
_KEPT = 12
"""Pictures that are kept for the page, three for each restored one."""


class Demonstration:
    """Networks in a folder, and the last pictures that they restored.

    Args:
        data: folder that the stages wrote to.
        largest: pixels of the largest picture.
    """

    def __init__(self, data: Path, largest: int) -> None:
        self._data, self._largest = data, largest
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._numbers = itertools.count(1)
        self._networks: dict[tuple[Path, int], Restorer] = {}
        self._one_at_a_time = threading.Lock()

    def students(self) -> list[str]:
        """`task/method/seed` of every student whose teacher is there too."""
        found = sorted(self._data.glob("students/*/*/*/student.safetensors"))
        names = ["/".join(path.parts[-4:-1]) for path in found]
        return [name for name in names if self._teacher(name).is_file()]

    def picture(self, name: str) -> bytes | None:
        """A PNG made by `restore`, as long as it is kept."""
        return self._pictures.get(name)

    def restore(self, content: bytes, student: str) -> dict[str, object]:
        """Restore a picture with student and teacher; gives sizes, seconds, and the names of three PNGs.

        Raises:
            InputError: no such student, or not a readable picture.
        """
        if student not in self.students():
            raise InputError(NO_STUDENT if not self.students() else f"There is no student {student!r}.")
        with TemporaryDirectory() as folder, self._one_at_a_time:
            path = Path(folder, "picture")
            path.write_bytes(content)
            try:
                photograph = read_photograph(path, self._largest)
            except InputError as error:
                raise InputError(f"The picture {str(error).removeprefix(f'{path}: ')}") from None
            networks = {
                "student": self._open(self._data / "students" / student / "student.safetensors"),
                "teacher": self._open(self._teacher(student)),
            }
            scale = networks["student"].scale
            channels = np.moveaxis(photograph.samples, -1, 0)
            height, width = photograph.samples.shape[:2]
            plain = np.stack([enlarged_rows(channel, scale, 0, height * scale) for channel in channels], -1)
            answer: dict[str, object] = {"width": width * scale, "height": height * scale, "scale": scale}
            answer["input"] = self._hold(cast("Samples", plain))
            for name, network in networks.items():
                began = perf_counter()
                rows = np.concatenate(list(restored_rows(network, photograph)))
                answer[f"{name}_seconds"] = round(perf_counter() - began, 2)
                answer[name] = self._hold(rows)
        return answer

    def _teacher(self, student: str) -> Path:
        return self._data / "teachers" / student.partition("/")[0] / "teacher.safetensors"

    def _open(self, path: Path) -> Restorer:
        key = (path, path.stat().st_mtime_ns)
        if key not in self._networks:
            self._networks[key] = open_network(path)
        return self._networks[key]

    def _hold(self, samples: Samples) -> str:
        values = samples
        if values.dtype == np.uint16:
            values = (values >> 8).astype(np.uint8)
        buffer = BytesIO()
        Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(buffer, "PNG", compress_level=1)
        name = f"{next(self._numbers)}.png"
        self._pictures[name] = buffer.getvalue()
        while len(self._pictures) > _KEPT:
            self._pictures.popitem(last=False)
        return f"/pictures/{name}"


def make_page(data: Path, largest_file: int, largest_picture: int, *, anywhere: bool = False) -> Starlette:
    """The page as an application.

    Args:
        data: folder that the stages wrote to.
        largest_file: bytes of the largest file that is accepted.
        largest_picture: pixels of the largest picture.
        anywhere: whether it answers to any host name; if not, another site's page can't reach it through a name that
            resolves to this machine.
    """
    demonstration = Demonstration(data, largest_picture)

    def file(name: str) -> Route:
        content = (_FILES / name).read_bytes()
        kind = _KINDS[Path(name).suffix]

        async def answer(_: Request) -> Response:
            return Response(content, media_type=kind, headers=_HEADERS)

        return Route("/" if name == "page.html" else f"/{name}", answer)

    async def students(_: Request) -> Response:
        names = demonstration.students()
        said = "" if names else NO_STUDENT
        limits = {"bytes": largest_file, "pixels": largest_picture}
        return JSONResponse({"students": names, "message": said, **limits}, headers=_HEADERS)

    async def restored(request: Request) -> Response:
        if request.headers.get("content-type") != "application/octet-stream":  # no form on another site can send this
            return JSONResponse({"message": "Send the file as application/octet-stream."}, 415, _HEADERS)
        content = await _received(request, largest_file)
        if content is None:
            said = f"The file is larger than {largest_file / 1e6:g} MB."
            return JSONResponse({"message": said}, 413, {**_HEADERS, "Connection": "close"})
        student = request.query_params.get("student", "")
        try:
            answer = await run_in_threadpool(demonstration.restore, content, student)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one picture, the page goes on
            return JSONResponse({"message": fault_of(error)}, 400, _HEADERS)
        return JSONResponse(answer, headers=_HEADERS)

    async def picture(request: Request) -> Response:
        content = demonstration.picture(request.path_params["name"])
        if content is None:
            return Response("gone", 404, _HEADERS)
        return Response(content, media_type="image/png", headers=_HEADERS)

    routes = [*map(file, ("page.html", "page.css", "page.js")), Route("/students", students)]
    routes += [Route("/restore", restored, methods=["POST"]), Route("/pictures/{name}", picture)]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=["*"] if anywhere else _LOCAL)
    return Starlette(routes=routes, middleware=[guard])


async def _received(request: Request, largest: int) -> bytes | None:
    """The body of the request, or None as soon as it is larger than allowed."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > largest:
            return None
    return bytes(content)
