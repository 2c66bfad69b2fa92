"""The verdict of the check of the whole project, kept by a hash of all that it reads: 40 stages pay for one check.

It imports nothing that takes time, because every step and every command begins with it.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from components.run.errors import InputError
from components.run.files import write_text

CHECK = "components.checking"
KEPT = Path(".cache/check")
"""Empty files, each named after the hash of a project without fault."""

_CODE = Path(__file__).parents[1]
_READ = ("params.yaml", "dvc.yaml")
_MOST = 50


def refuse_unsound() -> None:
    """Refuse a project that is known to fail, before a step of it runs.

    The check runs in a process of its own: what it imports is no dependency of the step.

    Raises:
        InputError: all that is wrong with params.yaml and dvc.yaml.
    """
    if not Path("dvc.yaml").is_file() or is_known(key_of(Path()), KEPT):
        return
    path = os.pathsep.join(filter(None, [str(_CODE.parent), os.environ.get("PYTHONPATH", "")]))
    ended = subprocess.run(
        [sys.executable, "-m", CHECK],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 2:
        raise InputError(ended.stderr.strip().removeprefix("error: "))
    if ended.returncode:
        raise RuntimeError(f"{CHECK} ended with {ended.returncode}: {ended.stderr}")


def key_of(folder: Path, *more: Path) -> str:
    """Hash of a project's params and graph, and of the code that judges them: this package's, and `more` files."""
    digest = hashlib.sha256()
    for path in [*(folder / name for name in _READ), *sorted(_CODE.rglob("*.py")), *sorted(more)]:
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def is_known(key: str, kept: Path) -> bool:
    """Whether a project with this hash was found without fault."""
    return (kept / key).is_file()


def keep(key: str, kept: Path) -> None:
    """Remember that a project has no fault, and forget the oldest of many.

    A folder that can't be written to only means that the next process checks again.
    """
    with contextlib.suppress(OSError):
        write_text(kept / key, "")
        by_age = sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in by_age[_MOST:]:
            old.unlink(missing_ok=True)
