"""How much a file may unpack to, and a pickle may ask for: more than real data needs, less than a machine has."""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO

RATIO = 100
"""Unpacked bytes allowed for each byte of a file: deflate reaches 1032, photographs and weights stay below 10."""
FLOOR = 64 << 20
"""Unpacked bytes that any file may have, however small it is."""
OPERATIONS = 2_000_000
"""Operations that a pickle may have, each for one small object; a checkpoint of a thousand tensors takes 50,000."""
IN_PIECES = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA}
"""What is unpacked piece by piece in a zip; Python unpacks 4 kB of bzip2 there at once, into gigabytes."""

_PICKLES_BEFORE_NUMBERS = 5  # torch before 1.6: magic number, protocol, sizes of types, content, keys


class BombError(ValueError):
    """A file that holds far more than its size tells."""


def allowed_bytes(path: Path) -> int:
    """Unpacked bytes that a file may have."""
    return max(FLOOR, RATIO * path.stat().st_size)


def refuse_zip_bomb(archive: zipfile.ZipFile, allowed: int) -> None:
    """Refuse a zip that declares more than `allowed` bytes; readers stop at what is declared.

    Raises:
        BombError: it declares more, or is compressed in a way that is not unpacked piece by piece.
    """
    members = archive.infolist()
    if sum(info.file_size for info in members) > allowed or any(
        info.compress_type not in IN_PIECES for info in members
    ):
        raise BombError(f"unpacked, it has more than {RATIO} times its size")


def refuse_costly_checkpoint(path: Path) -> None:
    """Refuse a file of `torch.save`, of any version, that would take much memory or time to read.

    Raises:
        BombError: it would.
        Exception: it is damaged; whoever reads it then says so.
    """
    if is_torch_zip(path):
        with zipfile.ZipFile(path) as archive:
            refuse_zip_bomb(archive, allowed_bytes(path))
            for info in archive.infolist():
                if info.filename.endswith(".pkl"):
                    _refuse_costly_pickle(io.BytesIO(archive.read(info)))
    else:
        with path.open("rb") as file:
            for _ in range(_PICKLES_BEFORE_NUMBERS):
                _refuse_costly_pickle(file)


def is_torch_zip(path: Path) -> bool:
    """Whether torch takes a file for a zip, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _refuse_costly_pickle(file: IO[bytes]) -> None:
    """Read one pickle without making anything of it.

    Python's own reader makes room for as many remembered objects as the pickle says, be it eleven bytes long.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count > OPERATIONS or ("PUT" in operation.name and int(argument or 0) > OPERATIONS):
            raise BombError(f"its pickle has, or asks for, more than {OPERATIONS} objects")
