import hashlib
import re
from pathlib import Path

import pytest
from urllib3.util import Retry

from components.fetching.sources import located, stored_name
from components.images.datasets import SourceFile
from components.run.errors import InputError
from tests.fetching.range_server import Fault, range_server

BODY = bytes(range(256)) * 4096  # 1 MiB
SUM = hashlib.sha256(BODY).hexdigest()
WRONG = "0" * 64
AT_ONCE = Retry(total=2)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with range_server() as running:
        running.files["/a.bin"] = BODY
        yield running


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache" / "downloads"


def content(cache, url, sha256=None) -> bytes:
    with located(SourceFile(url=url, sha256=sha256), cache, AT_ONCE) as path:
        return path.read_bytes()


def kept(cache) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


@pytest.mark.parametrize("url", ["file:gone.tar", "file:$UNSET_SETS/a.tar"])
def test_a_file_that_a_clusters_task_lacks_is_told_with_the_way_out(url, cache, monkeypatch):
    monkeypatch.delenv("DVC_REMOTE_URL", raising=False)
    with pytest.raises(InputError) as here:
        content(cache, url)
    monkeypatch.setenv("DVC_REMOTE_URL", "s3://bucket")
    with pytest.raises(InputError) as there:
        content(cache, url)
    assert str(there.value) == (
        f"{here.value} A cluster's task has no such file: run `dvc repro fetch` and `dvc push --run-cache fetch` on a "
        "machine that has it, commit params.yaml, dvc.yaml and dvc.lock, and submit that revision."
    )


def test_package_reads_a_file_of_an_installed_package_in_place(cache):
    import numpy as np
    from skimage import data, io

    file = SourceFile(url="package:skimage/data/chelsea.png")
    with located(file, cache) as path:
        np.testing.assert_array_equal(io.imread(path), data.chelsea())
    assert not cache.exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("package:not_there/a.png", "no package 'not_there' is installed"),
        ("package:skimage.not_there/a.png", "no package 'skimage.not_there' is installed"),
        ("package:/a.png", "no package '' is installed"),
        ("package:skimage/data/gone.png", "the installed skimage has no file 'data/gone.png'"),
        ("package:skimage/data", "the installed skimage has no file 'data'"),
    ],
)
def test_package_faults_name_the_package_or_the_file(cache, url, reason):
    with pytest.raises(InputError, match=re.escape(f"{url}: {reason}")):
        content(cache, url)


