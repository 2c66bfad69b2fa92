"""Ask a server for a file's bytes from an offset on: over HTTP, or from S3 storage."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import requests
import urllib3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    NoCredentialsError,
    PartialCredentialsError,
)
from urllib3.util import Retry

from components.images.datasets import shown
from components.run.addresses import endpoint_fault
from components.run.errors import InputError

CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 60.0
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Answer:
    """A file's bytes from `start` to its end.

    Attributes:
        start: offset of the first byte: the one asked for, or 0 if the server sends the whole file again.
        total: size of the whole file in bytes; None if the server does not say.
        version: the server's name for this state of the file (ETag or date); empty if it has none.
        blocks: the bytes.
    """

    start: int
    total: int | None
    version: str
    blocks: Iterator[bytes]


Ask = Callable[[str, int, str], AbstractContextManager[Answer]]
"""(url, offset, version) -> answer. An offset above 0 comes with the version of the bytes before it."""


class Interrupted(Exception):  # noqa: N818 -- not an error yet: the next try may succeed
    """Trouble that may pass.

    Attributes:
        wait: seconds that the server asks to wait; None if it does not say.
        changed: whether the file has changed, so that the bytes received so far are useless.
    """

    def __init__(self, reason: str, wait: float | None = None, changed: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.changed = wait, changed


@contextmanager
def ask_http(url: str, offset: int, version: str) -> Iterator[Answer]:
    """Ask an HTTP server; user and password come from the URL or ~/.netrc.

    `If-Range` makes the server send the whole file if it is no longer the version whose start we have (RFC 9110,
    13.1.5).

    Raises:
        Interrupted: no connection, a broken one, silence, 408, 429 or 5xx; the file has changed.
        InputError: any other answer.
    """
    headers = {"Accept-Encoding": "identity"}  # a compressed body has other offsets
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS)) as response:
            yield _http_answer(response, url, offset, version)
    except requests.exceptions.SSLError as error:
        raise InputError(f"{shown(url)}: {_reason(error)}") from None
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise Interrupted(_reason(error)) from error
    except requests.RequestException as error:
        raise InputError(f"{shown(url)}: {_reason(error)}. Check the url.") from None


def _http_answer(response: requests.Response, url: str, offset: int, version: str) -> Answer:
    status, headers = response.status_code, response.headers
    blocks = response.raw.stream(_BLOCK, decode_content=False)
    if status == requests.codes.ok:
        length = headers.get("Content-Length", "")
        return Answer(0, int(length) if length.isdigit() else None, _version(headers), blocks)
    span = headers.get("Content-Range", "")
    if status == requests.codes.requested_range_not_satisfiable and span == f"bytes */{offset}":
        return Answer(offset, offset, version, iter(()))
    if status == requests.codes.partial_content:
        rest = re.fullmatch(rf"bytes {offset}-\d+/(\d+|\*)", span)
        if rest and _version(headers) in {"", version}:
            return Answer(offset, None if rest[1] == "*" else int(rest[1]), version, blocks)
    if status in {requests.codes.partial_content, requests.codes.requested_range_not_satisfiable}:
        raise Interrupted("the file on the server has changed", changed=True)
    words = f"{status} {response.reason}"
    passing = {requests.codes.request_timeout, requests.codes.too_many_requests}
    if status in passing or status >= requests.codes.server_error:
        raise Interrupted(f"the server answered {words}", wait=_retry_after(headers))
    advice = "Check the url."
    if status in {requests.codes.unauthorized, requests.codes.forbidden}:
        advice = "Put user and password into ~/.netrc, or choose a public source."
    raise InputError(f"{shown(url)}: the server answered {words}. {advice}")


def _version(headers: Mapping[str, str]) -> str:
    """Return the strong validator of an answer: a weak ETag (`W/`) vouches for the meaning, not for the bytes."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, urllib3.exceptions.InvalidHeader):
        return None


def _reason(error: BaseException) -> str:
    """Return the innermost cause's own words: the messages around it repeat the URL with its credentials."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or type(error).__name__)


@contextmanager
def ask_s3(url: str, offset: int, version: str) -> Iterator[Answer]:
    """Ask S3 storage for `s3://BUCKET/KEY`; endpoint, region and keys come from boto3's environment variables.

    boto3 itself retries requests (AWS_MAX_ATTEMPTS); only a connection that breaks later is left to the caller.

    Raises:
        Interrupted: the connection broke during the transfer; the object has changed.
        InputError: any other fault.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise InputError(f"{shown(url)}: write s3://BUCKET/KEY.")
    if fault := endpoint_fault():
        raise InputError(f"{shown(url)}: {fault}")
    found = _s3_object(bucket, key, offset, version)
    if found is None:
        yield Answer(offset, offset, version, iter(()))
        return
    try:
        with closing(found["Body"]) as body:
            start = offset if "ContentRange" in found else 0
            yield Answer(start, start + found["ContentLength"], found["ETag"], body.iter_chunks(_BLOCK))
    except FlexibleChecksumError:
        raise Interrupted("the bytes received do not match the object's own checksum", changed=True) from None
    except (BotoCoreError, urllib3.exceptions.HTTPError) as error:
        raise Interrupted(_reason(error)) from error


def _s3_object(bucket: str, key: str, offset: int, version: str) -> dict[str, Any] | None:
    """Return S3's answer for the bytes from `offset` on; None if there are none left."""
    wanted = {"Range": f"bytes={offset}-", "IfMatch": version} if offset else {}
    settings = Config(retries={"mode": "standard"}, connect_timeout=CONNECT_SECONDS, read_timeout=SILENCE_SECONDS)
    try:
        client = boto3.Session().client("s3", config=settings)  # boto3.client would keep the first environment it saw
        try:
            answer: dict[str, Any] = client.get_object(Bucket=bucket, Key=key, **wanted)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"InvalidRange", "416"}:
                raise
            head = client.head_object(Bucket=bucket, Key=key)
            if (head["ContentLength"], head["ETag"]) == (offset, version):
                return None
            raise Interrupted("the object has changed", changed=True) from None
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in {"PreconditionFailed", "412"}:
            raise Interrupted("the object has changed", changed=True) from None
        raise InputError(
            f"s3://{bucket}/{key}: {_S3_FAULTS.get(code, 'the storage refused')} ({status} {code})."
        ) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise InputError(
            f"s3://{bucket}/{key}: no credentials; export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            " (and AWS_ENDPOINT_URL for storage other than Amazon's)."
        ) from None
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"s3://{bucket}/{key}: {error}") from None
    return answer


_S3_FAULTS = {
    "NoSuchBucket": "there is no such bucket; check its name and AWS_ENDPOINT_URL",
    "NoSuchKey": "there is no such key in the bucket",
    "AccessDenied": "these credentials may not read it",
    "InvalidAccessKeyId": "the storage does not know AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not match AWS_ACCESS_KEY_ID",
}
