import re
import time
from email.utils import formatdate

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from components.fetching.servers import Interrupted, ask_http, ask_s3, shown
from components.run.errors import InputError
from tests.fetching.range_server import Fault, range_server

BODY = bytes(range(256)) * 64


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with range_server() as running:
        running.files["/a.bin"] = BODY
        yield running


def answer(ask, url, offset=0, version=""):
    with ask(url, offset, version) as found:
        return found.start, found.total, found.version, b"".join(found.blocks)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:secret@host:8080/a/b.zip?sig=secret#part", "https://host:8080/a/b.zip"),
        ("http://user:se@cret@host/b.zip", "http://host/b.zip"),
        ("http://host/folder@1/b.zip", "http://host/folder@1/b.zip"),
        ("ftp://user:secret@host/b.zip", "ftp://host/b.zip"),
        ("file:a#b?c@d.png", "file:a#b?c@d.png"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, expected):
    assert shown(url) == expected


def test_http_gives_the_whole_file_its_size_and_version(server):
    assert answer(ask_http, f"{server.url}/a.bin") == (0, len(BODY), '"first"', BODY)


def test_http_gives_the_rest_of_the_version_asked_for(server):
    assert answer(ask_http, f"{server.url}/a.bin", 1000, '"first"') == (1000, len(BODY), '"first"', BODY[1000:])
    assert server.sent == [len(BODY) - 1000]


def test_http_gives_the_whole_file_where_the_version_is_another(server):
    assert answer(ask_http, f"{server.url}/a.bin", 1000, '"old"') == (0, len(BODY), '"first"', BODY)


def test_http_gives_the_whole_file_where_the_server_ignores_ranges(server):
    server.script.append(Fault(ranges=False))
    assert answer(ask_http, f"{server.url}/a.bin", 1000, '"first"')[0] == 0


def test_http_gives_nothing_after_the_last_byte(server):
    assert answer(ask_http, f"{server.url}/a.bin", len(BODY), '"first"') == (len(BODY), len(BODY), '"first"', b"")


@pytest.mark.parametrize("offset", [1000, len(BODY) + 1])
def test_http_notices_another_file_where_the_server_ignores_if_range(server, offset):
    server.script.append(Fault(if_range=False))
    with pytest.raises(Interrupted, match="the file on the server has changed") as trouble:
        answer(ask_http, f"{server.url}/a.bin", offset, '"old"')
    assert trouble.value.changed


def test_http_refuses_a_rest_that_begins_elsewhere(server):
    server.script.append(Fault(headers={"Content-Range": f"bytes 999-{len(BODY) - 1}/{len(BODY)}"}))
    with pytest.raises(Interrupted) as trouble:
        answer(ask_http, f"{server.url}/a.bin", 1000, '"first"')
    assert trouble.value.changed


def test_http_takes_the_date_where_the_tag_is_weak(server):
    server.etag, server.modified = 'W/"first"', "Wed, 01 Jan 2020 00:00:00 GMT"
    assert answer(ask_http, f"{server.url}/a.bin")[2] == server.modified
    assert answer(ask_http, f"{server.url}/a.bin", 1000, server.modified)[0] == 1000


def test_http_takes_a_body_of_unknown_size(server):
    server.script.append(Fault(chunked=True))
    assert answer(ask_http, f"{server.url}/a.bin") == (0, None, '"first"', BODY)


def test_http_keeps_the_bytes_as_they_are_even_where_the_server_calls_them_packed(server):
    server.script.append(Fault(headers={"Content-Encoding": "gzip"}))
    assert answer(ask_http, f"{server.url}/a.bin")[3] == BODY
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("fault", [Fault(cut=5000), Fault(claim=len(BODY) + 1), Fault(chunked=True, cut=5000)])
def test_http_notices_a_body_that_ends_early(server, fault):
    server.script.append(fault)
    with pytest.raises(Interrupted):
        answer(ask_http, f"{server.url}/a.bin")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_http_trouble_that_may_pass_is_told_apart(server, status):
    server.script.append(Fault(status=status))
    with pytest.raises(Interrupted, match=str(status)) as trouble:
        answer(ask_http, f"{server.url}/a.bin")
    assert trouble.value.wait is None
    assert not trouble.value.changed


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (lambda: "7", 7, 7),
        (lambda: formatdate(time.time() + 1000, usegmt=True), 900, 1000),
        (lambda: "soon", None, None),
    ],
    ids=["seconds", "date", "neither"],
)
def test_http_reads_how_long_the_server_asks_to_wait(server, header, least, most):
    server.script.append(Fault(status=503, headers={"Retry-After": header()}))
    with pytest.raises(Interrupted) as trouble:
        answer(ask_http, f"{server.url}/a.bin")
    wait = trouble.value.wait
    assert wait is None if least is None else least <= wait <= most


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_http_refusals_name_url_and_status_and_hide_secrets(server, status):
    server.script.append(Fault(status=status))
    with pytest.raises(InputError, match=rf"http://{server.address}/a.bin: the server answered {status} ") as refusal:
        answer(ask_http, f"http://user:secret@{server.address}/a.bin?signature=secret")
    assert "secret" not in str(refusal.value)
    assert server.requests[0][1]["Authorization"].startswith("Basic ")
    assert server.requests[0][0] == "/a.bin?signature=secret"


