"""The gate between a teacher and what is trained with it."""

from pathlib import Path

from components.run.errors import InputError
from components.run.files import read_json, sha256_of


def refuse_unchecked(teacher: Path, check: Path) -> None:
    """Stop where `check_teacher` has not passed the very weights that are to teach.

    Raises:
        InputError: it speaks of other weights.
    """
    if read_json(check).get("sha256") != sha256_of(teacher):
        raise InputError(f"{check} speaks of other weights than {teacher}: run check_teacher again.")
