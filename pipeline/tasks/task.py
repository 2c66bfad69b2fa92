"""What one container does for one stage of dvc.yaml."""

import argparse
import os
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--stage", required=True, metavar="NAME", help="as in `dvc stage list`")
    add_source_arguments(parser)
    parser.add_argument(
        "--upstream",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="lock of an upstream task; repeatable",
    )
    parser.add_argument("--lock-output", type=Path, metavar="FILE", help="where to write this task's lock")
    parser.add_argument("--metrics-output", type=Path, metavar="FILE", help="where to write the stage's scores")
    parser.add_argument("--page-output", type=Path, metavar="FILE", help="where to write the stage's HTML page")
    parser.add_argument("--executor-input", default="", metavar="JSON", help="what Kubeflow puts in place of '{{$}}'")
    parser.add_argument("--keep", action="store_true", help="leave the working copy in place")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which source is run, and with which params."""
    parser.add_argument("--revision", default="", metavar="REV", help="branch, tag or commit; default: the files here")
    parser.add_argument("--repository", default="", metavar="URL", help="where the revision comes from")
    parser.add_argument("--overrides", default="", metavar="JSON", help='{"a.b": value, "+new": value, "~gone": null}')


def run(arguments: argparse.Namespace) -> None:
    """Run the stage if necessary; pass on its lock, its scores and its page.

    Exits with the exit code of the stage's own command if that fails.
    """
    from pipeline.graph.overrides import read_json  # noqa: PLC0415
    from pipeline.tasks.one_stage import StageFailedError, Wanted, carry_out  # noqa: PLC0415 -- DVC takes a second
    from pipeline.working_copy.workspace import working_copy  # noqa: PLC0415

    files = {
        name: file and file.absolute()
        for name, file in vars(arguments).items()
        if name in {"lock_output", "metrics_output", "page_output"}
    }
    upstream = [file.absolute() for file in arguments.upstream]
    overrides = read_json(arguments.overrides)
    with working_copy(arguments.revision, arguments.repository, overrides, keep=arguments.keep) as copy:
        if copy.commit:
            os.environ["GIT_REVISION"] = copy.commit  # for tracking: the copy has no .git
        try:
            carry_out(copy.folder, Wanted(arguments.stage, upstream, arguments.executor_input, **files))
        except StageFailedError as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(error.code)
