"""What would end a run in the place where the project lies."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.deciding import place
from pipeline.deciding.place import place_faults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    return tmp_path


def remote(folder: Path) -> None:
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    remote = storage\n")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no git": (lambda folder: (folder / ".dvc/config").write_text(""), "no git repository"),
    "no project": (lambda folder: shutil.rmtree(folder / ".dvc"), "no .dvc folder. Run the command from the project"),
    "dangling data": (lambda folder: (folder / "data").symlink_to("/nowhere/else"), "data: the link leads to /nowhere"),
    "dangling cache": (lambda folder: (folder / ".dvc/cache").symlink_to("gone"), ".dvc/cache: the link leads to gone"),
    "a file": (lambda folder: (folder / "data").write_text(""), "data: is a file, where the run needs a folder"),
    "remote": (remote, "core.remote names 'storage', which has no url"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_can_not_work_is_one_line(wrong: str, folder: Path) -> None:
    change, told = WRONG[wrong]
    change(folder)
    (found,) = place_faults(folder)
    assert told in found


def test_a_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")  # noqa: PYI024
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: usage(2**20))
    assert all("1 MiB are free" in fault for fault in place_faults(folder))
    assert list(place_faults(folder))


def test_data_on_another_disk_and_a_remote_with_a_url_are_no_faults(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder / "data").symlink_to(tmp_path_factory.mktemp("disk"))
    remote(folder)
    with (folder / ".dvc/config").open("a") as file:
        file.write("['remote \"storage\"']\n    url = /x\n")
    assert list(place_faults(folder)) == []
