"""Data on another disk: DVC's cache there, links here; what DVC would refuse after the work is refused before it."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from dvc.lock import make_lock

from pipeline.graph.place import place_fault
from pipeline.messages import PipelineError
from tests.pipeline.runnable import ROOT

pytest_plugins = ["tests.pipeline.fixtures"]

README = (ROOT / "README.md").read_text()
COMMANDS = ("dvc cache dir --local", "dvc config --local cache.type hardlink,symlink")


@pytest.fixture
def disk():
    """A folder on another file system where there is one that may be written, as on most machines."""
    memory = "/dev/shm"  # noqa: S108
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def twice(project, cache):
    """Files of the project that are no links to the cache's."""
    kept = {path.stat().st_ino for path in cache.rglob("*") if path.is_file()}
    files = [path for path in (project.folder / "data").rglob("*") if not path.is_dir()]
    assert len(files) == 9
    return [path for path in files if path.stat().st_ino not in kept]


def test_with_the_cache_on_another_disk_nothing_is_kept_twice_and_nothing_runs_again(reproduced, disk):
    """README's way, with results that were made before; those that come later are links as well."""
    cache = disk / "cache"
    shutil.move(reproduced.folder / ".dvc" / "cache", cache)
    assert len(twice(reproduced, cache)) == 9
    for command in COMMANDS:
        assert command in README
        reproduced.dvc(*command.split()[1:], *([cache] if "dir" in command else []))
    reproduced.dvc("checkout", "--relink")
    shutil.move(reproduced.folder / ".cache", disk / "kept")
    (reproduced.folder / ".cache").symlink_to(disk / "kept")
    assert place_fault(reproduced.folder) is None
    assert twice(reproduced, cache) == []
    assert "Running stage" not in reproduced.dvc("repro")
    assert "Running stage 'distill@sr-logits'" in reproduced.dvc("exp", "run", "-S", "methods.logits.alpha=0.75")
    assert twice(reproduced, cache) == []


