"""Objects to and from the remote: proved by size and hash, with patience for faults that pass and words for others."""

import hashlib
import os
import stat
import sys
import time
import uuid

import pytest

from pipeline.messages import PipelineError
from pipeline.storage import stores
from pipeline.storage.cache_objects import CacheObject
from pipeline.storage.faults import Missing
from pipeline.storage.remote import Remote, open_remote
from pipeline.storage.stores import Store
from tests.pipeline.refusals import refusal
from tests.pipeline.s3_server import SECRET_KEY
from tests.planted import SECRET, is_in

pytest_plugins = ["tests.pipeline.fixtures"]


class Site:
    """A remote, and a cache to push from and one to fetch into."""

    def __init__(self, folder, remote):
        self.folder = folder
        self.remote = remote

    def made(self, content=None, name="first"):
        """An object that the first cache has."""
        content = os.urandom(200) if content is None else content
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        item = self.item(digest, name)
        item.path.parent.mkdir(parents=True, exist_ok=True)
        item.path.write_bytes(content)
        return item

    def item(self, digest, name):
        return CacheObject(f"files/md5/{digest[:2]}/{digest[2:]}", self.folder / name / digest[:2] / digest[2:], digest)

    def elsewhere(self, item):
        """The same object, for the second cache."""
        return self.item(item.md5, "second")


@pytest.fixture
def set_up(s3, monkeypatch, tmp_path):
    """Opens a site at the server, or at the port of a proxy."""

    def make(port=None, bucket=None, **environment):
        url = f"s3://{bucket or s3.bucket()}/prefix"
        for name, value in {
            **s3.environment(port),
            "STORAGE_PATIENCE": "1",
            "DVC_REMOTE_URL": url,
            **environment,
        }.items():
            monkeypatch.setenv(name, value)
        return Site(tmp_path, open_remote())

    return make


@pytest.fixture(params=["s3", "folder"])
def site(request, set_up, tmp_path):
    return set_up() if request.param == "s3" else Site(tmp_path, Remote(Store(str(tmp_path / "remote"))))


@pytest.fixture
def spoiled(set_up, proxy):
    """A site behind the proxy, and the proxy."""
    return set_up(proxy.port), proxy


def reads(proxy, item):
    """Requests that read the object itself, not the list of what lies below its name."""
    return [path for method, path in proxy.seen if method == "GET" and path.partition("?")[0].endswith(item.key)]


def failing(act):
    with pytest.raises(PipelineError) as error:
        act()
    assert SECRET_KEY not in str(error.value)
    return str(error.value)


class TestBothWays:
    def test_what_is_pushed_can_be_fetched_elsewhere(self, site):
        items = [site.made(content) for content in (b"", b"x", os.urandom(100_000))]
        assert site.remote.push(items) == (3, 100_001)
        site.remote.fetch([site.elsewhere(item) for item in items])
        for item in items:
            assert site.elsewhere(item).path.read_bytes() == item.path.read_bytes()

    def test_what_is_there_is_neither_pushed_nor_fetched_again(self, site):
        item = site.made()
        site.remote.push([item])
        assert site.remote.push([item]) == (0, 0)
        site.remote.fetch([site.elsewhere(item)])
        before = site.elsewhere(item).path.stat()
        site.remote.fetch([site.elsewhere(item)])
        assert site.elsewhere(item).path.stat().st_mtime_ns == before.st_mtime_ns

    def test_fetched_objects_are_read_only_as_dvcs_cache_has_them(self, site):
        item = site.made()
        site.remote.push([item])
        site.remote.fetch([site.elsewhere(item)])
        assert stat.S_IMODE(site.elsewhere(item).path.stat().st_mode) == 0o444

    def test_an_object_damaged_at_the_remote_is_replaced_by_the_next_push(self, site):
        item = site.made(b"right content")
        site.remote.push([item])
        damaged = site.made(b"wrong content", "other")
        site.remote.store.put(item.key, damaged.path, damaged.md5)
        assert site.remote.push([item]) == (1, 13)
        site.remote.fetch([site.elsewhere(item)])

    def test_an_object_damaged_at_the_remote_is_never_taken(self, site):
        item, damaged = site.made(b"right content"), site.made(b"wrong", "other")
        site.remote.store.put(item.key, damaged.path, damaged.md5)
        told = failing(lambda: site.remote.fetch([site.elsewhere(item)]))
        assert site.remote.store.name(item.key) in told
        assert "damaged: 5 bytes" in told
        assert list(site.elsewhere(item).path.parent.iterdir()) == []

    def test_an_object_that_nobody_pushed_is_named(self, site):
        item = site.item("0" * 32, "second")
        told = failing(lambda: site.remote.fetch([item]))
        assert f"{site.remote.store.name(item.key)}: no such object. `dvc push` it" in told

    def test_a_damaged_cache_is_not_pushed(self, site):
        item = site.made(b"right")
        item.path.write_bytes(b"wrong")
        assert "damaged in the cache" in failing(lambda: site.remote.push([item]))
        with pytest.raises(Missing):
            site.remote.store.stat(item.key)

    def test_an_object_that_left_the_cache_is_named(self, site):
        assert "not in the cache" in failing(lambda: site.remote.push([site.item("1" * 32, "first")]))

    def test_keys_come_oldest_first(self, site):
        for name in ("b", "a", "c"):
            site.remote.store.put(f"runs/ab/{name}", site.made().path, site.made().md5)
            time.sleep(1.1 if site.remote.store.host else 0.02)  # S3 keeps whole seconds
        site.remote.store.put("runs/other/d", site.made().path, site.made().md5)
        assert site.remote.keys("runs/ab") == ["runs/ab/b", "runs/ab/a", "runs/ab/c"]
        assert site.remote.keys("runs/none") == []

    def test_secure_pushes_what_is_here_and_asks_for_the_rest(self, site):
        here, there = site.made(), site.made()
        site.remote.push([there])
        assert site.remote.secure([here, site.elsewhere(there)])
        assert site.remote.holds(here)
        assert not site.remote.secure([here, site.item("2" * 32, "first")])


