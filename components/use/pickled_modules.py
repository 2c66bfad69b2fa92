"""Tensors from pickled networks, extracted without running any of the code that such files name.

Python's unpickler looks up whatever a file names with `find_class`, and calls it where the file says so. Here every
name except `collections.OrderedDict`, a dict, gives an inert class that only remembers the arguments of its call; that
includes torch's names. The tensors are then made from what these stand-ins remember and the numbers in the file.
"""

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from components.backbones.weights import how_it_begins
from components.run.errors import InputError
from components.run.limits import OPERATIONS, BombError, allowed_bytes, is_torch_zip, refuse_costly_checkpoint

_MAGIC = 0x1950A86A20F9469CFC6C
"""The number with which files of torch before 1.6 begin."""

_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETERS = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
)
_KINDS = 10_000  # classes that a file may name; networks name some dozens
_BROKEN = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, ImportError, MemoryError),
    *(OverflowError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error),
)


class StandIn:
    """Stands in for whatever a pickle names: remembers its arguments and its state, and does nothing else."""

    kind = ""
    """Module and name of the class or function that it stands for."""

    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> "StandIn":  # noqa: PYI034 - pickle makes unknown subclasses of it
        """Remember the arguments here, because pickle may create an object without `__init__`."""
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __init__(self, *_: Any) -> None:
        """Do nothing."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop an item of a foreign mapping."""

    def append(self, item: Any) -> None:
        """Drop an item of a foreign list."""

    def extend(self, items: Any) -> None:
        """Drop items of a foreign list."""


class Stored(NamedTuple):
    """A reference to numbers of one type (`FloatStorage`) that the file holds next to the pickle."""

    kind: str
    key: str


Numbers = Callable[[Stored], bytes]


class InertUnpickler(pickle.Unpickler):
    """Unpickles into dicts, lists, numbers, strings, stand-ins and references to stored numbers."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.kinds: dict[str, str] = {}
        self._stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Give a stand-in class, a new one for each file, so that nothing of one is left for the next."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        kind = f"{module}.{name}"
        if kind not in self._stand_ins and len(self._stand_ins) >= _KINDS:
            raise BombError(f"it names more than {_KINDS} classes")
        return self._stand_ins.setdefault(kind, type("StandIn", (StandIn,), {"kind": kind}))

    def persistent_load(self, pid: Any) -> Any:
        """Give a reference to stored numbers; or, before torch 1.0, a class that comes with its source."""
        if pid[0] == "module":
            return pid[1]
        if pid[0] != "storage" or (len(pid) > 5 and pid[5] is not None):
            raise ValueError(f"unknown reference {pid[0]!r}")
        stored = Stored(pid[1].kind.rpartition(".")[2], str(pid[2]))
        self.kinds[stored.key] = stored.kind
        return stored


def pickled_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name in a file of `torch.save`: those of its networks or, if it holds none, of its dicts.

    Names are those of a `state_dict`, prefixed by the keys of the dicts that contain it (`model.head.0.weight`).

    Raises:
        InputError: the file does not exist, is damaged, or holds no tensors by name.
    """
    try:
        refuse_costly_checkpoint(path)
        content, numbers = _opened(path)
        held = dict(_of_networks(content, (), count())) or dict(_of_dicts(content, (), count()))
        tensors = dict(_within(allowed_bytes(path), held, numbers))
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint.") from None
    except BombError as error:
        raise InputError(f"{path}: refused as a bomb: {error}. Fetch it again, or choose another source.") from None
    except _BROKEN as error:
        about = error.strerror if isinstance(error, OSError) and error.strerror else how_it_begins(path)
        raise InputError(
            f"{path}: not readable as a file of torch.save: damaged, cut off, or another kind of file. {about}"
        ) from None
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name.")
    return tensors


def _within(allowed: int, held: Mapping[str, StandIn], numbers: Numbers) -> Iterator[tuple[str, Tensor]]:
    """Tensors by name, as long as they and what is read for them have no more bytes than allowed."""
    for name, value in held.items():
        tensor, read = _tensor(value, numbers)
        allowed -= tensor.nbytes + read
        if allowed < 0:
            raise BombError("many of its tensors are made of the same numbers")
        yield name, tensor


