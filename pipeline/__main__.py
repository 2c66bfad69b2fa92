"""`python -m pipeline COMMAND`; only the module of the named command is imported, so that `--help` is quick."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from pipeline.messages import PipelineError

# Module of this package and what the command does.
COMMANDS = {
    "check": ("graph.check", "check params.yaml, every stage's command and the place, before anything runs"),
    "preset": ("working_copy.preset", "lay a preset of conf/ over params.yaml"),
    "plan": ("deciding.plan", "show which stages would run, why, and what they take"),
    "compile": ("kubeflow.compile", "compile dvc.yaml into pipeline/kubeflow.yaml"),
    "submit": ("kubeflow.submit", "run the pipeline on a cluster"),
    "local": ("local.local", "run the pipeline in containers on this machine"),
    "compare": ("results.compare", "compare scores with another revision, as a comment for a pull request"),
    "page": ("results.page", "make the report's page with what differs in every run: revision, hardware, latency"),
    "publish": ("tasks.publish", "record a run as a DVC experiment"),
    "clean": ("cleaning.clean", "list what nothing needs any more, and remove it"),
    "task": ("tasks.task", "run one stage: what a task's container does"),
    "launch-train-job": ("nodes.train_job", "run a training step on several nodes"),
}


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:18}{text}" for name, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        usage="%(prog)s COMMAND [FLAGS]",
        description="Run the graph of dvc.yaml on other machines.",
        epilog="\n".join(["commands:", *lines, "", "`COMMAND --help` lists a command's flags."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser


def _messages(error: Exception) -> list[str] | None:
    """What to tell the user, or None if the program itself is at fault."""
    dvc = sys.modules.get("dvc.exceptions")
    if isinstance(error, PipelineError):
        return str(error).splitlines()
    if dvc and isinstance(error, dvc.DvcException):
        return [": ".join(" ".join(str(part).split()) for part in (error, error.__cause__) if part)]
    return None


def main(words: Sequence[str]) -> int:
    """Run one command.

    Args:
        words: the command line after `python -m pipeline`.

    Returns:
        The exit code: 2 for errors that the user can fix, 130 after Ctrl-C.
    """
    command = _parser().parse_args(words[:1]).command
    name, text = COMMANDS[command]
    module = importlib.import_module(f"pipeline.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m pipeline {command}", description=f"{text[0].upper()}{text[1:]}.")
    module.add_arguments(parser)
    try:
        module.run(parser.parse_args(words[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:
        messages = _messages(error)
        if messages is None:
            raise
        # An indented line belongs to the line above it, such as the end of a log.
        sys.stderr.writelines(f"{'' if message.startswith('  ') else 'error: '}{message}\n" for message in messages)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
