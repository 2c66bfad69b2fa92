"""Objects in a bucket behind an S3 API, with faults told as those that pass and those that stay."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnectionError
from s3transfer.exceptions import RetriesExceededError
from typing_extensions import override
from urllib3.exceptions import HTTPError

from pipeline.messages import PipelineError
from pipeline.storage.stores import PART, Missing, Stat, Store, Unavailable, local_faults

_GATEWAY_CODES = {429, 500, 502, 503, 504}
_PASSING = {"RequestTimeout", "BadDigest", "SlowDown", "InternalError", "RequestTimeTooSkewed"}
_NO_ANSWER = (NoConnectionError, HTTPClientError, IncompleteReadError, HTTPError, ConnectionError)
_MISSING = {"404", "NoSuchKey", "NotFound"}


class S3Store(Store):
    """Objects in a bucket; endpoint, region and keys come from the environment alone, as boto3 reads them."""

    def __init__(self, url: str) -> None:
        """Take `s3://bucket/prefix`."""
        parts = urlsplit(url)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        config = Config(
            retries={"total_max_attempts": 2, "mode": "standard"},
            connect_timeout=10,
            max_pool_connections=80,
            # Not every server of this API knows the checksums that boto3 sends by default; ours is the MD5.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._told(""):
            self.client: Any = boto3.session.Session().client("s3", config=config)
        self.parts = TransferConfig(
            multipart_threshold=PART + 1, multipart_chunksize=PART, max_concurrency=4, num_download_attempts=1
        )

    @property
    def host(self) -> str:
        """Host and port of the endpoint."""
        return str(urlsplit(self.client.meta.endpoint_url).netloc.rpartition("@")[2])

    @override
    def name(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)} at {self.host}"

    @override
    def stat(self, key: str) -> Stat:
        with self._told(key):
            head = self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        return Stat(head["ContentLength"], head["LastModified"].timestamp(), head.get("ETag", "").strip('"') or None)

    @override
    def get(self, key: str, path: Path) -> None:
        with self._told(key), local_faults(path), path.open("wb") as file:
            self.client.download_fileobj(self.bucket, self._key(key), file, Config=self.parts)

    @override
    def md5(self, key: str) -> str:
        found = hashlib.md5(usedforsecurity=False)
        with self._told(key):
            body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"]
            for block in body.iter_chunks(1024**2):
                found.update(block)
        return found.hexdigest()

    @override
    def put(self, key: str, path: Path, md5: str) -> None:
        place = {"Bucket": self.bucket, "Key": self._key(key)}
        with self._told(key), path.open("rb") as file:
            if path.stat().st_size <= PART:
                self.client.put_object(**place, Body=file, ContentMD5=b64encode(bytes.fromhex(md5)).decode())
            else:
                self.client.upload_fileobj(file, **place, Config=self.parts)

    @override
    def keys(self, prefix: str) -> list[str]:
        with self._told(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{self._key(prefix)}/"
            )
            found = [entry for page in pages for entry in page.get("Contents", [])]
        start = len(self._key("x")) - 1
        return [entry["Key"][start:] for entry in sorted(found, key=lambda entry: entry["LastModified"])]

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Tell faults that pass from those that stay, with the object and the host, and no secret."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status in _GATEWAY_CODES or code in _PASSING:
                raise Unavailable(f"the server answers {status} {code}") from None
            if code in _MISSING:
                raise Missing from None
            raise PipelineError(f"{self.name(key)}: {status} {code}. {_advice(status, code)}") from None
        except RetriesExceededError as error:
            raise Unavailable(" ".join(str(error.last_exception).split())) from None
        except _NO_ANSWER as error:
            raise Unavailable(" ".join(str(error).split())) from None
        except BotoCoreError as error:
            raise PipelineError(f"s3://{self.bucket}: {error}. {_advice(403, '')}") from None


def _advice(status: int, code: str) -> str:
    if code == "NoSuchBucket":
        return "Make the bucket, or mend DVC_REMOTE_URL."
    if status in {401, 403}:
        return "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and the bucket's policy."
    return "Check DVC_REMOTE_URL, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION."
