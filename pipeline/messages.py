"""What the commands tell people: errors that they can fix, lines in order with a stage's own, lines of logs."""

import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches


class PipelineError(Exception):
    """A command of the pipeline can't go on: says what is wrong, where, and what to do.

    Commands print it after `error: `, without a traceback, and exit with 2.
    """


def say(line: str) -> None:
    """Write one line to the standard output, at once: a stage's own process writes there too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence, after a space, with the known name closest to an unknown one; empty if none is close."""
    near = get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def lines_of(pieces: Iterable[bytes], *, last: bool) -> Iterator[str]:
    """Lines of a log that comes in pieces.

    Args:
        pieces: of the log, cut anywhere.
        last: whether to yield a last line without its newline; if not, more of it may follow.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest and last:
        yield rest.decode(errors="replace")
