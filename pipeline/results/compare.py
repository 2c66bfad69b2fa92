"""What a change does to the scores, as a Markdown comment for a pull request; reads metrics, no images or weights."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("base", nargs="?", default="main", metavar="REV", help="compare with this; default: main")
    parser.add_argument("--to", default="", metavar="REV", help="what is compared; default: the files here")
    parser.add_argument("--all", action="store_true", help="list unchanged scores as well")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the comment there; default: print it")
    parser.epilog = "Metrics are read from DVC's cache or its remote: $DVC_REMOTE_URL or the project's own."


def run(arguments: argparse.Namespace) -> None:
    """Print or write the comment."""
    from pipeline.project import without_secrets  # noqa: PLC0415
    from pipeline.results.metrics import read_comparison  # noqa: PLC0415 -- DVC takes a second
    from pipeline.results.score_comment import comment  # noqa: PLC0415
    from pipeline.storage.stores import write_whole  # noqa: PLC0415

    text = without_secrets(comment(read_comparison(Path(), arguments.base, arguments.to), everything=arguments.all))
    if arguments.output:
        write_whole(arguments.output, text)
    else:
        print(text, end="")  # noqa: T201 -- the command's result