class TestKilled:
    """What a kill of DVC leaves while it rewrites its own files."""

    RUNNING = '{"write": {"/data/raw": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}'

    @pytest.mark.parametrize("left", [b"", RUNNING[:30].encode(), b"[]", b'{"write": {"a": 3}}', b"\xff\x00", b"{} {}"])
    def test_a_list_of_running_stages_that_is_not_whole_is_removed(self, left, project, capsys):
        file = project.folder / ".dvc" / "tmp" / "rwlock"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(left)
        assert place_fault(project.folder) is None
        assert not file.exists()
        assert capsys.readouterr().out == f"{file}: removed; a kill of DVC left it half-written\n"

    @pytest.mark.parametrize("whole", ["{}", '{"read": {}, "write": {}}', RUNNING])
    def test_one_that_is_whole_stays(self, whole, project, capsys):
        file = project.folder / ".dvc" / "tmp" / "rwlock"
        file.parent.mkdir(exist_ok=True)
        file.write_text(whole)
        assert place_fault(project.folder) is None
        assert (file.read_text(), capsys.readouterr().out) == (whole, "")

    def test_one_that_dvc_is_just_writing_stays(self, project):
        file = project.folder / ".dvc" / "tmp" / "rwlock"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        with (
            make_lock(str(file.with_name("rwlock.lock"))),
            pytest.raises(PipelineError, match="DVC runs here, and writes it"),
        ):
            place_fault(project.folder)
        assert file.exists()

    def test_dvc_then_goes_on_and_takes_from_its_run_cache_what_the_lost_lock_had(self, reproduced):
        lock = reproduced.folder / "dvc.lock"
        text = lock.read_text()
        lock.unlink()
        (reproduced.folder / ".dvc" / "tmp" / "rwlock").write_text("")
        records = (reproduced.folder / ".dvc" / "cache" / "runs").glob("*/*/*")
        next(record for record in records if "steps.py report" in record.read_text()).unlink()
        assert place_fault(reproduced.folder) is None
        assert re.findall("Running stage '(.+)'", reproduced.dvc("repro")) == ["report@sr"]
        assert lock.read_text() == text

    def test_a_lock_that_dvc_would_refuse_is_told_with_the_way_back(self, reproduced):
        lock = reproduced.folder / "dvc.lock"
        text = lock.read_text()
        told = f"{lock}: not whole, as a kill of DVC or a merge leaves it; `git checkout HEAD dvc.lock` brings the"
        for length in (0, *(text.index("path:", int(part * len(text))) for part in (0.2, 0.5, 0.8))):
            lock.write_text(text[:length])
            assert place_fault(reproduced.folder).startswith(told)
        reproduced.git("rm", "--quiet", "--cached", "dvc.lock")
        reproduced.git("commit", "--quiet", "-m", "no lock")
        assert "leaves it; remove it: `rm dvc.lock`. Nothing is lost: " in place_fault(reproduced.folder)

    @pytest.mark.parametrize("left", ["[]", "schema: '2.0'\nstages:\n  a:\n", "<<<<<<< HEAD\nschema: '2.0'\n", "\0"])
    def test_one_that_was_garbled_otherwise_is_told_too(self, left, project):
        (project.folder / "dvc.lock").write_text(left)
        assert "dvc.lock: not whole" in place_fault(project.folder)


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "there"),
        [
            ("data", ""),
            ("data", "gone"),
            ("data/raw", ""),
            ("data/students/sr", "gone"),
            ("data/students/sr/logits", ""),
        ],
    )
    def test_is_a_link_to_a_folder_in_the_place_of_an_output_or_above_it(self, name, there, project, disk):
        target = disk / there
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).symlink_to(target)
        told = place_fault(project.folder)
        assert told.startswith(f"{name}: a link to {target}, and DVC keeps no output behind a link to a folder. Remove")
        assert COMMANDS[0] in told
        assert COMMANDS[1] in told

    def test_is_a_cache_whose_disk_is_not_mounted(self, project, disk):
        (project.folder / ".dvc" / "cache").symlink_to(disk / "gone")
        assert f"{project.folder}/.dvc/cache: a link to {disk}/gone, which is not there" in place_fault(project.folder)

    def test_is_a_cache_where_nothing_can_be_written(self, project, disk):
        (disk / "file").touch()
        project.dvc("cache", "dir", "--local", disk / "file" / "cache")
        assert f"{disk}/file/cache: DVC's cache can't be written there" in place_fault(project.folder)

    def test_is_a_folder_without_git_unless_dvc_needs_none(self, project):
        (project.folder / ".git").rename(project.folder / "git")
        assert "no git repository" in place_fault(project.folder)
        project.dvc("config", "--local", "core.no_scm", "true")
        assert place_fault(project.folder) is None

    def test_is_a_remote_without_a_url(self, project):
        project.dvc("config", "core.remote", "storage")
        assert "core.remote names 'storage', which has no URL" in place_fault(project.folder)

    def test_is_a_disk_too_full_for_what_is_not_here_yet(self, reproduced):
        lock = reproduced.folder / "dvc.lock"
        values = yaml.safe_load(lock.read_text())
        values["stages"]["fetch@sr"]["outs"][0]["size"] = 10**18
        lock.write_text(yaml.safe_dump(values))
        assert place_fault(reproduced.folder) is None
        shutil.rmtree(reproduced.folder / "data" / "raw")
        assert place_fault(reproduced.folder) is None, "the cache has it"
        shutil.rmtree(reproduced.folder / ".dvc" / "cache")
        assert re.search(
            r"GB free, and the outputs that are not here yet took 1000000000\.0 GB", place_fault(reproduced.folder)
        )

    def test_is_nothing_in_a_file_that_dvc_itself_refuses(self, project):
        (project.folder / "dvc.yaml").write_text("stages: [")
        assert place_fault(project.folder) is None
