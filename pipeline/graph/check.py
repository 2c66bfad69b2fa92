"""Check the whole project and the place that it lies in, before anything runs."""

import argparse
from pathlib import Path

from pipeline.graph.place import place_fault
from pipeline.messages import PipelineError
from pipeline.project import command_fault, commands_known, refuse_unsound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags: it has none."""
    parser.epilog = "It runs nothing and reads no data. What was found without fault is not checked again."


def run(_: argparse.Namespace) -> None:
    """Check the project in the working directory.

    Raises:
        PipelineError: names each fault once.
    """
    if fault := place_fault():
        raise PipelineError(fault)
    refuse_unsound(Path())
    if commands_known(Path()):
        return
    from pipeline.graph.graph import read_graph  # noqa: PLC0415 -- DVC takes a second

    faults = [command_fault(stage.command) for stage in read_graph(Path())]
    if told := list(dict.fromkeys(filter(None, faults))):
        raise PipelineError("\n".join(told))
    commands_known(Path(), keep=True)
