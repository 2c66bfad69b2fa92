import bz2
import contextlib
import gzip
import hashlib
import io
import os
import re
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.fetching import archives
from components.fetching.archives import stays_inside, unpack
from components.run import limits
from components.run.errors import InputError
from tests.bounded import bounded


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
        (10, 99, "its member 'a.png' is compressed in a way that can't be read here"),
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
    monkeypatch.setattr(limits, "FLOOR", 1 << 20)
    path = archive(tmp_path / "a", kind, {"small.png": b"1", "bomb.png": bytes(8 << 20)})
    assert path.stat().st_size * limits.RATIO < 8 << 20
    refused(path, out, "its member 'bomb.png' is past the limit of 100 times")
    assert tree(out) == {}


def test_the_limit_grows_with_the_archive(tmp_path, out, monkeypatch):
    monkeypatch.setattr(limits, "FLOOR", 0)
    unpack(archive(tmp_path / "a", "zip", CONTENT), out, "set")
    assert tree(out) == CONTENT


def test_links_can_not_multiply_a_file_past_the_limit(tmp_path, out, monkeypatch):
    monkeypatch.setattr(limits, "FLOOR", 1 << 20)
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


def bomb(name: str, **fields) -> Callable[[Path], None]:
    """A tar whose one header of that kind holds a gigabyte; the bytes come from memory that is never touched."""

    def write(path: Path) -> None:
        with gzip.open(path, "wb", compresslevel=1) as file:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            if info.type in {tarfile.XHDTYPE, tarfile.XGLTYPE}:
                file.write(b"%d comment=" % (info.size - 1))
            for _ in range(32):
                file.write(b"x" * (1 << 20))

    return write


def many_headers(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 512
        file.write((info.tobuf(tarfile.GNU_FORMAT) + b"n".ljust(512, b"\0")) * 3000)


def going_back(path: Path) -> None:
    info = tarfile.TarInfo("back.png")
    info.size = -512
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))


def bytes_after_the_end(path: Path) -> None:
    with bz2.open(path, "wb") as file:
        file.write(tarfile.TarInfo("a.png").tobuf() + bytes(1024))
    path.write_bytes(path.read_bytes() + bz2.compress(bytes(1 << 20)) * 99)


def bzip2_in_a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file, file.open("a.png", "w") as member:
        for _ in range(120):
            member.write(bytes(1 << 20))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24  # what it declares as its size
    data[place : place + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)


def overlapping_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", b"1" * 100)
        file.writestr("b.png", b"2" * 100)
        file.filelist[1].header_offset = 0


GIGABYTE = 1 << 30
BOMBS = {
    "PAX header": (bomb("pax", type=tarfile.XHDTYPE, size=GIGABYTE), "the headers of its member at byte 512 have more"),
    "PAX header of all": (bomb("pax", type=tarfile.XGLTYPE, size=GIGABYTE), "the headers of its member at byte 512"),
    "long name": (bomb("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=GIGABYTE), "the headers of its member"),
    "long link": (bomb("././@LongLink", type=tarfile.GNUTYPE_LONGLINK, size=GIGABYTE), "the headers of its member"),
    "headers without end": (many_headers, "the headers of its member at byte"),
    "a step back": (going_back, "a damaged archive .a size below 0|the headers of its member"),
    "bytes after the end": (bytes_after_the_end, "a damaged archive .more than .* bytes, the last of them after"),
    "bzip2 in a zip": (bzip2_in_a_zip, "'a.png' is compressed in a way that can't be read here .method 12.; pack it"),
    "overlapping members": (overlapping_members, "'b.png' is made of the same bytes as another: a bomb"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_headers_and_hidden_bytes_are_limited_as_members_are(tmp_path, out, kind):
    write, reason = BOMBS[kind]
    write(tmp_path / "a")
    ended = bounded(unpack, tmp_path / "a", out, "set.archive")
    assert isinstance(ended.error, InputError), ended
    assert re.match(f"set.archive: .*{reason}", str(ended.error))
    assert ended.seconds < 20
    assert ended.memory < 100 << 20
    assert tree(out) == {}


def zip_of_another_system(path: Path, names: dict[bytes, bytes], system: int, flag: int = 0) -> Path:
    """A zip whose names are these bytes."""
    stand_ins = {bytes([ord("A") + index]) * len(name): name for index, name in enumerate(names)}
    with zipfile.ZipFile(path, "w") as file:
        for stand_in, name in stand_ins.items():
            info = zipfile.ZipInfo(stand_in.decode())
            info.create_system, info.flag_bits = system, flag
            file.writestr(info, names[name])
    data = path.read_bytes()
    for stand_in, name in stand_ins.items():
        data = data.replace(stand_in, name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("names", "system", "expected"),
    [
        ({b"set\\a.png": b"1", b"set\\deep\\b.png": b"2"}, 0, {"set/a.png": b"1", "set/deep/b.png": b"2"}),
        ({b"set\\": b"", b"set\\a.png": b"1"}, 0, {"set/a.png": b"1"}),
        ({"Stra\u00dfe \u00fc.png".encode("cp437"): b"1"}, 0, {"Stra\u00dfe \u00fc.png": b"1"}),
        ({"caf\u00e9-x.png".encode(): b"1"}, 3, {"caf\u00e9-x.png": b"1"}),
        ({b"set/a.png": b"1", b"__MACOSX/set/._a.png": b"\0\5\x16\7"}, 3, {"set/a.png": b"1"}),
    ],
    ids=["backslashes", "folder", "cp437", "UTF-8 untold", "macOS"],
)
def test_a_zip_of_another_system_is_read_right(tmp_path, out, caplog, names, system, expected):
    caplog.set_level("INFO")
    unpack(zip_of_another_system(tmp_path / "a.zip", names, system), out, "set.zip")
    assert tree(out) == expected
    assert ("left out 1 members that macOS made for itself, such as '__MACOSX" in caplog.text) == (
        b"set/a.png" in names
    )


def test_a_tar_of_another_system_is_read_right(tmp_path, out, caplog):
    caplog.set_level("INFO")
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as file:
        for name in ("set/\u00fc.png", "set/._\u00fc.png"):
            add(file, name, b"1")
    unpack(tmp_path / "a.tar", out, "set.tar")
    assert tree(out) == {"set/\u00fc.png": b"1"}
    assert "set.tar: left out 1 members that macOS made for itself, such as 'set/._\u00fc.png'" in caplog.text