class TestHolds:
    def test_tells_what_is_there(self, site):
        item = site.made()
        assert not site.remote.holds(item)
        site.remote.push([item])
        assert site.remote.holds(item)

    def test_an_object_without_bytes_is_not_there(self, site):
        item, empty = site.made(), site.made(b"")
        site.remote.store.put(item.key, empty.path, empty.md5)
        assert not site.remote.holds(item)
        site.remote.push([empty])
        assert site.remote.holds(empty)


class TestFaultsThatPass:
    """Every one ends well where it goes away in time."""

    @pytest.mark.parametrize(("fault", "times"), [(503, 4), (500, 1), (429, 1), ("empty", 2), ("half", 1), ("cut", 3)])
    def test_a_push_goes_on(self, fault, times, spoiled):
        site, proxy = spoiled
        site.remote.patience = 20
        left = [times]

        def spoil(method, path):
            if method != "PUT" or not left[0]:
                return None
            left[0] -= 1
            return fault

        proxy.spoil = spoil
        item = site.made()
        assert site.remote.push([item])[0] == 1
        assert left == [0]
        site.remote.fetch([site.elsewhere(item)])

    @pytest.mark.parametrize("fault", [503, "cut"])
    def test_a_fetch_goes_on(self, fault, spoiled):
        site, proxy = spoiled
        site.remote.patience = 20
        item = site.made(os.urandom(50_000))
        site.remote.push([item])
        left = [3]

        def spoil(method, path):
            if method != "GET" or not left[0]:
                return None
            left[0] -= 1
            return fault

        proxy.spoil = spoil
        site.remote.fetch([site.elsewhere(item)])
        assert left == [0]


class TestFaultsThatStay:
    @pytest.mark.parametrize(("fault", "stored"), [("empty", 0), ("half", 100)])
    def test_a_server_that_stores_less_and_says_success_is_found_out(self, fault, stored, spoiled):
        site, proxy = spoiled
        proxy.spoil = lambda method, path: fault if method == "PUT" else None
        item = site.made()
        told = failing(lambda: site.remote.push([item]))
        assert f"{stored} bytes were stored of 200, though the server said success" in told
        assert f"prefix/{item.key} at 127.0.0.1:{proxy.port}" in told

    def test_a_server_that_is_away_is_named_with_the_object(self, set_up):
        site = set_up(port=9)
        item = site.made()
        told = failing(lambda: site.remote.push([item]))
        assert f"prefix/{item.key} at 127.0.0.1:9: " in told
        assert "Gave up after 1 s" in told

    def test_a_server_that_stays_busy_is_told_as_busy(self, spoiled):
        site, proxy = spoiled
        proxy.spoil = lambda method, path: 503
        assert "the server answers 503" in failing(lambda: site.remote.push([site.made()]))

    def test_wrong_keys_are_told_at_once(self, spoiled):
        site, proxy = spoiled
        site.remote.patience = 60
        proxy.spoil = lambda method, path: 403
        start = time.monotonic()
        told = failing(lambda: site.remote.push([site.made()]))
        assert "403" in told
        assert "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in told
        assert time.monotonic() - start < 30

    def test_a_bucket_that_is_not_there_is_told_at_once(self, set_up):
        site = set_up(bucket=f"none-{uuid.uuid4().hex}", STORAGE_PATIENCE="60")
        told = failing(lambda: site.remote.push([site.made()]))
        assert "NoSuchBucket" in told
        assert "Make the bucket" in told
        assert "NoSuchBucket" in failing(lambda: site.remote.keys("runs"))

    def test_missing_keys_are_told_with_their_variables(self, set_up, monkeypatch, tmp_path):
        site = set_up()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        site.remote = open_remote()
        assert "AWS_SECRET_ACCESS_KEY" in failing(lambda: site.remote.push([site.made()]))

    def test_a_place_that_can_not_be_written_to_is_no_fault_of_the_server(self, site, tmp_path):
        item = site.made()
        site.remote.push([item])
        (tmp_path / "second").write_text("a file where a folder has to be")
        with pytest.raises((PipelineError, NotADirectoryError, FileExistsError)):
            site.remote.fetch([site.elsewhere(item)])


