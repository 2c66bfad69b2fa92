"""Faults of DVC's file systems: those that pass, those that stay, and objects that are not there; without secrets."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import ClientError as NoTransferError
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

from pipeline.messages import PipelineError
from pipeline.patience import PASSING
from pipeline.project import without_secrets
from pipeline.storage.remote_url import VARIABLE

_PASSING = {"RequestTimeout", "BadDigest", "SlowDown", "InternalError", "RequestTimeTooSkewed"}
# Every other OSError is about a file, and no other try would mend it; only a folder of the cache is made again.
_NO_ANSWER = (
    *(NoConnectionError, HTTPClientError, NoTransferError),
    *(ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, FileNotFoundError),
)


class Unavailable(Exception):  # noqa: N818 -- no error yet: the next try may do
    """A transfer failed for a reason that may pass."""


class Missing(Exception):  # noqa: N818 -- an answer, to some questions
    """There is no such object."""


@contextmanager
def told(name: str, local: Path | None = None) -> Iterator[None]:
    """Tell the faults of a request for the object that messages call `name`.

    Args:
        name: with the host, and without credentials.
        local: the file that is written; that its folder is gone says nothing of the object.

    Raises:
        Unavailable: the next try may do.
        Missing: there is no such object.
        PipelineError: no other try would mend it.
    """
    try:
        yield
    except Exception as error:
        status, code = _answer(error)
        text = without_secrets(" ".join(str(error).split())) or type(error).__name__
        if status in PASSING or code in _PASSING:
            raise Unavailable(f"the server answers {status} {code}") from None
        if isinstance(error, FileNotFoundError) and code != "NoSuchBucket" and error.filename != str(local):
            raise Missing from None
        if status:
            raise PipelineError(f"{name}: {status} {code}. {_advice(name, status, code)}") from None
        if isinstance(error, _NO_ANSWER):
            raise Unavailable(text) from None
        if isinstance(error, OSError):
            raise PipelineError(
                f"{error.filename or local or name}: {error.strerror or text}. Free space or choose another place."
            ) from None
        if type(error).__module__ == "builtins":
            raise
        raise PipelineError(f"{name}: {text}. {_advice(name, 403, '')}") from None


def _answer(error: BaseException | None) -> tuple[int, str]:
    """Status and code that a server answered with, where the fault tells: S3's stands behind what s3fs makes of it."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__
    if error is None:
        return (status if isinstance(status, int) and status >= 100 else 0), ""  # SSH's codes are smaller
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status, str(error.response.get("Error", {}).get("Code", ""))


def _advice(name: str, status: int, code: str) -> str:
    if not name.startswith("s3://"):
        return f"Check {VARIABLE}, and the credentials that its server asks for."
    if code == "NoSuchBucket":
        return f"Make the bucket, or mend {VARIABLE}."
    if status in {401, 403}:
        return "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and the bucket's policy."
    return f"Check {VARIABLE}, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION."
