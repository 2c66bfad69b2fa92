import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.run.files import read_json, sha256_of, write_json, write_text, written_whole

ROOT = Path(__file__).parents[2]

WRITES = """
import os, signal
from pathlib import Path
from components.run.files import written_whole

with written_whole(Path("{name}")) as partial:
    {start}
    os.kill(os.getpid(), signal.SIGKILL)
"""
IN_A_FILE = 'partial.write_text("half")'
IN_A_FOLDER = 'partial.mkdir(); (partial / "one").write_text("half")'

REPLACES = """
import os, shutil, signal, sys
from pathlib import Path
from components.run.files import written_whole

shutil.rmtree = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with written_whole(Path(sys.argv[1])) as partial:
    partial.mkdir()
    (partial / "new").write_text("new")
"""

OFTEN = """
import sys
from pathlib import Path
from components.run.files import written_whole

for _ in range(100):
    with written_whole(Path(sys.argv[1])) as partial:
        if sys.argv[2] == "folder":
            partial.mkdir()
        (partial / "new" if sys.argv[2] == "folder" else partial).write_text("new")
"""

JSON = """
import sys
from pathlib import Path
from components.run.files import write_json

write_json(Path(sys.argv[1]), {"b": {chr(233): 1.5, "a": [1, None]}, "a": 0.1})
"""


class Stop(Exception):  # noqa: N818 - what stops a writing need not be an error
    pass


def listed(folder: Path) -> dict[str, str | None]:
    """Every path under a folder, hidden ones too, with its text."""
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else None for path in folder.rglob("*")}


def write(path: Path, kind: str, text: str) -> None:
    if kind == "file":
        path.write_text(text)
    else:
        path.mkdir()
        (path / text).write_text(text)


def stop_after(path: Path, kind: str, stop: type[BaseException]) -> None:
    write(path, kind, "half")
    raise stop


def fill_disk() -> None:
    with Path("/dev/full").open("w") as file:
        file.write("line")


def contents(name: str, kind: str, text: str) -> dict[str, str | None]:
    return {name: text} if kind == "file" else {name: None, f"{name}/{text}": text}


