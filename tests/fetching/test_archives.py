import contextlib
import hashlib
import io
import os
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.fetching import archives
from components.fetching.archives import stays_inside, unpack
from components.run.errors import InputError


def noise(seed: int, size: int) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


CONTENT = {
    "set/a.png": noise(0, 3000),
    "set/deep/b.png": noise(1, 1000),
    "note.txt": b"hello " * 50,
}
KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
CLIMBING = (
    "../x",
    "set/../../x",
    "/folder/x",
    "..\\x",
    "set\\..\\..\\x",
    "C:\\x",
    "C:x",
    "\\\\server\\share\\x",
    "\\x",
)


def archive(path: Path, kind: str, content: dict[str, bytes]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in content.items():
                info = zipfile.ZipInfo()
                info.filename = name  # as given: the constructor would repair it
                info.compress_type = zipfile.ZIP_DEFLATED
                file.writestr(info, data)
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as file:
            for name, data in content.items():
                add(file, name, data)
    return path


def add(file: tarfile.TarFile, name: str, data: bytes = b"", **fields) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    file.addfile(info, io.BytesIO(data))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def refused(path: Path, out: Path, match: str) -> None:
    """The archive is refused with this reason, and nothing stands beside the folder that was not there."""
    beside = sorted(out.parent.iterdir())
    with pytest.raises(InputError, match=match):
        unpack(path, out, "set.archive")
    assert sorted(out.parent.iterdir()) == beside


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_archive_gives_the_same_files(tmp_path, out, kind):
    unpack(archive(tmp_path / "any-name", kind, CONTENT), out, "set")
    assert tree(out) == CONTENT


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_out_is_refused_by_name_before_anything_is_written(tmp_path, out, kind, name):
    path = archive(tmp_path / "a", kind, {"good.png": b"1", name: b"2"})
    refused(path, out, "set.archive: refused: its member .* leads out of the folder")
    assert tree(out) == {}


def test_names_that_only_look_dangerous_are_taken(tmp_path, out):
    names = ("..a/b..png", "set/...", ".hidden/x", "a b/ü.png")
    assert all(stays_inside(name) for name in names)
    unpack(archive(tmp_path / "a", "tar", dict.fromkeys(names, b"1")), out, "set")
    assert sorted(tree(out)) == sorted(names)


ATTACKS = {
    "a symbolic link out": [("out", {"type": tarfile.SYMTYPE, "linkname": "../../secret"})],
    "an absolute symbolic link": [("out", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})],
    "a hard link out": [("out", {"type": tarfile.LNKTYPE, "linkname": "../secret"})],
    "a write through a link": [
        ("door", {"type": tarfile.SYMTYPE, "linkname": ".."}),
        ("door/x", {}),
    ],
    "a pipe": [("pipe", {"type": tarfile.FIFOTYPE})],
    "a device": [("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_the_data_filter_of_tarfile_refuses_is_refused_here(tmp_path, out, attack):
    path, theirs = tmp_path / "a.tar", tmp_path / "theirs"
    with tarfile.open(path, "w") as file:
        for name, fields in ATTACKS[attack]:
            add(file, name, **fields)
    with tarfile.open(path) as file, pytest.raises((tarfile.FilterError, KeyError)):
        file.extractall(theirs, filter="data")
    kind = "device" if attack in {"a pipe", "a device"} else "link"
    refused(path, out, f"its member '{ATTACKS[attack][0][0]}' is a {kind}")
    assert not any(member.is_symlink() for member in out.rglob("*"))


@pytest.mark.parametrize(
    "links",
    [{"a": "b", "b": "a"}, {"a": "a"}, {"a": "folder"}, {"a": "gone"}],
    ids=["loop", "self", "folder", "nowhere"],
)
def test_a_link_that_names_no_file_of_the_archive_is_refused(tmp_path, out, links):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        add(file, "folder", type=tarfile.DIRTYPE)
        for name, target in links.items():
            add(file, name, type=tarfile.SYMTYPE, linkname=target)
    refused(path, out, "its member 'a' is a link to '.*', which is not a file in the archive")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_within_the_archive_becomes_a_copy(tmp_path, out, kind):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        add(file, "set/a.png", b"pixels")
        add(file, "set/b.png", type=kind, linkname="a.png" if kind == tarfile.SYMTYPE else "set/a.png")
    unpack(path, out, "set")
    assert tree(out) == {"set/a.png": b"pixels", "set/b.png": b"pixels"}
    assert not (out / "set/b.png").is_symlink()
    assert (out / "set/b.png").stat().st_nlink == 1


def test_a_link_in_a_zip_is_refused(tmp_path, out):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("out")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    refused(path, out, "its member 'out' is a link or a device")


def test_an_encrypted_zip_is_refused(tmp_path, out):
    path = archive(tmp_path / "a.zip", "zip", {"a.png": b"1"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and of the directory
    path.write_bytes(data)
    refused(path, out, "its member 'a.png' is encrypted")


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (10, 99, "its member 'a.png' is compressed in a way that this Python can't read"),
        (6, 216, "zip file version 21.6"),
    ],
    ids=["method", "version"],
)
def test_a_zip_of_a_later_kind_is_refused(tmp_path, out, offset, value, reason):
    path = archive(tmp_path / "a.zip", "zip", {"a.png": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(data)
    refused(path, out, reason)


def test_files_get_the_mode_of_any_new_file(tmp_path, out):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        add(file, "set", type=tarfile.DIRTYPE, mode=0)
        for mode in (0o4777, 0o000, 0o600):
            add(file, f"set/{mode}.png", b"1", mode=mode, uid=1234, mtime=1)
    unpack(path, out, "set")
    new = tmp_path / "new"
    new.touch()
    assert {file.stat().st_mode for file in out.rglob("*.png")} == {new.stat().st_mode}
    assert {file.stat().st_uid for file in out.rglob("*")} == {os.getuid()}
    assert (out / "set").stat().st_mode == out.stat().st_mode


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_by_the_member_that_passes_the_limit(tmp_path, out, monkeypatch, kind):
    monkeypatch.setattr(archives, "FLOOR", 1 << 20)
    path = archive(tmp_path / "a", kind, {"small.png": b"1", "bomb.png": bytes(8 << 20)})
    assert path.stat().st_size * archives.RATIO < 8 << 20
    refused(path, out, "its member 'bomb.png' is past the limit of 100 times")
    assert tree(out) == {}


def test_the_limit_grows_with_the_archive(tmp_path, out, monkeypatch):
    monkeypatch.setattr(archives, "FLOOR", 0)
    unpack(archive(tmp_path / "a", "zip", CONTENT), out, "set")
    assert tree(out) == CONTENT


def test_links_can_not_multiply_a_file_past_the_limit(tmp_path, out, monkeypatch):
    monkeypatch.setattr(archives, "FLOOR", 1 << 20)
    path = tmp_path / "a.tar.xz"
    with tarfile.open(path, "w:xz") as file:
        add(file, "one", bytes(300_000))
        for count in range(200):
            add(file, f"link{count}", type=tarfile.LNKTYPE, linkname="one")
    refused(path, out, "its member 'link2' is past the limit")


def test_an_archive_of_very_many_members_is_refused(tmp_path, out, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 3)
    refused(archive(tmp_path / "a", "zip", {f"{n}.png": b"" for n in range(4)}), out, "'3.png' is member number 4")


def test_a_name_given_twice_is_refused(tmp_path, out):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        add(file, "a.png", b"1")
        add(file, "./a.png", b"2")
    refused(path, out, "its member './a.png' is a name that is taken already")


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_short_anywhere_is_refused(tmp_path, out, kind):
    whole = archive(tmp_path / "whole", kind, CONTENT).read_bytes()
    end = whole.rindex(b"hello") + 512 if kind == "tar" else len(whole) - 1  # a plain tar ends before its padding
    for length in [*range(1, end, 97), end]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"^set.archive: "):
            unpack(tmp_path / "cut", _new(out / str(length)), "set.archive")


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_flipped_bit_in_the_data_is_refused(tmp_path, out, kind):
    path = archive(tmp_path / "a", kind, {"a.png": noise(0, 5000)})
    data = bytearray(path.read_bytes())
    data[2500] ^= 1
    path.write_bytes(data)
    refused(path, out, "a damaged archive|not a complete zip or tar")


@pytest.mark.parametrize("place", ["first", "last"], ids=["header", "directory"])
def test_a_name_that_is_no_text_is_refused(tmp_path, out, place):
    path = archive(tmp_path / "a", "zip", {"\u00fc.png": b"1"})
    data = bytearray(path.read_bytes())
    name = "\u00fc".encode()
    data[data.index(name) if place == "first" else data.rindex(name)] = 0xFF
    path.write_bytes(data)
    refused(path, out, "a damaged archive .*utf-8")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path, out):
    path = archive(tmp_path / "a", "tar", CONTENT)
    data = bytearray(path.read_bytes())
    data[data.index(b"set/deep/b.png")] ^= 1
    path.write_bytes(data)
    refused(path, out, "a damaged archive .no end mark at byte")


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path, out):
    inner = archive(tmp_path / "inner.zip", "zip", CONTENT).read_bytes()
    path = archive(tmp_path / "a", "tar", {"inner.zip": inner})
    unpack(path, out, "set")
    assert tree(out) == {"inner.zip": inner}


def test_a_page_of_text_is_no_archive_and_its_start_is_shown(tmp_path, out):
    (tmp_path / "a.zip").write_text("<html>Not found</html>")
    refused(tmp_path / "a.zip", out, "not a complete zip or tar archive .it begins with b'<html>Not found<'")


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=6),
)
def test_whatever_bytes_come_nothing_but_an_input_error_is_raised_and_nothing_leaves(tmp_path_factory, kind, flips):
    home = tmp_path_factory.mktemp("home")
    data = bytearray(archive(home / "a", kind, CONTENT).read_bytes())
    for place, change in flips:
        data[place % len(data)] ^= change
    (home / "a").write_bytes(data)
    (home / "out").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with contextlib.suppress(InputError):
            unpack(home / "a", home / "out", "set")
    assert sorted(path.name for path in home.iterdir()) == ["a", "out"]
