"""What a picture's file says beside its pixels: who took it, how, when and where; its resolution and colour profile."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF's orientations that exchange rows and columns."""

_TEXTS = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
    *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright),
)
_FOLDERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_LEFT_OUT = (
    *(ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.MakerNote),
    ExifTags.Base.ExifInteroperabilityOffset,
)
"""What would be wrong at another size, or readable only at its old place and by the camera's own program."""
_LARGEST = 65_000
"""Bytes of EXIF that every format can hold: a JPEG's segment has 65,533."""
_LARGEST_RESOLUTION = 65_535
"""Pixels per inch that every format can hold."""


@dataclass(frozen=True)
class Description:
    """What is kept of a file when its picture is restored.

    Attributes:
        exif: who took it, how, when and where; without orientation, sizes and the preview. Every tag can be written.
        dropped: names of the tags that can't be written.
        profile: ICC colour profile, or empty.
        resolution: pixels per inch, horizontally and vertically, or None.
        lossless: whether it is a WebP that holds its pixels without loss.
    """

    exif: Image.Exif
    dropped: tuple[str, ...] = ()
    profile: bytes = b""
    resolution: tuple[float, float] | None = None
    lossless: bool = False


def describe(
    read_exif: Callable[[], Image.Exif],
    *,
    profile: bytes | None,
    resolution: Callable[[Image.Exif], Iterable[float] | None],
    lossless: bool = False,
) -> tuple[Image.Exif, Description]:
    """The EXIF of an open file as it is, and what is kept of the file.

    Args:
        read_exif: reads it; whatever it raises is the file's fault, and leaves the picture without EXIF.
        profile: ICC colour profile.
        resolution: pixels per inch, horizontally and vertically, in the directions of the file's rows and columns.
        lossless: whether it is a WebP that holds its pixels without loss.
    """
    try:
        exif = read_exif()
        kept, dropped = _writable(exif)
    except Exception:  # noqa: BLE001 - Pillow raises what its arithmetic on damaged bytes raises
        exif, kept, dropped = Image.Exif(), Image.Exif(), ("EXIF",)
    try:
        found = tuple(float(value) for value in resolution(exif) or ())
    except (TypeError, ValueError, ZeroDivisionError):
        found = ()
    if exif.get(ExifTags.Base.Orientation) in SIDEWAYS:
        found = found[::-1]
    usable = len(found) == 2 and all(0 < value <= _LARGEST_RESOLUTION for value in found)
    return exif, Description(kept, dropped, profile or b"", (found[0], found[1]) if usable else None, lossless)


def _writable(found: Image.Exif) -> tuple[Image.Exif, tuple[str, ...]]:
    """The tags that are kept and read back as they were when written, and the names of those that do not."""
    kept, dropped = Image.Exif(), []
    for folder, tag, value in list(_entries(found)):
        entries: Any = kept if folder is None else kept.setdefault(folder, {})
        # Pillow writes question marks for what is not ASCII, and reads each byte as a sign.
        entries[tag] = value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value
        is_text = folder is not None or isinstance(value, str)
        if not (is_text and _reads_back(kept, folder, tag, value)):
            del entries[tag]
            if folder is not None and not entries:
                del kept[folder]
            names = ExifTags.GPSTAGS if folder == ExifTags.IFD.GPSInfo else ExifTags.TAGS
            dropped.append(names.get(tag, f"tag {tag}"))
    return kept, tuple(dropped)


def _entries(found: Image.Exif) -> Iterator[tuple[int | None, int, Any]]:
    """Each tag that is kept: its folder, its number, its value."""
    yield from ((None, int(tag), found[tag]) for tag in _TEXTS if tag in found)
    for folder in _FOLDERS:
        yield from ((folder, tag, value) for tag, value in found.get_ifd(folder).items() if tag not in _LEFT_OUT)


def _reads_back(exif: Image.Exif, folder: int | None, tag: int, value: Any) -> bool:
    again = Image.Exif()
    try:
        again.load(content := exif.tobytes())
        entries: Any = again if folder is None else again.get_ifd(folder)
        # Texts are compared, since a fraction of zero by zero equals nothing.
        return len(content) <= _LARGEST and repr(entries.get(tag)) == repr(value)
    except Exception:  # noqa: BLE001 - Pillow raises what its arithmetic on a value of the wrong type raises
        return False
