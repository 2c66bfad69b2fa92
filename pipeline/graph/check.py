"""Every stage's command against its step's signature and params.yaml, before anything runs."""

import importlib
import shlex
import sys
from pathlib import Path

from dvc.exceptions import DvcException

from pipeline.graph.graph import Stage, read_graph

_RUNNER = ("python", "-m")


def check_stage(stage: Stage) -> str | None:
    """Parse one stage's command as the step would, without running it.

    The step is found by the name in the command: what a step needs, only dvc.yaml and the step say.

    Returns:
        What is wrong, or None.
    """
    words = shlex.split(stage.command)
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


def main() -> None:
    """Check every stage of the project in the working directory; exit with 2 if one does not fit."""
    errors = importlib.import_module("components.run.errors")
    params = importlib.import_module("components.run.params")
    try:
        params.typed(params.Run, params.section(params.read_params(), "run"), f"{params.PARAMS_FILE}: run")
        faults = list(dict.fromkeys(filter(None, map(check_stage, read_graph(Path())))))
    except errors.InputError as error:
        faults = [str(error)]
    except DvcException as error:
        faults = [": ".join(" ".join(str(part).split()) for part in (error, error.__cause__) if part)]
    if faults:
        sys.stderr.writelines(f"error: {fault}\n" for fault in faults)
        sys.exit(2)


if __name__ == "__main__":
    main()
