"""A preset of conf/ laid over the committed params.yaml, in the working directory."""

import argparse
from pathlib import Path

from pipeline.graph.overrides import PARAMS_FILE
from pipeline.messages import PipelineError, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    from pipeline.graph.assignments import add_set_argument  # noqa: PLC0415
    from pipeline.working_copy.composition import PRESETS  # noqa: PLC0415

    parser.add_argument("preset", metavar="NAME", help=f"a file of {PRESETS}, without its ending")
    add_set_argument(parser)
    parser.epilog = f"example: python -m pipeline preset bsds500. `git checkout {PARAMS_FILE} dvc.yaml` undoes it."


def run(arguments: argparse.Namespace) -> None:
    """Write the preset into params.yaml, in the place of a former one.

    Raises:
        PipelineError: no such preset or key, or a params.yaml with edits that would be lost.
    """
    from pipeline.project import write_lists  # noqa: PLC0415 -- DVC takes a second
    from pipeline.working_copy.composition import committed_text, override, remember  # noqa: PLC0415
    from pipeline.working_copy.git import project_git  # noqa: PLC0415
    from pipeline.working_copy.workspace import WorkingCopy  # noqa: PLC0415

    git = project_git(Path())
    if git is None:
        raise PipelineError("no git repository: a preset is laid over the committed params.yaml.")
    params = Path(PARAMS_FILE)
    before = {path: path.read_text(encoding="utf-8") for path in (params, Path("dvc.yaml"))}
    params.write_text(committed_text(git, before[params]), encoding="utf-8")
    try:
        overrides = override(WorkingCopy(Path(), git, None), arguments)
        if not overrides:
            write_lists(Path())  # those of a former preset may be there
    except BaseException:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
        raise
    remember(params.read_text(encoding="utf-8"))
    say(f"{PARAMS_FILE}: {len(overrides)} values differ from the committed ones.")
