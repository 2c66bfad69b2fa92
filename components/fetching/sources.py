"""Where files come from: installed packages, this machine, HTTP servers, S3 storage; each verified by its checksum."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import unquote

from urllib3.util import Retry

from components.fetching.archives import stays_inside
from components.fetching.downloads import RETRY, alone, discard, download, keep
from components.fetching.servers import Ask, ask_http, ask_s3
from components.images.datasets import SourceFile, shown
from components.run.errors import InputError, unknown_name
from components.run.files import sha256_of

_REMOTE = "DVC_REMOTE_URL"  # every task of a cluster has it

_log = logging.getLogger(__name__)


@contextmanager
def located(file: SourceFile, cache: Path, retry: Retry = RETRY) -> Iterator[Path]:
    """Yield the path of a file, verified by its checksum: in place if it is on this machine, otherwise downloaded.

    Downloads stay in `cache` under their SHA-256. One without a declared SHA-256 stays under a hash of its URL, and its
    server is asked every time whether it has changed.

    Raises:
        InputError: an unknown scheme, no such file, a server that refuses, or a wrong checksum (nothing is kept then).
    """
    scheme, place = _divided(file.url)
    if scheme in IN_PLACE:
        with IN_PLACE[scheme](place) as path:
            _verify(path, file)
            yield path
    else:
        yield _downloaded(SERVERS[scheme], file, cache, retry)


def _divided(url: str) -> tuple[str, str]:
    """The scheme of a URL, and what follows.

    Raises:
        InputError: it has none, as a path, or an unknown one.
    """
    scheme, colon, place = url.partition(":")
    if not colon or "/" in scheme or len(scheme) == 1:  # a path, on Windows after a drive's letter
        raise InputError(f"{shown(url)}: no url; for a file on this machine write `file:` before it: file:{shown(url)}")
    if scheme not in {*IN_PLACE, *SERVERS}:
        raise unknown_name(f"scheme of {shown(url)}", scheme, [*IN_PLACE, *SERVERS])
    return scheme, place


def stored_name(file: SourceFile) -> str:
    """The name to store a file under: its own, or the last part of its URL.

    Raises:
        InputError: there is none, or it leads out of the folder; the URL has no scheme.
    """
    _, place = _divided(shown(file.url))
    name = file.name
    if name is None:
        name = place.rpartition("/")[2]
        name = unquote(name) if file.url.startswith("http") else name
    if not stays_inside(name):
        raise InputError(f"{shown(file.url)}: {name!r} can't be a file's name here; write another as `name`.")
    return name


@contextmanager
def _package(place: str) -> Iterator[Path]:
    module, _, path = place.partition("/")
    try:
        resource = resources.files(module).joinpath(path)
    except (ModuleNotFoundError, ValueError):
        raise InputError(
            f"package:{place}: no package {module!r} is installed; `pip install` the one it is in."
        ) from None
    if not resource.is_file():
        raise InputError(f"package:{place}: the installed {module} has no file {path!r}; it may be another version.")
    with resources.as_file(resource) as found:
        yield found


@contextmanager
def _file(place: str) -> Iterator[Path]:
    try:
        path = Path(Template(place.removeprefix("//")).substitute(os.environ)).expanduser()
    except KeyError as error:
        name = error.args[0]
        raise InputError(
            f"file:{place}: the variable {name} is not set; `export {name}=...` and run again.{_way_out()}"
        ) from None
    except ValueError:
        raise InputError(f"file:{place}: a lone $; write $$ for a dollar sign in a name.") from None
    if not path.is_file():
        fault = "is a folder; name its files one by one, or an archive of it" if path.is_dir() else "not found"
        raise InputError(f"file:{place}: {path}: {fault}.{_way_out()}")
    yield path


def _way_out() -> str:
    """What to do for a file that only another machine has, where runs share their data by a remote."""
    if _REMOTE not in os.environ:
        return ""
    return (
        " A cluster's task has no such file: run `dvc repro fetch` and `dvc push --run-cache fetch` on a machine that "
        "has it, commit params.yaml, dvc.yaml and dvc.lock, and submit that revision."
    )


IN_PLACE: Mapping[str, Callable[[str], AbstractContextManager[Path]]] = {"package": _package, "file": _file}
SERVERS: Mapping[str, Ask] = {"http": ask_http, "https": ask_http, "s3": ask_s3}


def _downloaded(ask: Ask, file: SourceFile, cache: Path, retry: Retry) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    by_url = cache / hashlib.sha256(file.url.encode()).hexdigest()
    kept = cache / file.sha256 if file.sha256 else by_url
    partial = kept.with_suffix(".partial")
    with alone(cache):
        if kept != by_url and by_url.exists() and not kept.exists():
            keep(by_url, kept, sealed=True)  # the first run reported its checksum, which is now in params
        if kept.exists():
            if file.sha256 and sha256_of(kept) == file.sha256:
                return kept
            kept.replace(partial)  # nothing vouches for it: ask the server for what follows its bytes
        download(ask, file.url, partial, retry)
        try:
            _verify(partial, file)
        except InputError:
            discard(partial)
            raise
        keep(partial, kept, sealed=file.sha256 is not None)
    return kept


def _verify(path: Path, file: SourceFile) -> None:
    found = sha256_of(path)
    if file.sha256 is None:
        _log.warning(f"{shown(file.url)}: no sha256 to verify it with; record the one found, sha256: {found}")
    elif found != file.sha256:
        raise InputError(
            f"{shown(file.url)}: wrong checksum: expected sha256 {file.sha256}, found {found}. Nothing was kept."
            " If its owner published a new file and it is the one you want, write the checksum found instead."
        )
