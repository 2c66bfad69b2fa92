"""Command: write the lists of dvc.yaml that DVC can't interpolate (`make lists`).

Run it after editing `run`, `reports` or `collections`, the name of a network, or an import.
"""

import argparse
import sys
from collections.abc import Sequence

from components.dependencies.lists import COMMAND, GRAPH_FILE, list_dependencies, refuse_stale
from components.run.files import write_text
from components.run.params import read_params
from components.run.step import faults_told


def main(words: Sequence[str] | None = None) -> None:
    """Write the lists of the dvc.yaml in the working directory, or check them."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Write the lists of dvc.yaml that DVC can't interpolate.",
        epilog=f"example: {COMMAND} --check",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 2 if a list is out of date")
    arguments = parser.parse_args(words)
    with faults_told():
        text, params = GRAPH_FILE.read_text(encoding="utf-8"), read_params()
        if arguments.check:
            refuse_stale(text, params)
            return
        wanted = list_dependencies(text, params)
        if wanted != text:
            write_text(GRAPH_FILE, wanted)
            sys.stderr.write(f"{GRAPH_FILE}: its lists now match params.yaml.\n")


if __name__ == "__main__":
    main()
