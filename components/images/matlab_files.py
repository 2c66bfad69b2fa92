"""MATLAB's files of variables (`.mat`)."""

import faulthandler
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.run.errors import InputError
from components.run.limits import RATIO, BombError, allowed_bytes

_MAT_HEADER, _MAT_PACKED = 128, 15  # MAT-File Format (MathWorks), level 5
_BLOCK = 1 << 20
_BROKEN = (
    OSError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NameError,
    EOFError,
    zlib.error,
)
"""What h5py raises on damaged bytes."""


def load_matlab(path: Path, instead: str) -> dict[str, Any]:
    """Variables of a file before version 7.3, as scipy gives them: arrays, whose elements may be structs or cells.

    Args:
        path: the file.
        instead: what a user can write in place of a file that can't be read.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is damaged, of another kind, a bomb, or of version 7.3.
    """
    try:
        _refuse_bomb(path)
        # In a process of its own, since damaged bytes can end the one that reads them.
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            values = pool.submit(_variables, path).result()
    except FileNotFoundError:
        raise
    except BombError as error:
        raise _bomb(path, error) from None
    except NotImplementedError:
        raise InputError(
            f"{path}: is a MATLAB file of version 7.3 (HDF5), which can't be read here. Save it in MATLAB with "
            f"`save(..., '-v7')`, or {instead}."
        ) from None
    except Exception as error:  # noqa: BLE001 -- what scipy makes of damaged bytes depends on its memory
        raise _damaged(path, error) from None
    return {name: value for name, value in values.items() if not name.startswith("__")}


def _variables(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat  # noqa: PLC0415 - takes a second, and few runs read such files

    faulthandler.disable()  # the process that waits says what happened
    with path.open("rb") as file:
        values: dict[str, Any] = loadmat(file)
    return values


def read_numbers(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of numbers in a file of any version, however deep, under its place: `net.layers.3.weights.0`.

    Structs give their fields, cells and structs of several elements the number of each, from 0.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is damaged, of another kind, or a bomb.
    """
    import h5py  # noqa: PLC0415 - as scipy.io

    if not h5py.is_hdf5(path):
        values = load_matlab(path, instead="fetch it again")
        return {name: array for variable, value in values.items() for name, array in _numbers(variable, value)}
    try:
        with h5py.File(path) as file:
            _refuse_large(file, allowed_bytes(path))
            places = [name for name in file if not name.startswith("#")]
            return {name: array for place in places for name, array in _stored_numbers(place, file[place], file)}
    except BombError as error:
        raise _bomb(path, error) from None
    except _BROKEN as error:
        raise _damaged(path, error) from None


def _bomb(path: Path, error: BombError) -> InputError:
    return InputError(f"{path}: refused as a bomb: {error}. Fetch it again, or choose another source.")


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: is not a MATLAB file, or is damaged ({error}). Fetch it again.")


def _refuse_bomb(path: Path) -> None:
    """Unpack a MATLAB file without keeping it: each variable is a kind, a length and, if packed, a zlib stream."""
    content, left = path.read_bytes(), allowed_bytes(path)
    order: Literal["little", "big"] = "little" if content[126:128] == b"IM" else "big"
    place = _MAT_HEADER
    while place + 8 <= len(content):
        kind, length = (int.from_bytes(content[place + at : place + at + 4], order) for at in (0, 4))
        place += 8
        packed = zlib.decompressobj() if kind == _MAT_PACKED else None
        rest = content[place : place + length]
        while packed and rest and not packed.eof:
            left -= len(packed.decompress(rest, _BLOCK))
            rest = packed.unconsumed_tail
            if left < 0:
                raise BombError(f"unpacked, it has more than {RATIO} times its size")
        place += length


def _refuse_large(file: Any, allowed: int) -> None:
    """Refuse an HDF5 file whose arrays have more than `allowed` bytes."""
    sizes: list[int] = []
    file.visititems(lambda _, held: sizes.append(getattr(held, "nbytes", 0)))
    if sum(sizes) > allowed:
        raise BombError(f"unpacked, it has more than {RATIO} times its size")


def _numbers(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Of a value from scipy."""
    array = np.asarray(value)
    if array.dtype.kind in "fiub":
        yield name, array
    elif array.dtype.names:
        for place, element in enumerate(array.flat):
            where = name if array.size == 1 else f"{name}.{place}"
            for field in array.dtype.names:
                yield from _numbers(f"{where}.{field}", element[field])
    elif array.dtype == object:
        for place, element in enumerate(array.flat):
            yield from _numbers(name if array.ndim == 0 else f"{name}.{place}", element)


def _stored_numbers(name: str, value: Any, file: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Of a value from HDF5, where dimensions are reversed, structs are groups, and cells refer to what they hold."""
    kind = value.attrs.get("MATLAB_class", b"")
    if hasattr(value, "items"):
        for field, held in value.items():
            yield from _stored_numbers(f"{name}.{field}", held, file)
    elif kind != b"char" and "MATLAB_empty" not in value.attrs:
        if value.dtype == object:
            for place, reference in enumerate(value[()].flat):
                yield from _stored_numbers(f"{name}.{place}", file[reference], file)
        elif value.dtype.kind in "fiub":
            yield name, value[()].T
