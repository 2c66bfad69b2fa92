"""What the environment names as a server's address is one, or it is said what to write."""

import pytest

from components.telemetry.addresses import endpoint_fault

NO_ADDRESSES = [
    "127.0.0.1:9000",
    "localhost",
    "http:/host:9000",
    "http//host",
    "ftp://host",
    "s3://host",
    "http://",
    "http://:9000",
    "http://host:90o0",
    "http://host:99999",
    "http://a host",
    "http://[::1",
]


@pytest.mark.parametrize("value", NO_ADDRESSES)
def test_what_is_none_is_named_with_what_to_write(value):
    told = f"{value!r} is no address of a server: write http://HOST:PORT or https://HOST."
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        assert endpoint_fault({name: value}) == f"{name}: {told}"


@pytest.mark.parametrize("value", ["", "http://127.0.0.1:9000", "https://s3.example.org/path", "HTTP://[::1]:9000"])
def test_an_address_is_none(value):
    assert endpoint_fault({"AWS_ENDPOINT_URL": value}) is None