def test_file_is_read_in_place_relative_to_the_working_directory_with_home_and_variables(cache, tmp_path, monkeypatch):
    (tmp_path / "a b#1.bin").write_bytes(BODY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SETS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("a b#1.bin", "$SETS/a b#1.bin", "${SETS}/a b#1.bin", "~/a b#1.bin", f"//{tmp_path}/a b#1.bin"):
        assert content(cache, f"file:{place}", SUM) == BODY
    assert not cache.exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("$UNSET_SETS/a.tar", "the variable UNSET_SETS is not set; `export UNSET_SETS=...`"),
        ("gone.tar", "gone.tar: not found"),
        ("folder", "folder: is a folder"),
        ("a$", "a lone $"),
    ],
)
def test_file_faults_name_the_path_or_the_variable(cache, tmp_path, monkeypatch, place, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSET_SETS", raising=False)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=re.escape(reason)):
        content(cache, f"file:{place}")


def test_an_unknown_scheme_lists_those_there_are(cache):
    with pytest.raises(InputError) as refusal:
        content(cache, "htps://user:secret@host/a.zip")
    assert "'htps'. Did you mean 'https'? There are: file, http, https, package, s3." in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_download_with_a_checksum_is_kept_under_it_and_never_asked_for_again(server, cache):
    for _ in range(2):
        assert content(cache, f"{server.url}/a.bin", SUM) == BODY
    assert len(server.requests) == 1
    assert kept(cache) == [SUM]


def test_a_damaged_copy_in_the_cache_is_fetched_anew(server, cache):
    content(cache, f"{server.url}/a.bin", SUM)
    (cache / SUM).write_bytes(BODY[:-1] + b"x")
    assert content(cache, f"{server.url}/a.bin", SUM) == BODY
    assert server.ranges() == [None, None]


def test_a_download_without_a_checksum_says_the_one_found_and_asks_the_server_whether_it_changed(server, cache, caplog):
    assert content(cache, f"{server.url}/a.bin") == BODY
    assert f"no sha256 to verify it with; record the one found, sha256: {SUM}" in caplog.text
    assert content(cache, f"{server.url}/a.bin") == BODY
    assert server.ranges() == [None, f"bytes={len(BODY)}-"]
    assert server.sent[1] == 0
    server.files["/a.bin"], server.etag = BODY[::-1], '"second"'
    assert content(cache, f"{server.url}/a.bin") == BODY[::-1]


def test_recording_the_checksum_later_does_not_download_again(server, cache):
    content(cache, f"{server.url}/a.bin")
    assert content(cache, f"{server.url}/a.bin", SUM) == BODY
    assert len(server.requests) == 1
    assert kept(cache) == [SUM]


def test_a_wrong_checksum_names_the_file_and_both_sums_and_keeps_nothing(server, cache):
    with pytest.raises(InputError, match=f"{server.url}/a.bin: wrong checksum: expected sha256 {WRONG}, found {SUM}"):
        content(cache, f"{server.url}/a.bin", WRONG)
    assert kept(cache) == []


def test_a_wrong_checksum_of_a_file_on_this_machine_leaves_it_alone(cache, tmp_path):
    (tmp_path / "a.bin").write_bytes(BODY)
    with pytest.raises(InputError, match=f"expected sha256 {WRONG}, found {SUM}"):
        content(cache, f"file:{tmp_path}/a.bin", WRONG)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_partial_download_stays_for_the_next_run(server, cache):
    server.script.extend([Fault(cut=600_000), *[Fault(status=500)] * 3])
    with pytest.raises(InputError, match="gave up"):
        content(cache, f"{server.url}/a.bin", SUM)
    assert kept(cache) == [f"{SUM}.partial", f"{SUM}.version"]
    size = (cache / f"{SUM}.partial").stat().st_size
    assert content(cache, f"{server.url}/a.bin", SUM) == BODY
    assert server.ranges()[-1] == f"bytes={size}-"
    assert kept(cache) == [SUM]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (SourceFile(url="https://host/folder/a%20b.zip?sig=1"), "a b.zip"),
        (SourceFile(url="package:skimage/data/chelsea.png"), "chelsea.png"),
        (SourceFile(url="file:a%20#1.png"), "a%20#1.png"),
        (SourceFile(url="s3://sets/folder/a.zip"), "a.zip"),
        (SourceFile(url="https://host/download?id=7", name="train/a.zip"), "train/a.zip"),
    ],
)
def test_a_file_is_stored_under_its_name_or_the_last_part_of_its_url(file, name):
    assert stored_name(file) == name


@pytest.mark.parametrize(
    "file", [{"url": "https://host/"}, {"url": "https://host/a", "name": "../a"}, {"url": "https://h/..%2Fa"}]
)
def test_a_name_that_leads_out_or_is_missing_is_refused(file):
    with pytest.raises(InputError, match="write another as `name`"):
        stored_name(SourceFile(**file))


@pytest.mark.parametrize("url", ["/data/set.zip", "data/set.zip", "./set.zip", "set.zip", "~/set.zip", "C:\\set.zip"])
def test_a_path_in_place_of_a_url_is_told_how_to_write_it(url, cache):
    for act in (lambda: stored_name(SourceFile(url=url)), lambda: content(cache, url)):
        with pytest.raises(InputError) as refusal:
            act()
        assert str(refusal.value) == f"{url}: no url; for a file on this machine write `file:` before it: file:{url}"
