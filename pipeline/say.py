"""Lines for people, in order with what a stage itself writes."""

import re
import sys

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@")


def say(line: str) -> None:
    """Write one line to the standard output, at once: a stage's own process writes there too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def without_credentials(text: str) -> str:
    """`text` with the user and password of every URL in it left out."""
    return _CREDENTIALS.sub("", text)
