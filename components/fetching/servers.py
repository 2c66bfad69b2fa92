"""Ask a server for a file's bytes from an offset on: over HTTP, or from S3 storage."""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import boto3
import requests
import urllib3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)
from urllib3.util import Retry

from components.images.datasets import shown
from components.run.errors import InputError
from components.telemetry.addresses import endpoint_fault

CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 30.0
PIECE = 1 << 15
"""Bytes that have to come within SILENCE_SECONDS: a byte now and then is no progress."""

_PASSING = {requests.codes.request_timeout, requests.codes.too_many_requests}


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
    except InputError:
        raise
    except requests.TooManyRedirects:
        raise InputError(f"{shown(url)}: the server redirects in circles. Check the url.") from None
    except requests.exceptions.InvalidSchema:
        raise InputError(
            f"{shown(url)}: the server redirects to an address that is neither http nor https. Write the file's own."
        ) from None
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(_innermost(error), ssl.SSLCertVerificationError):
            raise InputError(
                f"{shown(url)}: {_reason(error)}. Check the url, or let REQUESTS_CA_BUNDLE name a file of authorities "
                "that vouch for the server."
            ) from None
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
            raise InputError(f"{shown(url)}: no address that can be asked. Check the url.") from None
        raise Interrupted(_reason(error)) from error
    except (ValueError, OverflowError):
        raise InputError(f"{shown(url)}: it, or what it redirects to, is no address. Check the url.") from None


def _http_answer(response: requests.Response, url: str, offset: int, version: str) -> Answer:
    status, headers = response.status_code, response.headers
    blocks = response.raw.stream(PIECE, decode_content=False)
    if status in {requests.codes.ok, requests.codes.partial_content} and _is_page(response, url):
        raise InputError(
            f"{shown(url)}: the server sends a page (text/html) in place of the file. Open the url in a browser: it "
            "may ask to log in or to confirm; write the file's own url."
        )
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
    if _may_pass(status):
        raise Interrupted(f"the server answered {words}", wait=_retry_after(headers))
    advice = "Check the url."
    if status in {requests.codes.unauthorized, requests.codes.forbidden}:
        advice = "Put user and password into ~/.netrc, or choose a public source."
    raise InputError(f"{shown(url)}: the server answered {words}. {advice}")


def _is_page(response: requests.Response, url: str) -> bool:
    named = PurePosixPath(shown(url)).suffix.lower() in {".html", ".htm"}
    return response.headers.get("Content-Type", "").startswith("text/html") and not named


def _may_pass(status: int) -> bool:
    return status in _PASSING or status >= requests.codes.server_error


def _version(headers: Mapping[str, str]) -> str:
    """Return the strong validator of an answer: a weak ETag (`W/`) vouches for the meaning, not for the bytes."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, urllib3.exceptions.InvalidHeader):
        return None


def _innermost(error: BaseException) -> BaseException:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def _reason(error: BaseException) -> str:
    """Return the innermost cause's own words: the messages around it repeat the URL with its credentials."""
    error = _innermost(error)
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    return str(getattr(error, "strerror", None) or "the server broke off, or does not speak HTTP")


@contextmanager
def ask_s3(url: str, offset: int, version: str) -> Iterator[Answer]:
    """Ask S3 storage for `s3://BUCKET/KEY`; endpoint, region and keys come from boto3's environment variables.

    boto3's own retries are off: whoever calls tries again as often as for an HTTP server.

    Raises:
        Interrupted: no connection, a broken one, 408, 429 or 5xx; the object has changed.
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
            length = found.get("ContentLength")
            total = None if length is None else start + length
            yield Answer(start, total, found.get("ETag", ""), body.iter_chunks(PIECE))
    except FlexibleChecksumError:
        raise Interrupted("the bytes received do not match the object's own checksum", changed=True) from None
    except (BotoCoreError, urllib3.exceptions.HTTPError) as error:
        raise Interrupted(_reason(error)) from error


def _s3_object(bucket: str, key: str, offset: int, version: str) -> dict[str, Any] | None:
    """Return S3's answer for the bytes from `offset` on; None if there are none left."""
    wanted = {"Range": f"bytes={offset}-", "IfMatch": version} if offset else {}
    settings = Config(retries={"total_max_attempts": 1}, connect_timeout=CONNECT_SECONDS, read_timeout=SILENCE_SECONDS)
    try:
        client = boto3.Session().client("s3", config=settings)  # boto3.client would keep the first environment it saw
        try:
            answer: dict[str, Any] = client.get_object(Bucket=bucket, Key=key, **wanted)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"InvalidRange", "416"}:
                raise
            head = client.head_object(Bucket=bucket, Key=key)
            if (head.get("ContentLength"), head.get("ETag")) == (offset, version):
                return None
            raise Interrupted("the object has changed", changed=True) from None
    except ClientError as error:
        answered = error.response["ResponseMetadata"]
        code, status = error.response["Error"]["Code"], answered["HTTPStatusCode"]
        if code in {"PreconditionFailed", "412"}:
            raise Interrupted("the object has changed", changed=True) from None
        if _may_pass(status):
            wait = _retry_after({"Retry-After": answered.get("HTTPHeaders", {}).get("retry-after", "")})
            raise Interrupted(f"the storage answered {status} {code}", wait=wait) from None
        raise InputError(f"s3://{bucket}/{key}: {_S3_FAULTS.get(code, _S3_REFUSED)} ({status} {code}).") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise InputError(
            f"s3://{bucket}/{key}: no credentials; export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            " (and AWS_ENDPOINT_URL for storage other than Amazon's)."
        ) from None
    except (NoConnectionError, HTTPClientError) as error:
        raise Interrupted(str(error)) from None
    except (BotoCoreError, ValueError) as error:
        raise InputError(
            f"s3://{bucket}/{key}: {error}. Check the url, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION."
        ) from None
    return answer


_S3_REFUSED = "the storage refused; check the url, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
_S3_FAULTS = {
    "NoSuchBucket": "there is no such bucket; check its name and AWS_ENDPOINT_URL",
    "NoSuchKey": "there is no such key in the bucket",
    "AccessDenied": "these credentials may not read it",
    "InvalidAccessKeyId": "the storage does not know AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not match AWS_ACCESS_KEY_ID",
}
