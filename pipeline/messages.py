"""What the commands tell people: lines in order with what a stage itself writes, and errors that they can mend."""

import re
import sys

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
