"""`python -m pipeline COMMAND`; only the module of the named command is imported, so that `--help` is quick."""

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence

from pipeline.messages import PipelineError
from pipeline.project import without_secrets

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


# What to do about an error of a library, by its top package: its own words say what is wrong, the last line what to do.
_ADVICE = {
    "dvc": "",
    "dvc_data": "",
    "dvc_objects": "",
    "scmrepo": "",
    "sqlite3": "Another process may hold DVC's database in .dvc/tmp, or its disk is full; run it again.",
    "botocore": "Check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    "aiohttp": "Check DVC_REMOTE_URL and AWS_ENDPOINT_URL.",
    "kubernetes": "Check the cluster that kubectl's settings name, and what this account may do there.",
    "kfp": "Check the image, the stages' `meta`, and what KFP_HOST names.",
    "kfp_server_api": "Check KFP_HOST, KFP_NAMESPACE and KFP_TOKEN.",
    "docker": "Check that the Docker engine of DOCKER_HOST runs.",
    "requests": "Check the address, and the network.",
    "urllib3": "Check the address, and the network.",
}


def _message(error: Exception) -> str | None:
    """What to tell the user, or None if the program itself is at fault."""
    if isinstance(error, PipelineError):
        return str(error)
    for package in (kind.__module__.partition(".")[0] for kind in type(error).__mro__):
        if package in _ADVICE:
            parts = (" ".join(str(part).split()) for part in (error, error.__cause__) if part)
            text = ": ".join(filter(None, parts)) or type(error).__name__
            return f"{text.rstrip('.')}. {_ADVICE[package]}" if _ADVICE[package] else text
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'reading or writing'}: {error.strerror or error}. Check that the path is right, that "
            "you may read and write there, and that its disk has room."
        )
    return None


def main(words: Sequence[str]) -> int:
    """Run one command.

    Args:
        words: the command line after `python -m pipeline`.

    Returns:
        The exit code: 2 for errors that the user can fix, 1 for faults of the program, 130 after Ctrl-C.
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
    except Exception as error:  # noqa: BLE001 -- a fault of the program ends with its traceback, without secrets
        message = _message(error)
        if message is None:
            sys.stderr.write(without_secrets(traceback.format_exc()))
            return 1
        # An indented line belongs to the line above it, such as the end of a log.
        lines = without_secrets(message).splitlines()
        sys.stderr.writelines(f"{'' if line.startswith('  ') else 'error: '}{line}\n" for line in lines)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
