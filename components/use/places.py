"""Which pictures to restore, and where to write the results."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from components.images.picture_files import ENDINGS
from components.run.errors import InputError

_LOG = logging.getLogger(__name__)


class Job(NamedTuple):
    """A picture and the file to write."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[str], out: Path, suffix: str, ending: str | None) -> list[Job]:
    """List the pictures of files, folders (with all subfolders, whose structure is kept) and patterns.

    Logs how many files of a folder are left out, and why.

    Args:
        inputs: files, folders and patterns from the command line.
        out: folder of restored pictures; if it lies in a folder of `inputs`, it is skipped there.
        suffix: added to each name.
        ending: of each restored file, with its dot; None to keep the picture's.

    Raises:
        InputError: an input does not exist or holds no picture, nothing can be written into `out`, or a result would
            replace a picture or another result.
    """
    if "/" in suffix or "\0" in suffix:
        raise InputError(f"--suffix {suffix!r}: is added to names, so it has no slash; write a folder as --out.")
    taken: dict[Path, Path] = {}
    for source, relative in (found for name in inputs for found in _pictures(name, out)):
        target = out / relative.with_name(f"{relative.stem}{suffix}{ending or relative.suffix}")
        if taken.setdefault(target, source) != source:
            raise InputError(
                f"{source} and {taken[target]} would both become {target}: restore them into separate folders."
            )
    _refuse_unwritable(out)
    results = {os.path.realpath(target): source for target, source in taken.items()}
    jobs = []
    for target, source in taken.items():
        made_of = results.get(os.path.realpath(source))
        if made_of == source:
            raise InputError(f"{source}: its result would take its place; write another --out, or a --suffix.")
        if made_of:
            _LOG.warning("%s: left out, since its name is that of the result of %s.", source, made_of)
        else:
            jobs.append(Job(source, target))
    return jobs


def is_kept(target: Path, *, overwrite: bool) -> bool:
    """Whether a file at a result's place stays.

    Raises:
        InputError: there is a folder.
    """
    if target.is_dir():
        raise InputError(f"its result {target} is a folder; move that away, or write another --out.")
    if kept := target.exists() and not overwrite:
        _LOG.warning("%s: already exists and is kept (--overwrite replaces it).", target)
    return kept


def _refuse_unwritable(out: Path) -> None:
    """Try it, which alone is sure, without leaving anything there."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if os.path.lexists(place))
    try:
        with TemporaryDirectory(dir=there, prefix="."):
            pass
    except OSError as error:
        raise InputError(
            f"--out {out}: nothing can be written into {there}: {error.strerror}; write another folder."
        ) from None


def _pictures(name: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures, and their paths relative to the named input."""
    matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise InputError(f"{name}: no such file or folder, and as a pattern it matches none.")
    found, left = 0, Counter[str]()
    for match in map(Path, matches):
        if not match.is_dir():
            found += 1
            yield match, Path(match.name)
            continue
        for path in _files(match, out):
            if path.suffix.lower() in ENDINGS:
                found += 1
                yield path, path.relative_to(match)
            else:
                left[path.suffix.lower() or "no ending"] += 1
    told = ", ".join(f"{count} of {kind}" for kind, count in sorted(left.items()))
    if not found:
        raise InputError(
            f"{name}: holds no picture{f', but {told}' if told else ''}; pictures end with {', '.join(ENDINGS)}."
        )
    if told:
        _LOG.warning("%s: %d left out, whose names do not end as pictures' do: %s.", name, left.total(), told)


def _files(folder: Path, out: Path) -> list[Path]:
    """All that is in a folder but folders, through links too; each folder once, where no link leads to it if it can."""
    files: list[Path] = []
    folders, links = [folder], list[Path]()
    seen = {os.path.realpath(out)} - {os.path.realpath(folder)}
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            raise InputError(f"{here}: cannot be listed: {error.strerror}; allow it, or name other folders.") from None
        for path in entries:
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            else:
                files.append(path)
    return sorted(files)
