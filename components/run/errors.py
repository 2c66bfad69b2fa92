"""The one exception that a user can cause and fix."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what to write instead.

    The command line prints the message without a traceback and exits with 2.
    Everything else that is raised is a fault of the program and keeps its traceback.
    """


def unknown_name(where: str, name: str, known: Iterable[str]) -> InputError:
    """Error for a name that is not in a table: lists the existing ones and guesses which one was meant."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return InputError(f"{where}: unknown name {name!r}.{guess} There are: {', '.join(names) or 'none'}.")
