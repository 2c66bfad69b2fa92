import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest
from urllib3.util import Retry

from components.fetching import downloads, servers
from components.fetching.downloads import RETRY, alone, download
from components.fetching.servers import ask_http, ask_s3
from components.run.errors import InputError
from tests.fetching.range_server import Fault, range_server

BODY = bytes(range(256)) * 8192  # 2 MiB
AT_ONCE = Retry(total=3)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with range_server() as running:
        running.files["/a.bin"] = BODY
        yield running


@pytest.fixture
def partial(tmp_path) -> Path:
    return tmp_path / "name.partial"


def fetch(server, partial) -> bytes:
    download(ask_http, f"{server.url}/a.bin", partial, AT_ONCE)
    return partial.read_bytes()


def test_a_broken_connection_goes_on_where_it_broke(server, partial):
    server.script.extend([Fault(cut=1_000_000), Fault(cut=500_000)])
    assert fetch(server, partial) == BODY
    assert server.ranges() == [None, "bytes=1000000-", "bytes=1500000-"]
    assert server.sent == [1_000_000, 500_000, len(BODY) - 1_500_000]


def test_a_second_run_goes_on_where_the_first_gave_up(server, partial):
    server.script.extend([Fault(cut=1_000_000), *[Fault(status=500)] * 4])
    with pytest.raises(InputError, match=r"500 .*gave up. The bytes received so far are kept"):
        fetch(server, partial)
    assert fetch(server, partial) == BODY
    assert server.ranges()[-1] == "bytes=1000000-"
    assert server.sent[-1] == len(BODY) - 1_000_000


def test_a_changed_file_is_not_glued_together(server, partial):
    server.script.extend([Fault(cut=1_000_000), *[Fault(status=500)] * 4])
    with pytest.raises(InputError):
        fetch(server, partial)
    server.files["/a.bin"], server.etag = BODY[::-1], '"second"'
    assert fetch(server, partial) == BODY[::-1]


def test_a_changed_file_is_not_glued_together_where_the_server_ignores_if_range(server, partial):
    server.script.extend([Fault(cut=1_000_000), *[Fault(status=500)] * 4])
    with pytest.raises(InputError):
        fetch(server, partial)
    server.files["/a.bin"], server.etag = BODY[::-1], '"second"'
    server.script.extend([Fault(if_range=False)] * 10)
    assert fetch(server, partial) == BODY[::-1]
    assert server.ranges()[-2:] == ["bytes=1000000-", None]


def test_a_server_that_gives_less_than_the_rest_is_asked_for_more(server, partial):
    server.script.extend([Fault(cut=1_000_000), Fault(at_most=300_000), Fault(at_most=300_000)])
    assert fetch(server, partial) == BODY
    assert server.ranges() == [None, "bytes=1000000-", "bytes=1300000-", "bytes=1600000-"]


def test_a_server_that_ignores_ranges_is_read_anew(server, partial):
    server.script.extend([Fault(cut=1_000_000), Fault(ranges=False)])
    assert fetch(server, partial) == BODY


def test_without_a_version_every_try_starts_anew(server, partial):
    server.etag = None
    server.script.append(Fault(cut=1_000_000))
    assert fetch(server, partial) == BODY
    assert server.ranges() == [None, None]


def test_a_size_claimed_too_large_is_settled_by_asking_for_the_rest(server, partial):
    server.script.append(Fault(claim=len(BODY) + 100))
    assert fetch(server, partial) == BODY
    assert server.sent == [len(BODY), *server.sent[1:]]


def test_trouble_without_a_new_byte_ends_after_the_tries(server, partial):
    server.script.extend([Fault(status=503)] * 10)
    with pytest.raises(InputError, match="503 Service Unavailable; gave up"):
        fetch(server, partial)
    assert len(server.requests) == 1 + 3


def test_every_new_byte_renews_the_tries(server, partial):
    server.script.extend([Fault(cut=270_000)] * 7)
    assert fetch(server, partial) == BODY
    assert len(server.requests) == 8


def test_a_server_that_always_breaks_at_the_same_byte_is_given_up(server, partial):
    server.etag = None
    server.script.extend([Fault(cut=600_000)] * 20)
    with pytest.raises(InputError, match="gave up"):
        fetch(server, partial)
    assert len(server.requests) == 1 + 3  # bytes that an earlier try had brought do not count