class TestLargeObjects:
    """Uploads in parts: their ETag is no MD5 of the content."""

    @pytest.fixture
    def parts(self, monkeypatch):
        monkeypatch.setattr(stores, "PART", 5 * 1024**2)

    def test_the_etag_of_parts_proves_the_whole_without_reading_it_back(self, parts, spoiled):
        site, proxy = spoiled
        item = site.made(os.urandom(12 * 1024**2))
        site.remote.push([item])
        assert "-3" in site.remote.store.stat(item.key).tag
        assert not reads(proxy, item)
        site.remote.fetch([site.elsewhere(item)])

    def test_an_etag_of_other_parts_is_settled_by_reading_back(self, parts, spoiled, monkeypatch):
        site, proxy = spoiled
        item = site.made(os.urandom(12 * 1024**2))
        site.remote.push([item])
        monkeypatch.setattr(stores, "PART", 6 * 1024**2)
        assert site.remote.push([item]) == (0, 0)
        assert reads(proxy, item)

    @pytest.mark.parametrize("fault", ["half", "empty"])
    def test_a_part_that_was_not_stored_is_found_out(self, fault, parts, spoiled):
        site, proxy = spoiled
        proxy.spoil = lambda method, path: fault if "partNumber=3" in path else None
        item = site.made(os.urandom(12 * 1024**2))
        assert "though the server said success" in failing(lambda: site.remote.push([item]))


def test_no_remote_is_none(monkeypatch):
    monkeypatch.delenv("DVC_REMOTE_URL", raising=False)
    assert open_remote() is None


OTHER_REMOTES = (
    *("ftp://bucket", f"https://user:{SECRET}@host/x", f"https://host/x?token={SECRET}", "s3:/bucket", "s3:///prefix"),
    *("s3://", "s3:bucket", "S3://bucket", "gs:/bucket", f"user:{SECRET}@host:/x", "user@host:x"),
)


def test_a_folder_that_can_not_take_an_object_is_named(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below", "/proc/x", "/dev/null"):
        site = Site(tmp_path, Remote(Store(str(place))))
        site.remote.patience = 0.0
        assert f"{place}/" in failing(lambda site=site: site.remote.push([site.made()]))


LOCK = "schema: '2.0'\nstages:\n  fetch@sr:\n    cmd: x\n"
COMMANDS = (["plan"], ["compare"], ["task", "--stage", "fetch@sr"], ["publish", "--upstream", "lock"])


@pytest.mark.parametrize("url", OTHER_REMOTES)
def test_other_remotes_are_refused(url, monkeypatch):
    monkeypatch.setenv("DVC_REMOTE_URL", url)
    with pytest.raises(PipelineError, match=r"DVC_REMOTE_URL: .*: expected s3://BUCKET/PREFIX or a folder's path"):
        open_remote()


def test_every_command_refuses_them_without_what_the_url_holds(project, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    (project.folder / "lock").write_text(LOCK)
    for url in OTHER_REMOTES[:5]:
        monkeypatch.setenv("DVC_REMOTE_URL", url)
        for words in COMMANDS:
            told = refusal(words, capsys)
            assert told.startswith("DVC_REMOTE_URL: "), (url, words, told)
            assert not is_in(told)


def test_every_command_refuses_an_endpoint_that_is_no_address(project, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    (project.folder / "lock").write_text(LOCK)
    monkeypatch.setenv("DVC_REMOTE_URL", "s3://bucket/prefix")
    for value in ("127.0.0.1:9000", "localhost", "http:/host:9000", "ftp://host", "http://host:90o0"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", value)
        for words in (*COMMANDS, ["local", "--image", "image"]):
            told = refusal(words, capsys)
            assert (
                told
                == f"AWS_ENDPOINT_URL: {value!r} is no address of a server: write http://HOST:PORT or https://HOST."
            )


@pytest.mark.parametrize(("kind", "package"), [("gs", "dvc-gs"), ("azure", "dvc-azure"), ("ssh", "dvc-ssh")])
def test_a_remote_whose_package_is_not_installed_names_it(kind, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(PipelineError, match=f"DVC_REMOTE_URL: {kind}:// needs the package {package}") as error:
        Store(f"{kind}://user:secret@host/x")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("patience", ["long", "60s", "nan", "inf", "-1"])
def test_a_patience_that_is_no_number_of_seconds_is_named(patience, monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_REMOTE_URL", str(tmp_path))
    monkeypatch.setenv("STORAGE_PATIENCE", patience)
    with pytest.raises(PipelineError, match=f"STORAGE_PATIENCE: '{patience}': expected a number of seconds, 0 or more"):
        open_remote()
