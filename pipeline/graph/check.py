"""Every stage's command against its step's signature and params.yaml, before anything runs."""

import argparse
import importlib
import shlex
from pathlib import Path

from pipeline.messages import PipelineError

_RUNNER = ("python", "-m")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags: it has none."""
    parser.epilog = "Nothing is run and nothing is read but dvc.yaml and params.yaml."


def run(_: argparse.Namespace) -> None:
    """Check every stage of the project in the working directory.

    Raises:
        PipelineError: a stage does not fit; names each fault once.
    """
    from pipeline.graph.graph import read_graph  # noqa: PLC0415 -- DVC takes a second

    errors = importlib.import_module("components.run.errors")
    params = importlib.import_module("components.run.params")
    try:
        params.typed(params.Run, params.section(params.read_params(), "run"), f"{params.PARAMS_FILE}: run")
        commands = dict.fromkeys(stage.command for stage in read_graph(Path()))
        faults = list(dict.fromkeys(filter(None, map(command_fault, commands))))
    except errors.InputError as error:
        faults = [str(error)]
    if faults:
        raise PipelineError("\n".join(faults))


def command_fault(command: str) -> str | None:
    """Parse a stage's command as its step would, without running it.

    The step is found by the name in the command: what a step needs, only dvc.yaml and the step say.

    Returns:
        What is wrong, or None.
    """
    words = shlex.split(command)
    if tuple(words[:2]) != _RUNNER:
        return None
    module = importlib.import_module(words[2])
    errors = importlib.import_module("components.run.errors")
    step = importlib.import_module("components.run.step")
    try:
        step.parse(getattr(module, words[2].rpartition(".")[2]), words[3:])
    except errors.InputError as error:
        return str(error)
    return None