def _opened(path: Path) -> tuple[Any, Numbers]:
    """Content of the pickle, and a function that reads the numbers to which it refers."""
    content = path.read_bytes()
    if not is_torch_zip(path):
        return _in_sequence(io.BytesIO(content))
    archive = zipfile.ZipFile(io.BytesIO(content))
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    unpickled = InertUnpickler(io.BytesIO(archive.read(pickled))).load()
    return unpickled, lambda stored: archive.read(f"{folder}data/{stored.key}")


def _in_sequence(file: BinaryIO) -> tuple[Any, Numbers]:
    """A file of torch before 1.6: magic number, protocol, sizes of types, content, keys; count and numbers by key."""
    if InertUnpickler(file).load() != _MAGIC:
        raise ValueError("no file by torch.save")
    for _ in ("protocol", "sizes of types"):
        InertUnpickler(file).load()
    unpickler = InertUnpickler(file)
    content = unpickler.load()
    numbers: dict[str, bytes] = {}
    for key in map(str, InertUnpickler(file).load()):
        (count,) = struct.unpack("<q", file.read(8))
        numbers[key] = file.read(count * _TYPES[unpickler.kinds[key]].itemsize)
    return content, lambda stored: numbers[stored.key]


def _of_networks(value: Any, path: tuple[str, ...], seen: Iterator[int]) -> Iterator[tuple[str, StandIn]]:
    """Parameters and buffers, by name, of all networks in a file, wherever they lie in its dicts."""
    _refuse_many(seen)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _of_networks(item, (*path, str(key)), seen)
    elif isinstance(value, StandIn) and isinstance(value.state, Mapping) and "_parameters" in value.state:
        transient = value.state.get("_non_persistent_buffers_set", ())
        for group in ("_parameters", "_buffers"):
            for name, item in value.state[group].items():
                if _is_tensor(item) and name not in _names(transient):
                    yield ".".join((*path, name)), item
        for name, item in value.state["_modules"].items():
            yield from _of_networks(item, (*path, name), seen)


def _of_dicts(value: Any, path: tuple[str, ...], seen: Iterator[int]) -> Iterator[tuple[str, StandIn]]:
    """Tensors by name in a file's dicts; whatever else lies there is ignored."""
    _refuse_many(seen)
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _of_dicts(item, (*path, key), seen)
    elif _is_tensor(value):
        yield ".".join(path), value


def _refuse_many(seen: Iterator[int]) -> None:
    """A dict that holds another twice, and that a third twice, and so on, has no end."""
    if next(seen) > OPERATIONS:
        raise BombError(f"its dicts lead to more than {OPERATIONS} objects")


def _names(group: Any) -> Any:
    """The items of a set; pickle writes it as a call of `set` with a list."""
    return group.arguments[0] if isinstance(group, StandIn) and group.arguments else group


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StandIn) and value.kind in _TENSORS + _PARAMETERS


def _tensor(value: Any, numbers: Numbers) -> tuple[Tensor, int]:
    """The tensor that a stand-in describes, and how many bytes were read for it.

    Raises:
        ValueError: it reaches beyond the stored numbers, or is of another kind.
    """
    if value.kind in _PARAMETERS:
        return _tensor((value.arguments or value.state)[0], numbers)
    if value.kind not in _TENSORS:
        raise ValueError(f"no tensor: {value.kind}")
    stored, offset, size, stride = value.arguments[:4]
    kind = _TYPES[stored.kind]
    content = bytearray(numbers(stored))
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, last) < 0 or last >= len(content) // kind.itemsize or math.prod(size) > len(content):
        raise ValueError("a tensor beyond its numbers")
    tensor = torch.frombuffer(content, dtype=kind).as_strided(tuple(size), tuple(stride), offset).clone().contiguous()
    return tensor, len(content)
