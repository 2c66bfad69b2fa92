"""How much a file may unpack to, and a pickle may ask for: more than real data needs, less than a machine has."""

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import IO

RATIO = 100
"""Unpacked bytes allowed for each byte of a file: deflate reaches 1032, photographs and weights stay below 10."""
FLOOR = 64 << 20
"""Unpacked bytes that any file may have, however small it is."""
OPERATIONS = 2_000_000
"""Operations that a pickle may have: a network of a thousand tensors takes some 30,000, and one operation makes an
object of at most 300 bytes."""


def allowed_bytes(path: Path) -> int:
    """Unpacked bytes that a file may have."""
    return max(FLOOR, RATIO * path.stat().st_size)


def refuse_bomb(archive: zipfile.ZipFile, allowed: int) -> None:
    """Refuse a zip whose members are declared to hold more than `allowed` bytes; readers stop at what is declared.

    Raises:
        ValueError: it is a decompression bomb.
    """
    if (size := sum(info.file_size for info in archive.infolist())) > allowed:
        raise ValueError(f"a decompression bomb: {size} bytes packed into less than a {RATIO}th")


def refuse_costly_pickle(file: IO[bytes]) -> None:
    """Read one pickle without building anything of it, and refuse what would take much memory or time to build.

    The file is left after the pickle. Python's unpickler trusts a pickle's numbers: it makes room for as many
    remembered objects, or bytes, as eleven bytes of pickle say.

    Raises:
        pickle.UnpicklingError: it has very many operations, or numbers that do not fit its length.
        ValueError: it is damaged.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count > OPERATIONS or ("PUT" in operation.name and int(argument or 0) > OPERATIONS):
            raise pickle.UnpicklingError(f"a pickle of more than {OPERATIONS} operations")
