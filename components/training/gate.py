"""The gate that a teacher must pass before anything is trained with it."""

from pathlib import Path

from components.run.errors import InputError
from components.run.files import read_json, sha256_of


def refuse_unchecked(teacher: Path, check: Path) -> None:
    """Stop unless `check_teacher` has passed exactly these weights of the teacher.

    Raises:
        InputError: the check is of other weights.
    """
    if read_json(check).get("sha256") != sha256_of(teacher):
        raise InputError(f"{check} is about other weights than {teacher}: run check_teacher again.")
