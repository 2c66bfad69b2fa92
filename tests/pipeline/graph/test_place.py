"""Data on another disk: DVC's cache there, links here; what DVC would refuse after the work is refused before it."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml

from pipeline.graph.place import place_fault
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
        (project.folder / "dvc.lock").write_text("")
        (project.folder / "dvc.yaml").write_text("stages: [")
        assert place_fault(project.folder) is None
