"""Unpack archives without leaving their folder: no absolute names, no `..`, no links, devices or bombs."""

import bz2
import gzip
import logging
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NoReturn, cast

from components.run.errors import InputError
from components.run.limits import FLOOR, IN_PIECES, RATIO, allowed_bytes
from components.telemetry.progress import Progress

MEMBERS = 1_000_000
"""Members that an archive may have: a million empty files fill a disk's inode table."""
HEADERS = 1 << 16
"""Bytes of headers that a tar may have for one member: its longest names have 4096."""

_BLOCK = 1 << 20
_TAR_BLOCK = 512
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError, MemoryError)
_PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""Readers of compressed tars, by how those begin."""
_UNIX, _UTF8 = 3, 0x800  # of a zip's `create_system` and `flag_bits`
_LINKS = 40
"""Links to links that are followed, as by Linux."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    size: int
    open: Callable[[], IO[bytes]]

    @property
    def is_of_macos(self) -> bool:
        """Whether it holds what macOS notes of another file, under a name that looks like that file's."""
        parts = PurePosixPath(self.name).parts
        return bool(parts) and (parts[0] == "__MACOSX" or parts[-1].startswith("._"))


def unpack(archive: Path, folder: Path, title: str) -> None:
    """Unpack a zip or tar (plain, gz, bz2, xz) into an existing folder.

    Every name is checked before the first byte is written. Files get the default mode of a new file, whatever the
    archive says. A link in a tar becomes a copy of the member that it names, so that nothing can be written through it.
    `tarfile`'s own `data` filter is not used: it accepts absolute names, keeps links, and could be escaped by long
    chains of links (CVE-2025-4517). A caller that must not keep half an archive passes a temporary folder. What macOS
    adds for itself (`__MACOSX/`, `._NAME`) is left out, and told.

    Args:
        archive: the file.
        folder: where to unpack to.
        title: what to call the archive in messages.

    Raises:
        InputError: not an archive, a damaged one, or one with a refused member (named, with the reason).
    """
    allowed = allowed_bytes(archive)
    try:
        with _members(archive, allowed, title) as found:
            members = list(_checked(found, allowed, title))
            if others := [member.name for member in members if member.is_of_macos]:
                _log.info(f"{title}: left out {len(others)} members that macOS made for itself, such as {others[0]!r}")
            with closing(Progress(f"unpack {title}", sum(member.size for member in members), unit="B")) as progress:
                for member in members:
                    if not member.is_of_macos:
                        allowed -= _write(member, folder, allowed, title)
                    progress.advance(member.size)
    except InputError:
        raise
    except (*_DAMAGE, ValueError) as error:
        raise _damaged(title, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(title, error) from None  # gzip and bz2 report damaged data this way


def stays_inside(name: str) -> bool:
    """Whether a path, joined to any folder of any system, names something in that folder."""
    path = PureWindowsPath(name)  # knows both kinds of separators, and drives
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name


def _damaged(title: str, error: Exception) -> InputError:
    return InputError(f"{title}: a damaged archive ({error or type(error).__name__}); check its url and its sha256.")


@contextmanager
def _members(archive: Path, allowed: int, title: str) -> Iterator[Iterator[_Member]]:
    with archive.open("rb") as file:
        start = file.read(16)
    reader = next((reader for begin, reader in _PACKED.items() if start.startswith(begin)), open)
    with ExitStack() as opened:
        stream = _TarStream(opened.enter_context(reader(archive, "rb")), title)
        try:
            # a tar whose last member is a zip also ends like a zip: test for tar first
            tar = opened.enter_context(tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:"))
        except tarfile.ReadError:
            if not zipfile.is_zipfile(archive):
                raise InputError(
                    f"{title}: not a complete zip or tar archive (it begins with {start!r}). Check the url, or drop "
                    "`unpack`."
                ) from None
            yield _zip_members(opened.enter_context(zipfile.ZipFile(archive)), title)
        else:
            yield _tar_members(tar, stream, allowed, title)


class _TarStream:
    """The unpacked bytes of a tar. What is read before a member is its headers, and limited."""

    def __init__(self, file: IO[bytes], title: str) -> None:
        self._file, self._title = file, title
        self.headers: int | None = HEADERS
        """Bytes that may still be read as headers; None for any number, where members' contents are read."""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        if self.headers is not None:
            if not 0 <= size <= self.headers:
                raise InputError(
                    f"{self._title}: refused: the headers of its member at byte {self.tell()} have more than {HEADERS} "
                    "bytes: a bomb. Nothing of the archive was kept."
                )
            self.headers -= size
        return self._file.read(size)


def _tar_members(archive: tarfile.TarFile, stream: _TarStream, allowed: int, title: str) -> Iterator[_Member]:
    by_name: dict[str, tarfile.TarInfo] = {}
    end = 0
    for info in archive:
        if info.size < 0 or archive.offset <= end:
            raise tarfile.ReadError(f"a size below 0 at byte {end}")
        end = archive.offset
        if not (info.isreg() or info.isdir() or info.islnk() or info.issym()):
            _refuse(title, info.name, "a device, a pipe or of an unknown kind")
        if end > allowed:  # the next step unpacks all that lies before
            _refuse_bomb(title, info.name)
        info.pax_headers = {}  # they hold those of the whole archive again
        by_name[posixpath.normpath(info.name)] = info
        yield _Member(_text(info.name), info.isdir(), info.size, partial(_open_tar, archive, info, by_name, title))
        stream.headers = HEADERS
    stream.headers = None
    # tarfile takes a damaged or missing header for the end of the archive
    stream.seek(archive.offset)
    if stream.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
        raise tarfile.ReadError(f"no end mark at byte {archive.offset}: cut short or overwritten there")
    while stream.read(_BLOCK):  # the checksum of a compressed stream is at its end
        if stream.tell() > allowed:
            raise tarfile.ReadError(f"more than {allowed} bytes, the last of them after its end mark")


def _open_tar(
    archive: tarfile.TarFile, info: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo], title: str
) -> IO[bytes]:
    found: tarfile.TarInfo | None = info
    for _ in range(_LINKS):
        if found is None or not (found.islnk() or found.issym()):
            break
        beside = posixpath.dirname(found.name) if found.issym() else ""
        found = by_name.get(posixpath.normpath(posixpath.join(beside, found.linkname)))
    opened = archive.extractfile(found) if found and found.isreg() else None
    if opened is None:
        _refuse(title, info.name, f"a link to {info.linkname!r}, which is not a file in the archive")
    return opened


def _text(name: str) -> str:
    """A name that is no UTF-8, as old systems wrote it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode(errors="surrogateescape").decode("latin-1")
    return name


def _zip_members(archive: zipfile.ZipFile, title: str) -> Iterator[_Member]:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
            _refuse(title, info.filename, "a link or a device")
        if info.flag_bits & 1:
            _refuse(title, info.filename, "encrypted")
        if info.header_offset < end:
            _refuse(title, info.filename, "made of the same bytes as another: a bomb")
        if info.compress_type not in IN_PIECES:
            method = f"method {info.compress_type}"
            _refuse(title, info.filename, f"compressed in a way that can't be read here ({method}); pack it by deflate")
        end = info.header_offset + info.compress_size
        name = _zip_name(info)
        yield _Member(name, name.endswith("/"), info.file_size, partial(archive.open, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & _UTF8:
        with suppress(UnicodeError):  # macOS and others write UTF-8 without saying so; zipfile reads it as cp437
            name = name.encode("cp437").decode()
    return name if info.create_system == _UNIX else name.replace("\\", "/")


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
        made = None if member.is_folder else target.open("xb")
    except OSError as error:
        _refuse(title, member.name, f"a name that is taken already or can't be used ({error.strerror})")
    if made is None:
        return 0
    try:
        with made as file, member.open() as source:
            while block := source.read(_BLOCK):
                if file.tell() + len(block) > allowed:
                    _refuse_bomb(title, member.name)
                file.write(block)
            return file.tell()
    except OSError as error:
        error.filename = error.filename or str(target)  # a full disk's error names no file
        raise


def _refuse(title: str, name: str, reason: str) -> NoReturn:
    raise InputError(f"{title}: refused: its member {name!r} is {reason}. Nothing of the archive was kept.")


def _refuse_bomb(title: str, name: str) -> NoReturn:
    reason = f"past the limit of {RATIO} times the archive's size (at least {FLOOR >> 20} MiB): a decompression bomb"
    _refuse(title, name, reason)
