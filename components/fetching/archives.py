"""Unpack archives without leaving their folder: no absolute names, no `..`, no links, devices or bombs."""

import errno
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NoReturn

from components.run.errors import InputError
from components.telemetry.progress import Progress

RATIO = 100
"""Unpacked bytes allowed for each byte of the archive: deflate reaches 1032, photographs stay below 10."""
FLOOR = 64 << 20
"""Unpacked bytes that any archive may have, however small it is."""
MEMBERS = 1_000_000
"""Members that an archive may have: a million empty files fill a disk's inode table."""

_BLOCK = 1 << 20
_TAR_BLOCK = 512
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    UnicodeDecodeError,
    NotImplementedError,
)
_UNUSABLE_NAME = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, title: str) -> None:
    """Unpack a zip or tar (plain, gz, bz2, xz) into an existing folder.

    Every name is checked before the first byte is written. Files get the default mode of a new file, whatever the
    archive says. A link in a tar becomes a copy of the member that it names, so that nothing can be written through it.
    `tarfile`'s own `data` filter is not used: it accepts absolute names, keeps links, and could be escaped by long
    chains of links (CVE-2025-4517). A caller that must not keep half an archive passes a temporary folder.

    Args:
        archive: the file.
        folder: where to unpack to.
        title: what to call the archive in messages.

    Raises:
        InputError: not an archive, a damaged one, or one with a refused member (named, with the reason).
    """
    allowed = max(FLOOR, RATIO * archive.stat().st_size)
    try:
        with _members(archive, title) as found:
            members = list(_checked(found, allowed, title))
            with closing(Progress(f"unpack {title}", sum(member.size for member in members), unit="B")) as progress:
                for member in members:
                    allowed -= _write(member, folder, allowed, title)
                    progress.advance(member.size)
    except _DAMAGE as error:
        raise InputError(f"{title}: a damaged archive ({error}); check its url and its sha256.") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # gzip and bz2 report damaged data this way
        raise InputError(f"{title}: a damaged archive ({error}); check its url and its sha256.") from None


def stays_inside(name: str) -> bool:
    """Whether a path, joined to any folder of any system, names something in that folder."""
    path = PureWindowsPath(name)  # knows both kinds of separators, and drives
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name


@contextmanager
def _members(archive: Path, title: str) -> Iterator[Iterator[_Member]]:
    # a tar whose last member is a zip also ends like a zip: test for tar first
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            yield _tar_members(opened, title)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _zip_members(zipped, title)
    else:
        with archive.open("rb") as file:
            start = file.read(16)
        raise InputError(
            f"{title}: not a complete zip or tar archive (it begins with {start!r}). Check the url, or drop `unpack`."
        )


def _tar_members(archive: tarfile.TarFile, title: str) -> Iterator[_Member]:
    for info in archive:
        if not (info.isreg() or info.isdir() or info.islnk() or info.issym()):
            _refuse(title, info.name, "a device, a pipe or of an unknown kind")
        yield _Member(info.name, info.isdir(), info.size, partial(_open_tar, archive, info, title))
    # tarfile takes a damaged or missing header for the end of the archive
    file = archive.fileobj
    assert file is not None  # noqa: S101 -- open for reading
    file.seek(archive.offset)
    if file.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
        raise tarfile.ReadError(f"no end mark at byte {archive.offset}: cut short or overwritten there")
    while file.read(_BLOCK):  # the checksum of a compressed stream is at its end
        pass


def _open_tar(archive: tarfile.TarFile, info: tarfile.TarInfo, title: str) -> IO[bytes]:
    try:
        opened = archive.extractfile(info)
    except (KeyError, RecursionError):
        opened = None
    if opened is None:
        _refuse(title, info.name, f"a link to {info.linkname!r}, which is not a file in the archive")
    return opened


def _zip_members(archive: zipfile.ZipFile, title: str) -> Iterator[_Member]:
    for info in archive.infolist():
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            _refuse(title, info.filename, "a link or a device")
        if info.flag_bits & 1:
            _refuse(title, info.filename, "encrypted")
        yield _Member(info.filename, info.is_dir(), info.file_size, partial(_open_zip, archive, info, title))


def _open_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, title: str) -> IO[bytes]:
    try:
        return archive.open(info)
    except NotImplementedError as error:
        _refuse(title, info.filename, f"compressed in a way that this Python can't read ({error})")


def _checked(members: Iterator[_Member], allowed: int, title: str) -> Iterator[_Member]:
    """Yield members whose names stay inside, as long as their declared number and sizes are within the limits."""
    for count, member in enumerate(members, start=1):
        if not stays_inside(member.name) and not (member.is_folder and PurePosixPath(member.name) == PurePosixPath()):
            _refuse(title, member.name, "a name that leads out of the folder")
        if count > MEMBERS:
            _refuse(title, member.name, f"member number {count}: more than {MEMBERS} are treated as an attack")
        allowed -= member.size
        if allowed < 0:
            _refuse_bomb(title, member.name)
        yield member


def _write(member: _Member, folder: Path, allowed: int, title: str) -> int:
    """Write one member and return its actual size, which may differ from the declared one (links)."""
    target = folder / PurePosixPath(member.name)
    try:
        (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if member.is_folder:
            return 0
        with member.open() as source, target.open("xb") as file:
            while block := source.read(_BLOCK):
                if file.tell() + len(block) > allowed:
                    _refuse_bomb(title, member.name)
                file.write(block)
            return file.tell()
    except OSError as error:
        if error.errno in _UNUSABLE_NAME:
            _refuse(title, member.name, f"a name that is taken already or can't be used ({error.strerror})")
        error.filename = error.filename or str(target)  # a full disk's error names no file
        raise


def _refuse(title: str, name: str, reason: str) -> NoReturn:
    raise InputError(f"{title}: refused: its member {name!r} is {reason}. Nothing of the archive was kept.")


def _refuse_bomb(title: str, name: str) -> NoReturn:
    reason = f"past the limit of {RATIO} times the archive's size (at least {FLOOR >> 20} MiB): a decompression bomb"
    _refuse(title, name, reason)