class TestWrittenWhole:
    @pytest.mark.parametrize("new", ["file", "folder"])
    @pytest.mark.parametrize("old", ["file", "folder", None])
    def test_appears_under_its_name_and_replaces_what_stood_there(
        self, old: str | None, new: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "result"
        if old:
            write(path, old, "old")
        with written_whole(path) as partial:
            write(partial, new, "new")
        assert listed(tmp_path) == contents("result", new, "new")

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_what_stood_there_stays_until_the_end(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "result"
        write(path, kind, "old")
        with written_whole(path) as partial:
            write(partial, kind, "new")
            assert contents("result", kind, "old").items() <= listed(tmp_path).items()

    @pytest.mark.parametrize("kind", ["file", "folder"])
    @pytest.mark.parametrize("stop", [Stop, KeyboardInterrupt, SystemExit])
    def test_an_exception_leaves_nothing(self, stop: type[BaseException], kind: str, tmp_path: Path) -> None:
        with pytest.raises(stop), written_whole(tmp_path / "result") as partial:
            stop_after(partial, kind, stop)
        assert listed(tmp_path) == {}

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_an_exception_leaves_what_stood_there(self, kind: str, tmp_path: Path) -> None:
        write(tmp_path / "result", kind, "old")
        with pytest.raises(Stop), written_whole(tmp_path / "result") as partial:
            stop_after(partial, kind, Stop)
        assert listed(tmp_path) == contents("result", kind, "old")

    @pytest.mark.parametrize(("kind", "start"), [("file", IN_A_FILE), ("folder", IN_A_FOLDER)])
    def test_a_kill_leaves_nothing_under_the_name_and_the_next_writing_clears_the_rest(
        self, kind: str, start: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "result"
        killed = subprocess.run(
            [sys.executable, "-c", WRITES.format(name=path, start=start)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        assert not path.exists()
        assert listed(tmp_path), "the kill came too early to show anything"
        with written_whole(path) as partial:
            write(partial, kind, "new")
        assert listed(tmp_path) == contents("result", kind, "new")

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_writers_at_the_same_time_do_not_see_each_other_and_the_last_one_stays(
        self, kind: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "result"
        with written_whole(path) as first:
            write(first, kind, "first")
            with written_whole(path) as second:
                write(second, kind, "second")
            assert contents("result", kind, "second").items() <= listed(tmp_path).items()
        assert listed(tmp_path) == contents("result", kind, "first")

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_many_savings_in_several_processes_overlap(self, kind: str, tmp_path: Path) -> None:
        words = [sys.executable, "-c", OFTEN, str(tmp_path / "result"), kind]
        running = [
            subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        assert [process.communicate()[1] for process in running] == [""] * 3
        assert listed(tmp_path) == contents("result", kind, "new")

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_a_name_may_be_as_long_as_the_system_allows(self, kind: str, tmp_path: Path) -> None:
        name = "n" * 255
        with written_whole(tmp_path / name) as partial:
            write(partial, kind, "new")
        assert listed(tmp_path) == contents(name, kind, "new")

    def test_a_folder_that_stood_there_is_whole_or_gone_wherever_a_kill_comes(self, tmp_path: Path) -> None:
        """The kill comes as soon as something of the old folder is deleted."""
        path = tmp_path / "result"
        write(path, "folder", "old")
        killed = subprocess.run(
            [sys.executable, "-c", REPLACES, str(path)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        assert contents("result", "folder", "new").items() <= listed(tmp_path).items()

    def test_folders_above_are_made(self, tmp_path: Path) -> None:
        write_text(tmp_path / "one" / "two" / "result", "text")
        assert (tmp_path / "one" / "two" / "result").read_text() == "text"

    def test_a_link_is_replaced_and_its_target_stays(self, tmp_path: Path) -> None:
        """DVC's cache may be linked into the workspace; writing through the link would damage it."""
        for kind in ("file", "folder"):
            write(tmp_path / f"cached_{kind}", kind, "old")
            (tmp_path / kind).symlink_to(tmp_path / f"cached_{kind}")
            with written_whole(tmp_path / kind) as partial:
                write(partial, kind, "new")
            assert not (tmp_path / kind).is_symlink()
            assert contents(f"cached_{kind}", kind, "old").items() <= listed(tmp_path).items()
            assert contents(kind, kind, "new").items() <= listed(tmp_path).items()

    def test_a_full_disk_is_told_with_the_name_that_was_to_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No space left on device") as caught, written_whole(tmp_path / "result"):
            fill_disk()
        assert caught.value.filename == str(tmp_path / "result")


class TestJson:
    def test_is_read_back(self, tmp_path: Path) -> None:
        value = {"psnr": 30.000000000000004, "sets": [1, None, "é"], "0": {}}
        write_json(tmp_path / "scores.json", value)
        assert read_json(tmp_path / "scores.json") == value == json.loads((tmp_path / "scores.json").read_bytes())

    def test_bytes_depend_on_the_values_only(self, tmp_path: Path) -> None:
        write_json(tmp_path / "one.json", {"b": 1, "a": {"d": 2, "c": 3}})
        write_json(tmp_path / "two.json", {"a": {"c": 3, "d": 2}, "b": 1})
        assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()

    def test_bytes_depend_on_no_locale_and_no_hash_seed(self, tmp_path: Path) -> None:
        for number, (locale, seed) in enumerate([("C", "1"), ("C.UTF-8", "2")]):
            subprocess.run(
                [sys.executable, "-c", JSON, str(tmp_path / f"{number}.json")],
                env=os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": locale, "PYTHONHASHSEED": seed, "PYTHONUTF8": "0"},
                check=True,
            )
        first, second = ((tmp_path / f"{number}.json").read_bytes() for number in range(2))
        assert first == second
        assert (
            first
            == '{\n  "a": 0.1,\n  "b": {\n    "a": [\n      1,\n      null\n    ],\n    "é": 1.5\n  }\n}\n'.encode()
        )

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_json_cannot_hold_is_refused_and_nothing_written(self, value: float, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "scores.json", {"psnr": value})
        assert listed(tmp_path) == {}


def test_lines_end_as_given(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "a\nb\r\n")
    assert (tmp_path / "text").read_bytes() == b"a\nb\r\n"


def test_sha256_is_that_of_the_published_vectors(tmp_path: Path) -> None:
    """NIST FIPS 180-2, appendix B: "abc" and a million times "a"."""
    vectors = {
        b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
    }
    for content, digest in vectors.items():
        (tmp_path / "file").write_bytes(content)
        assert sha256_of(tmp_path / "file") == digest


def test_sha256_reads_past_its_first_block(tmp_path: Path) -> None:
    """FIPS 180-2 has no longer vector; the one below is `sha256sum` of 3 MiB and one byte of zeros."""
    (tmp_path / "file").write_bytes(bytes(3 * 2**20 + 1))
    told = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True).stdout
    assert sha256_of(tmp_path / "file") == told.split()[0]
