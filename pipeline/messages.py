"""What the commands tell people: errors that they can mend, lines in order with what a stage writes, lines of logs."""

import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@")


class PipelineError(Exception):
    """A command of the pipeline can't go on: says what is wrong, where, and what to do.

    Commands print it after `error: `, without a traceback, and exit with 2.
    """


def say(line: str) -> None:
    """Write one line to the standard output, at once: a stage's own process writes there too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def without_credentials(text: str) -> str:
    """`text` with the user and password of every URL in it left out."""
    return _CREDENTIALS.sub("", text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the known name that is most like an unknown one, after a space; empty if none is."""
    near = get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def lines_of(pieces: Iterable[bytes], *, last: bool) -> Iterator[str]:
    """Lines of a log that comes in pieces.

    Args:
        pieces: of the log, cut anywhere.
        last: whether a last line without its end is one too; if not, more may follow it.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest and last:
        yield rest.decode(errors="replace")
