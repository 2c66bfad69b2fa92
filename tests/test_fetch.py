import hashlib
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from components.fetch import DOWNLOADS, fetch, main
from components.images.datasets import Collection, Dataset, Source
from components.run.errors import InputError
from components.run.params import typed
from tests.fetching.range_server import Fault, range_server

PROJECT = Path(__file__).parent.parent
COLLECTION = Collection(training=("one",), validation=("two",), test=("one",), checkpoints=("weights",))
DATASETS = {name: Dataset(source=name, clean=("*.png",)) for name in ("one", "two", "spare")}
BODY = hashlib.shake_128(b"body").digest(3 << 20)
COMMAND = [sys.executable, "-m", "components", "fetch", "--collection", "sr", "--raw", "data/raw/sr"]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """An empty project as the working directory, in which the steps can be imported."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def server():
    with range_server() as running:
        yield running


def sources(**files) -> dict[str, Source]:
    """Sources `one`, `two` and `weights` of a small file each, but for those given."""
    Path("small.bin").write_bytes(b"small")
    default = {name: [{"url": "file:small.bin"}] for name in ("one", "two", "weights", "spare")}
    return typed(dict[str, Source], {name: {"files": given} for name, given in {**default, **files}.items()}, "sources")


def run(files, **options) -> subprocess.CompletedProcess[str]:
    write_params(files)
    return subprocess.run(COMMAND, capture_output=True, text=True, check=False, **options)


def write_params(files) -> None:
    values = {
        "collections": {"sr": {split: ["one"] for split in ("training", "validation", "test")}},
        "sources": {"one": {"files": files}},
        "datasets": {"one": {"source": "one", "clean": ["*"]}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(values))


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def zipped(content: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, body in content.items():
            file.writestr(name, body)
    return data.getvalue()


def test_every_source_that_the_collection_names_gets_its_folder_and_no_other():
    fetch(COLLECTION, sources(), DATASETS, Path("data/raw/sr"))
    assert tree("data/raw") == {f"sr/{name}/small.bin": b"small" for name in ("one", "two", "weights")}


def test_archives_are_unpacked_in_place_and_not_kept_beside():
    Path("set.zip").write_bytes(zipped({"set/a.png": b"1"}))
    with tarfile.open("set.tgz", "w:gz") as file:
        file.add("set.zip", "inner.zip")
    files = [{"url": "file:set.zip", "unpack": True}, {"url": "file:set.tgz", "unpack": True}]
    fetch(COLLECTION, sources(one=files), DATASETS, Path("raw"))
    assert sorted(tree("raw/one")) == ["inner.zip", "set/a.png"]


def test_two_runs_give_the_same_files_and_replace_what_stood_there(server):
    server.files["/set.zip"] = zipped({"a.png": b"1"})
    given = sources(one=[{"url": f"{server.url}/set.zip", "unpack": True}])
    fetch(COLLECTION, given, DATASETS, Path("raw"))
    first = tree("raw")
    Path("raw/one/stale.png").touch()
    fetch(COLLECTION, given, DATASETS, Path("raw"))
    assert tree("raw") == first


def test_a_rerun_after_the_output_was_removed_downloads_nothing(server):
    server.files["/a.bin"] = BODY
    given = sources(one=[{"url": f"{server.url}/a.bin", "sha256": hashlib.sha256(BODY).hexdigest()}])
    fetch(COLLECTION, given, DATASETS, Path("raw"))
    shutil.rmtree("raw")
    fetch(COLLECTION, given, DATASETS, Path("raw"))
    assert len(server.requests) == 1
    assert Path("raw/one/a.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("collection", "message"),
    [
        (
            COLLECTION.model_copy(update={"test": ("spar",)}),
            "collection, test: unknown name 'spar'. Did you mean 'spare'?",
        ),
        (
            COLLECTION.model_copy(update={"checkpoints": ("weigts",)}),
            "checkpoints: unknown name 'weigts'. Did you mean 'weights'?",
        ),
    ],
)
def test_an_unknown_name_lists_those_there_are(collection, message):
    with pytest.raises(InputError) as refusal:
        fetch(collection, sources(), DATASETS, Path("raw"))
    assert message in str(refusal.value)
    assert "There are: one, spare, two" in str(refusal.value)
    assert not Path("raw").exists()


def test_a_dataset_of_an_unknown_source_is_named():
    datasets = {**DATASETS, "two": Dataset(source="too", clean=("*",))}
    with pytest.raises(InputError, match=r"params.yaml: datasets.two.source: unknown name 'too'. Did you mean 'two'"):
        fetch(COLLECTION, sources(), datasets, Path("raw"))


BAD = {
    "checksum": ([{"url": "file:small.bin", "sha256": "0" * 64}], "wrong checksum: expected sha256 000"),
    "archive": (
        [{"url": "file:evil.zip", "unpack": True}],
        "evil.zip: refused: its member '../evil.png' is a name that",
    ),
    "text": ([{"url": "file:small.bin", "unpack": True}], "not a complete zip or tar archive"),
    "twice": (
        [{"url": "file:small.bin"}, {"url": "file:small.bin"}],
        "already has another file 'small.bin'; write a `name`",
    ),
    "gone": ([{"url": "file:gone.bin"}], "gone.bin: not found"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_fault_names_its_place_in_params_and_leaves_what_stood_there(fault):
    files, message = BAD[fault]
    Path("evil.zip").write_bytes(zipped({"good.png": b"1", "../evil.png": b"2"}))
    fetch(COLLECTION, sources(), DATASETS, Path("raw"))
    before = tree("raw")
    with pytest.raises(InputError, match=r"^params.yaml: sources.weights.files.\d: ") as refusal:
        fetch(COLLECTION, sources(weights=files), DATASETS, Path("raw"))
    assert message in str(refusal.value)
    assert tree("raw") == before
    assert not [path for path in Path().rglob("*") if "partial" in path.name or path.name == "evil.png"]


def test_the_command_fetches_from_params(server):
    server.files["/a.bin"] = BODY
    done = run([{"url": f"{server.url}/a.bin", "sha256": hashlib.sha256(BODY).hexdigest()}])
    assert (done.returncode, tree("data")) == (0, {"raw/sr/one/a.bin": BODY})


def test_the_command_fails_with_one_message_and_no_output(server):
    done = run([{"url": f"http://user:secret@{server.address}/gone.zip"}])
    assert done.returncode == 2
    assert done.stderr == (
        f"error: params.yaml: sources.one.files.0: {server.url}/gone.zip:"
        " the server answered 404 Not Found. Check the url.\n"
    )
    assert tree("data") == {}


def test_a_killed_fetch_goes_on_where_it_was_killed(server):
    server.files["/a.bin"] = BODY
    server.script.append(Fault(hold=1 << 20))
    write_params([{"url": f"{server.url}/a.bin", "sha256": hashlib.sha256(BODY).hexdigest()}])
    with subprocess.Popen(COMMAND, stderr=subprocess.DEVNULL) as child:
        while sum(path.stat().st_size for path in DOWNLOADS.glob("*.partial")) < 1 << 20:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    server.release.set()
    assert not Path("data/raw/sr").exists()
    subprocess.run(COMMAND, check=True, capture_output=True)
    assert server.ranges() == [None, f"bytes={1 << 20}-"]
    assert server.sent[1] == len(BODY) - (1 << 20)
    assert tree("data") == {"raw/sr/one/a.bin": BODY}


def test_a_file_past_the_limit_of_the_file_system_leaves_no_output():
    Path("big.bin").write_bytes(BODY)
    limit = (1 << 20, 1 << 20)
    done = run([{"url": "file:big.bin"}], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert list(Path("data/raw").iterdir()) == []


def test_a_full_disk_ends_the_download_with_one_message():
    with range_server() as server:
        server.files["/a.bin"] = BODY
        url = f"{server.url}/a.bin"
        DOWNLOADS.mkdir(parents=True)
        partial = DOWNLOADS / f"{hashlib.sha256(url.encode()).hexdigest()}.partial"
        partial.symlink_to("/dev/full")
        done = run([{"url": url}])
    assert done.returncode == 2
    assert f"error: {partial}: No space left on device." in done.stderr
    assert "Traceback" not in done.stderr
    assert tree("data") == {}


INSIDE = "mount -t tmpfs -o size=1m tmpfs data && {command}; code=$?; find data -mindepth 1 -type f; exit $code"
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def can_mount() -> bool:
    tried = shutil.which("unshare") and subprocess.run(
        [*NAMESPACE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False
    )
    return bool(tried) and tried.returncode == 0


@pytest.mark.parametrize("unpack", [False, True], ids=["copied", "unpacked"])
@pytest.mark.skipif(not can_mount(), reason="this machine lets nobody mount a small disk in a namespace of its own")
def test_a_full_disk_leaves_nothing_half_written(unpack):
    Path("big.bin").write_bytes(zipped({"a.png": BODY}))
    Path("data").mkdir()
    write_params([{"url": "file:big.bin", "unpack": unpack}])
    command = [*NAMESPACE, INSIDE.format(command=" ".join(COMMAND))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 2
    place = r"data/raw/\.[0-9a-f]{8}\.partial/one/" + ("a.png" if unpack else "big.bin")
    assert re.search(f"error: {place}: No space left on device", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_fetch_of_packaged_photographs_needs_no_cache():
    fetch(COLLECTION, sources(one=[{"url": "package:skimage/data/chelsea.png"}]), DATASETS, Path("raw"))
    assert Path("raw/one/chelsea.png").stat().st_size > 200_000
    assert not DOWNLOADS.exists()


@pytest.mark.datasets
@pytest.mark.skipif("DATASETS_DIR" not in os.environ, reason="set DATASETS_DIR to the folder of the public benchmarks")
def test_the_public_benchmarks_are_fetched_from_their_archives():
    archives = {
        "one": ("Set5.tar", "e416252e9254e74bc23a8fbc5ba6fb97455bd9d94ef5625d21c94081cb9f6873"),
        "two": ("T91.tar.gz", "45dcf3bee469c5867b3ecb8c5deab6c89cdfe31ddc2369da98aad94fd11a4f1f"),
    }
    given = {
        name: [{"url": f"file:$DATASETS_DIR/{archive}", "sha256": digest, "unpack": True}]
        for name, (archive, digest) in archives.items()
    }
    fetch(COLLECTION, sources(**given), DATASETS, Path("raw"))
    assert [path.stem for path in sorted(Path("raw/one/Set5/HR").iterdir())] == [
        "baby",
        "bird",
        "butterfly",
        "head",
        "woman",
    ]
    assert len(list(Path("raw/one/Set5/LR_bicubic").rglob("*.png"))) == 15
    assert len(list(Path("raw/two/T91").iterdir())) == 91


def redirect(place: str) -> Fault:
    return Fault(status=302, headers={"Location": place})


OK = b"HTTP/1.1 200 OK\r\n"
NO_HTTP = "the server broke off, or does not speak HTTP; gave up. The bytes received so far are kept: check the url"
SERVED = {
    "nothing": (Fault(raw=()), NO_HTTP),
    "half a header": (
        Fault(raw=(OK + b"Content-Le",)),
        "no bytes came; gave up. The bytes received so far are kept: check the url",
    ),
    "another protocol": (Fault(raw=(b"SSH-2.0-OpenSSH_9.6\r\n",)), NO_HTTP),
    "a header without end": (Fault(raw=(OK + b"X: " + b"a" * 70_000,)), NO_HTTP),
    "a thousand headers": (Fault(raw=(OK + b"X: a\r\n" * 1000 + b"\r\n",)), NO_HTTP),
    "two lengths": (Fault(raw=(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",)), NO_HTTP),
    "too few bytes": (Fault(raw=(OK + b"Content-Length: 200\r\n\r\nab",)), "the server broke off"),
    "a broken chunk": (Fault(raw=(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",)), "the server broke off"),
    "circles": (redirect("/set.zip"), "the server redirects in circles. Check the url"),
    "a file of ours": (redirect("file:///etc/passwd"), "redirects to an address that is neither http nor https. Write"),
    "ftp": (redirect("ftp://127.0.0.1/set.zip"), "redirects to an address that is neither http nor https. Write the"),
    "no address": (redirect("http://[::1"), "it, or what it redirects to, is no address. Check the url"),
    "no port": (redirect("http://127.0.0.1:99999/a"), "no address. Check the url|no address that can be asked. Check"),
    "a page": (Fault(headers={"Content-Type": "text/html; charset=utf-8"}), "sends a page .text/html. in place of the"),
    "a page untold": (Fault(), "not a complete zip or tar archive .it begins with b'<html>Log in</ht'"),
}


@pytest.mark.parametrize("kind", SERVED)
def test_whatever_a_server_does_is_one_message_with_advice_and_leaves_nothing(kind, server, monkeypatch, capsys):
    fault, reason = SERVED[kind]
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server.files["/set.zip"] = b"<html>Log in</html>"
    server.script.extend([fault] * 99)
    write_params([{"url": f"{server.url}/set.zip", "unpack": True}])
    with pytest.raises(SystemExit) as ended:
        main(["--collection", "sr", "--raw", "data/raw/sr"])
    *_, said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert re.match(rf"error: params.yaml: sources.one.files.0: (http://{server.address}/)?set.zip: .*({reason})", said)
    assert tree("data") == {}
