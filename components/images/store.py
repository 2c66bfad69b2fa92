"""The image store: raw uint8 images in one LMDB file: a training crop is a slice of a memory map, without decoding."""

import errno
import functools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import lmdb
import numpy as np
from numpy.typing import NDArray

from components.images.datasets import Split
from components.run.errors import InputError
from components.run.files import read_json, write_text
from components.run.params import typed

Image = NDArray[np.uint8]
Size = tuple[int, int]
Cut = tuple[Size, Size]
"""Corner and size of a part of an image: (top, left), (height, width)."""

_LMDB_FORMAT = 0  # of LMDB 0.9; fixed because the library would otherwise read a default from the environment
_HEADROOM = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One stored image, or aligned sub-image, and its degraded partner.

    Attributes:
        key: eight digits that count the records of a store.
        split: training or validation.
        image: `dataset/name` of the image it was cut from.
        corner: top and left within that image, in clean pixels.
        clean: height and width of the clean image.
        degraded: height and width of the degraded image; None if it is made on demand.
    """

    key: str
    split: Split
    image: str
    corner: Size
    clean: Size
    degraded: Size | None


class Pair(NamedTuple):
    """The same part of both images, uint8 `H W 3` RGB; `degraded` is None where the store holds clean images only."""

    degraded: Image | None
    clean: Image


@dataclass(frozen=True, slots=True)
class _Index:
    scale: int
    records: tuple[Record, ...]


class Store:
    """Reads a store. Cheap to pickle; every process maps the file itself, at its first read.

    Raises:
        InputError: the folder is not a store, or its file is cut short.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        try:
            index = read_json(self._folder / "index.json")
            self._inode = (self._folder / "data.mdb").stat().st_ino
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{folder}: no image store ({error}). The stage build_lmdb writes one.") from None
        self._index: _Index = typed(_Index, index, f"{folder / 'index.json'}")

    @property
    def scale(self) -> int:
        """Clean size over degraded size."""
        return self._index.scale

    def records(self, split: Split) -> tuple[Record, ...]:
        """Return the records of one split, in the order of the manifest."""
        return tuple(record for record in self._index.records if record.split == split)

    def crop(self, record: Record, top: int, left: int, height: int, width: int) -> Pair:
        """Copy one rectangle out of both images; it is given in degraded pixels and lies within the record."""
        degraded = None
        if record.degraded is not None:
            stored = self._read(record, "degraded", record.degraded)
            degraded = stored[top : top + height, left : left + width].copy()
        top, left, height, width = (self.scale * side for side in (top, left, height, width))
        clean = self._read(record, "clean", record.clean)[top : top + height, left : left + width].copy()
        return Pair(degraded, clean)

    def whole(self, record: Record) -> Pair:
        """Copy both images."""
        height, width = record.clean
        return self.crop(record, 0, 0, height // self.scale, width // self.scale)

    def _read(self, record: Record, part: Literal["clean", "degraded"], size: Size) -> Image:
        """View an image in the memory map: valid only while the file is mapped, so callers copy."""
        with _damage_told(self._folder):
            view = _mapped(self._folder, self._inode).get(_key(record, part))
        if view is None or len(view) != size[0] * size[1] * 3:
            raise InputError(f"{self._folder}: index.json and data.mdb differ at {record.key}; rerun build_lmdb.")
        return np.frombuffer(view, np.uint8).reshape(*size, 3)


class StoreWriter:
    """Writes a store into a folder that does not exist yet; use it in a `with` statement, which closes it.

    The same images in the same order give the same bytes. Each is in the file when `add` returns, so memory use is
    constant.

    Args:
        folder: where to create the store.
        scale: clean size over degraded size.
        expected: rough number of bytes to write: the initial size of the memory map, which doubles as needed.
    """

    def __init__(self, folder: Path, scale: int, expected: int) -> None:
        folder.mkdir()
        self._folder, self._scale = folder, scale
        self._records: list[Record] = []
        # The folder gets its name only when it is complete, so that flushing once, at the end, is enough.
        with _as_of_the_system(folder):
            self._environment = lmdb.open(
                str(folder), map_size=expected + _HEADROOM, lock=False, sync=False, lib_version=_LMDB_FORMAT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                with _as_of_the_system(self._folder):
                    self._environment.sync(True)
                self._write_index()
        finally:
            self._environment.close()

    def add(self, split: Split, image: str, pair: Pair, cuts: Sequence[Cut]) -> None:
        """Store parts of one image, whose name is `image`, and the same parts of its degraded partner.

        Args:
            split: training or validation.
            image: `dataset/name`.
            pair: the whole images.
            cuts: corner and size of each part in clean pixels, multiples of the scale.

        Raises:
            OSError: the disk is full.
        """
        records = [
            Record(f"{key:08d}", split, image, corner, size, None if pair.degraded is None else self._reduced(size))
            for key, (corner, size) in enumerate(cuts, start=len(self._records))
        ]
        with _as_of_the_system(self._folder):
            while not self._put(records, pair):
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
        self._records += records

    def _put(self, records: Sequence[Record], pair: Pair) -> bool:
        """Write parts of a pair in one transaction; False where the memory map is too small for them."""
        try:
            with self._environment.begin(write=True) as transaction:
                for record in records:
                    transaction.put(_key(record, "clean"), _part(pair.clean, record.corner, record.clean), append=True)
                    if pair.degraded is not None and record.degraded is not None:
                        part = _part(pair.degraded, self._reduced(record.corner), record.degraded)
                        transaction.put(_key(record, "degraded"), part, append=True)
        except lmdb.MapFullError:
            return False
        return True

    def _reduced(self, size: Size) -> Size:
        return size[0] // self._scale, size[1] // self._scale

    def _write_index(self) -> None:
        lines = ",\n".join(json.dumps(asdict(record), ensure_ascii=False) for record in self._records)
        write_text(self._folder / "index.json", f'{{"scale": {self._scale}, "records": [\n{lines}\n]}}\n')


@functools.cache
def _mapped(folder: Path, inode: int) -> "lmdb.Transaction[memoryview]":  # noqa: ARG001 - new file, new inode
    """Map a store's file once per process, as LMDB refuses a second time; a forked process reads its parent's map."""
    # Readahead stays on, unlike usual with LMDB: a crop spans tens of consecutive pages and loads 2.5 times faster when
    # it must come from disk.
    environment = lmdb.open(str(folder), readonly=True, create=False, lock=False, readahead=True)
    pages = environment.info()["last_pgno"] + 1
    if pages * environment.stat()["psize"] > (folder / "data.mdb").stat().st_size:
        # Reading on would kill the process with SIGBUS.
        raise InputError(f"{folder / 'data.mdb'}: cut short, {pages} pages were written. Rerun build_lmdb or pull it.")
    return environment.begin(buffers=True)


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise InputError(f"{folder / 'data.mdb'}: damaged ({error}). Rerun build_lmdb or pull it.") from None


@contextmanager
def _as_of_the_system(folder: Path) -> Iterator[None]:
    """Raise LMDB's errors that are the system's (a full disk) as such; LMDB's own have negative codes."""
    try:
        yield
    except lmdb.Error as error:
        if error.code <= 0:
            raise
        # LMDB reports EIO for a short write, the first sign of a full disk.
        code = errno.ENOSPC if error.code == errno.EIO else error.code
        raise OSError(code, os.strerror(code), str(folder)) from error


def _key(record: Record, part: str) -> bytes:
    return f"{record.key}/{part}".encode()


def _part(image: Image, corner: Size, size: Size) -> memoryview:
    (top, left), (height, width) = corner, size
    return np.ascontiguousarray(image[top : top + height, left : left + width]).data
