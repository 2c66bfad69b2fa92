"""Addresses that the environment names, checked before a library takes one for something else."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_S3 = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_HTTP = ("http", "https")


def endpoint_fault(environment: Mapping[str, str] = os.environ) -> str | None:
    """What is wrong with the address of the S3 server; None if it is right, or none is named."""
    return next(filter(None, (address_fault(name, environment.get(name, "")) for name in _S3)), None)


def address_fault(name: str, value: str) -> str | None:
    """What is wrong with the value of a variable that names an HTTP server; None if it is right, or empty."""
    try:
        parts = urlsplit(value)
        known = parts.scheme in _HTTP and parts.hostname and parts.port != 0 and not re.search(r"\s", value)
    except ValueError:  # a port that is no number, or brackets without an IPv6 address
        known = False
    if known or not value:
        return None
    return f"{name}: {value!r} is no address of a server: write http://HOST:PORT or https://HOST."