def test_a_refusal_is_not_tried_again(server, partial):
    server.script.append(Fault(status=404))
    with pytest.raises(InputError, match="404 Not Found"):
        fetch(server, partial)
    assert len(server.requests) == 1
    assert not partial.exists()


def test_the_server_s_wish_to_wait_is_honoured(server, partial, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    server.script.extend([Fault(status=503, headers={"Retry-After": "7"}), Fault(status=429)])
    assert fetch(server, partial) == BODY
    assert waits == [7, 0]


def test_a_server_that_asks_to_wait_very_long_is_left(server, partial):
    server.script.append(Fault(status=503, headers={"Retry-After": "3600"}))
    with pytest.raises(InputError, match="asks to wait 3600 seconds"):
        fetch(server, partial)


def test_waits_double_and_differ():
    retry = RETRY
    for least in (0, 2, 4, 8, 16):
        retry = retry.increment(error=OSError())
        assert least <= retry.get_backoff_time() <= least + 1
    assert len({retry.get_backoff_time() for _ in range(10)}) > 1


def test_a_full_disk_names_the_file(server, partial):
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as full:
        fetch(server, partial)
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(partial))


def test_no_secret_reaches_the_log(server, partial, caplog):
    server.script.extend([Fault(status=503), Fault(cut=10)])
    with caplog.at_level("INFO"):
        download(ask_http, f"http://user:secret@{server.address}/a.bin?sig=secret", partial, AT_ONCE)
    assert "503 Service Unavailable; trying again" in caplog.text
    assert "secret" not in caplog.text


def test_a_second_run_waits_for_the_first(tmp_path):
    code = f"""
import logging, pathlib
logging.basicConfig(level=logging.INFO, format="%(message)s")
from components.fetching.downloads import alone
with alone(pathlib.Path({str(tmp_path)!r})):
    pathlib.Path({str(tmp_path / "told")!r}).write_text("second")
"""
    with alone(tmp_path):
        second = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert "another run is downloading" in second.stderr.readline()
        assert not (tmp_path / "told").exists()
    second.communicate()
    assert (tmp_path / "told").read_text() == "second"


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_every_server_is_asked_by_one_policy(server, partial, monkeypatch, scheme):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    for name, value in {"ENDPOINT_URL": server.url, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    url, ask = {"http": (f"{server.url}/a.bin", ask_http), "s3": ("s3://sets/a.bin", ask_s3)}[scheme]
    server.script.extend([Fault(status=503)] * 20)
    with pytest.raises(InputError, match=r"503.*; gave up. The bytes received so far are kept: check the url, and run"):
        download(ask, url, partial)
    assert len(server.requests) == 6
    assert [int(least <= wait <= least + 1) for least, wait in zip((0, 2, 4, 8, 16), waits, strict=True)] == [1] * 5


def in_bytes(data: bytes) -> tuple[bytes, ...]:
    return tuple(bytes([byte]) for byte in data)


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [in_bytes(ANSWER), (ANSWER, *in_bytes(bytes(1000))), (CHUNKED, *[b"1\r\nx\r\n"] * 99)],
    ids=["header", "body", "chunks"],
)
def test_a_server_that_sends_a_byte_now_and_then_is_left(server, partial, monkeypatch, raw):
    monkeypatch.setattr(servers, "SILENCE_SECONDS", 0.4)
    server.script.extend([Fault(raw=raw, drip=0.1)] * 2)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"less than 32768 bytes came within 0.4 seconds; gave up"):
        download(ask_http, f"{server.url}/a.bin", partial, Retry(total=1, backoff_factor=0))
    assert time.monotonic() - began < 5
    assert fetch(server, partial) == BODY


def test_a_slow_server_that_goes_on_is_waited_for(server, partial, monkeypatch):
    monkeypatch.setattr(servers, "SILENCE_SECONDS", 0.5)
    part = b"%x\r\n%b\r\n" % (servers.PIECE, bytes(servers.PIECE))
    server.script.append(Fault(raw=(CHUNKED, *[part] * 4, b"0\r\n\r\n"), drip=0.3))
    download(ask_http, f"{server.url}/a.bin", partial, AT_ONCE)
    assert partial.stat().st_size == 4 * servers.PIECE
    assert len(server.requests) == 1