@pytest.mark.parametrize(
    "url", ["http://user:secret@127.0.0.1:{port}/a?s=secret", "http://user:secret@nowhere.invalid/a?s=secret"]
)
def test_http_without_a_server_gives_the_cause_and_no_secret(url, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with range_server() as gone:
        port = gone.address.rpartition(":")[2]
    with pytest.raises(Interrupted, match=r"(?i)refused|name|temporary|address") as trouble:
        answer(ask_http, url.format(port=port))
    assert "secret" not in str(trouble.value)


def test_http_a_broken_url_is_refused_without_its_secret():
    with pytest.raises(InputError, match="Check the url") as refusal:
        answer(ask_http, "http://user:secret@/a?s=secret")
    assert "secret" not in str(refusal.value)


def test_http_a_redirect_in_circles_is_refused(server):
    server.script.extend([Fault(status=302, headers={"Location": "/a.bin"})] * 40)
    with pytest.raises(InputError, match=r"the server redirects in circles\. Check the url"):
        answer(ask_http, f"{server.url}/a.bin")


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def storage(moto, monkeypatch, tmp_path):
    """An empty environment but for a storage on 127.0.0.1 with one bucket and one object."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    requests.post(f"{moto}/moto-api/reset", timeout=10)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    client = boto3.Session().client("s3")
    client.create_bucket(Bucket="sets")
    client.put_object(Bucket="sets", Key="folder/a.bin", Body=BODY)
    return client


def test_s3_gives_the_whole_object_its_rest_and_nothing_after_it(storage):
    start, total, version, body = answer(ask_s3, "s3://sets/folder/a.bin")
    assert (start, total, body) == (0, len(BODY), BODY)
    assert answer(ask_s3, "s3://sets/folder/a.bin", 1000, version) == (1000, len(BODY), version, BODY[1000:])
    assert answer(ask_s3, "s3://sets/folder/a.bin", len(BODY), version) == (len(BODY), len(BODY), version, b"")


@pytest.mark.parametrize("offset", [1000, len(BODY)])
def test_s3_notices_another_object(storage, offset):
    version = answer(ask_s3, "s3://sets/folder/a.bin")[2]
    storage.put_object(Bucket="sets", Key="folder/a.bin", Body=BODY[::-1])
    with pytest.raises(Interrupted, match="the object has changed") as trouble:
        answer(ask_s3, "s3://sets/folder/a.bin", offset, version)
    assert trouble.value.changed


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://gone/a.bin", "no such bucket"),
        ("s3://sets/gone.bin", "no such key"),
        ("s3://sets", "write s3://BUCKET/KEY"),
        ("s3:///key", "write s3://BUCKET/KEY"),
        ("s3://a bad name/key", "Invalid bucket name"),
    ],
)
@pytest.mark.usefixtures("storage")
def test_s3_refusals_say_what_is_missing(url, reason):
    with pytest.raises(InputError, match=reason) as refusal:
        answer(ask_s3, url)
    assert str(refusal.value).startswith(url)


@pytest.mark.usefixtures("storage")
def test_s3_without_keys_says_which_variables_to_export(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="no credentials; export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        answer(ask_s3, "s3://sets/folder/a.bin")


@pytest.mark.usefixtures("storage")
def test_s3_without_a_server_names_the_endpoint(monkeypatch):
    with range_server() as gone:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gone.url)
    with pytest.raises(Interrupted, match=f"Could not connect to the endpoint URL: .{gone.url}"):
        answer(ask_s3, "s3://sets/folder/a.bin")


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL", "not a url"), ("AWS_ENDPOINT_URL_S3", "127.0.0.1:9000")]
)
@pytest.mark.usefixtures("storage")
def test_s3_with_an_endpoint_that_is_no_address_is_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"s3://sets/folder/a.bin: {name}: '{re.escape(value)}' is no address of a"):
        answer(ask_s3, "s3://sets/folder/a.bin")


@pytest.mark.parametrize(
    ("fault", "changed"),
    [(Fault(cut=5000), False), (Fault(headers={"x-amz-checksum-crc32": "AAAAAA=="}), True)],
    ids=["cut", "checksum"],
)
@pytest.mark.usefixtures("storage")
def test_s3_notices_a_body_that_ends_early_or_does_not_fit_its_checksum(server, monkeypatch, fault, changed):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.files["/sets/a.bin"] = BODY
    server.script.append(fault)
    with pytest.raises(Interrupted) as trouble:
        answer(ask_s3, "s3://sets/a.bin")
    assert trouble.value.changed is changed


@pytest.mark.usefixtures("storage")
def test_s3_starts_anew_where_the_storage_ignores_ranges(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.files["/sets/a.bin"] = BODY
    server.script.append(Fault(ranges=False))
    assert answer(ask_s3, "s3://sets/a.bin", 1000, '"first"') == (0, len(BODY), '"first"', BODY)


@pytest.mark.parametrize(("offset", "version"), [(len(BODY) + 1, '"first"'), (len(BODY), '"old"')])
@pytest.mark.usefixtures("storage")
def test_s3_notices_another_object_where_the_storage_ignores_versions(server, monkeypatch, offset, version):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.files["/sets/a.bin"] = BODY
    with pytest.raises(Interrupted) as trouble:
        answer(ask_s3, "s3://sets/a.bin", offset, version)
    assert trouble.value.changed


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.usefixtures("storage")
def test_s3_trouble_that_may_pass_is_told_apart_and_asked_once(server, monkeypatch, status):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.script.extend([Fault(status=status, headers={"Retry-After": "7"})] * 9)
    with pytest.raises(Interrupted, match=f"the storage answered {status}") as trouble:
        answer(ask_s3, "s3://sets/a.bin")
    assert trouble.value.wait == 7
    assert len(server.requests) == 1


@pytest.mark.usefixtures("storage")
def test_s3_that_is_none_says_what_to_check(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.script.append(Fault(status=418))
    with pytest.raises(InputError, match="the storage refused; check the url, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"):
        answer(ask_s3, "s3://sets/a.bin")
