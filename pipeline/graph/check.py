"""Check every stage's command against its step's signature and params.yaml, and the place, before anything runs."""

import argparse
from pathlib import Path

from pipeline.graph.place import place_fault
from pipeline.messages import PipelineError
from pipeline.project import command_fault, lists_fault, params_fault


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags: it has none."""
    parser.epilog = "It runs nothing and reads no data."


def run(_: argparse.Namespace) -> None:
    """Check every stage of the project in the working directory, and the place where it keeps its outputs.

    Raises:
        PipelineError: a stage or the place is at fault; names each fault once.
    """
    from pipeline.graph.graph import read_graph  # noqa: PLC0415 -- DVC takes a second

    fault = place_fault() or params_fault()
    faults = [fault] if fault else [command_fault(stage.command) for stage in read_graph(Path())]
    told = list(dict.fromkeys(filter(None, faults))) or list(filter(None, [lists_fault()]))
    if told:
        raise PipelineError("\n".join(told))
