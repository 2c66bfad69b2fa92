"""Outputs behind a link to a folder, which DVC refuses: found before the work, because DVC looks after it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.run.errors import InputError


def refuse_links(values: Iterable[Any]) -> None:
    """Refuse a stage's paths that lead through a link, when DVC runs it.

    Raises:
        InputError: a folder above one of them, inside the project, is a link.
    """
    if "DVC_STAGE" not in os.environ:
        return
    for path in values:
        for above in path.parents if isinstance(path, Path) and not path.is_absolute() else ():
            if above.is_symlink():
                raise InputError(
                    f"{above}: a link to {above.readlink()}, and DVC keeps no output behind a link to a folder. Remove "
                    f"the link, so that {above} is a folder of the project, and put DVC's cache on the other disk: "
                    "`python -m pipeline check` says how."
                )
