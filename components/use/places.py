"""Which pictures to restore, and where to write the results."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from components.run.errors import InputError

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")


class Job(NamedTuple):
    """A picture and the file to write."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[str], out: Path, suffix: str, ending: str | None) -> list[Job]:
    """List the pictures of files, folders (with all subfolders, whose structure is kept) and patterns.

    Args:
        inputs: files, folders and patterns from the command line.
        out: folder of restored pictures; if it lies in a folder of `inputs`, it is skipped there.
        suffix: added to each name.
        ending: of each restored file, with its dot; None to keep the picture's.

    Raises:
        InputError: an input does not exist or holds no picture, or two pictures would become the same file.
    """
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}
    for source, relative in (found for name in inputs for found in _pictures(name, out)):
        target = out / relative.with_name(f"{relative.stem}{suffix}{ending or relative.suffix}")
        if taken.setdefault(target, source) != source:
            raise InputError(
                f"{source} and {taken[target]} would both become {target}: restore them into separate folders."
            )
        if (job := Job(source, target)) not in jobs:
            jobs.append(job)
    return jobs


def _pictures(name: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures, and their paths relative to the named input."""
    if Path(name).exists():
        matches = [name]
    elif not (matches := sorted(glob.glob(name, recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute pattern
        raise InputError(f"{name}: no such file or folder, and as a pattern it matches none.")
    found = 0
    for match in map(Path, matches):
        if match.is_file():
            found += 1
            yield match, Path(match.name)
            continue
        for path in sorted(match.rglob("*")):
            if path.suffix.lower() in PICTURES and path.is_file() and out.resolve() not in path.resolve().parents:
                found += 1
                yield path, path.relative_to(match)
    if not found:
        raise InputError(f"{name}: holds no picture; pictures end with {', '.join(PICTURES)}.")
