"""A preset of conf/ laid over the committed params.yaml, in the working directory."""

import argparse
import shutil
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

    It is composed and checked in a working copy: a kill or a mistake leaves the files here as they were.

    Raises:
        PipelineError: no such preset or key, params that no step takes, or a params.yaml with edits that would be lost.
    """
    from pipeline.project import unfinished, write_lists  # noqa: PLC0415 -- DVC takes a second
    from pipeline.working_copy.composition import committed_text, override, remember  # noqa: PLC0415
    from pipeline.working_copy.workspace import working_copy  # noqa: PLC0415

    with working_copy("", "", {}) as copy:
        if copy.git is None:
            raise PipelineError("no git repository: a preset is laid over the committed params.yaml.")
        params = copy.folder / PARAMS_FILE
        params.write_text(committed_text(copy.git, params.read_text(encoding="utf-8")), encoding="utf-8")
        overrides = override(copy, arguments)
        if not overrides:
            write_lists(copy.folder)  # those of a former preset may be there
        for name in (PARAMS_FILE, "dvc.yaml"):
            with unfinished(Path()) as partial:
                shutil.copyfile(copy.folder / name, partial)
                partial.replace(name)
    remember(Path(PARAMS_FILE).read_text(encoding="utf-8"))
    say(f"{PARAMS_FILE}: {len(overrides)} values differ from the committed ones.")
