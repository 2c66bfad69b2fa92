"""Which files are pictures: by the ends of their names, and by what the file system says of them."""

import stat
from pathlib import Path

from components.run.errors import InputError

ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
}
"""Formats, by Pillow's names, by the endings of their files' names."""

DAMAGED = "is damaged or cut off"
AGAIN = "fetch it again, or leave it out."
INKS = "printing inks (CMYK), whose colours depend on a profile"

_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def refuse_no_file(path: Path) -> None:
    """Refuse what can't be read like a file, before anything opens it: a pipe would block for ever.

    Raises:
        InputError: nothing is there, a link leads nowhere, or it is a folder, a pipe, a socket or a device.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        if path.is_symlink():
            there = path.readlink()
            raise InputError(f"{path}: is a link to {there}, which is not there; mend or leave it out.") from None
        raise InputError(f"{path}: not found; correct its name.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; correct its name, or leave it out.") from None
    if kind == stat.S_IFDIR:
        raise InputError(f"{path}: cannot be read as a file: Is a directory.")
    if kind != stat.S_IFREG:
        raise InputError(f"{path}: is a {_KINDS.get(kind, 'special file')}, not a file; save the picture as a file.")
