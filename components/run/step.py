"""A step's signature is its command line: `Path` arguments are files, numbers are values, all others are sections."""

import argparse
import inspect
import json
import logging
import os
import shlex
import sys
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from components.run.errors import InputError
from components.run.links import refuse_links
from components.run.params import PARAMS_FILE, Choice, read_params, section, typed
from components.run.secrets import without_secrets

_PATHS = (Path, Path | None)
_VALUES = (*_PATHS, int)
"""Types of the arguments given on the command line itself; all others are sections of params.yaml."""

EXIT_INPUT = 2
EXIT_STOPPED = 130
LAUNCHER = "STEP_LAUNCHER"
CHECKPOINTS = Path(".cache/checkpoints")
"""Where a step keeps the state of training: outside DVC's outputs, which DVC deletes before a stage runs."""
# Set by torchrun in each process that it starts.
_RANKS = ("RANK", "LOCAL_RANK")

_LOG = logging.getLogger(__name__)

Observer = Callable[[str, Sequence[str], Mapping[str, Any]], AbstractContextManager[None]]
"""From a step's name, command line and typed arguments to the context manager around its run."""


def unobserved(_step: str, _words: Sequence[str], _values: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Observe nothing."""
    return nullcontext()


def run_step(
    step: Callable[..., None],
    arguments: Sequence[str] | None = None,
    *,
    observe: Observer = unobserved,
    check: Callable[[], None] | None = None,
    distributed: bool | Callable[[dict[str, Any]], bool] = False,
) -> None:
    """Run `step` from the command line and exit.

    A `Path` argument becomes a required `--name PATH`, one of `Path | None` an optional one, an `int` a required
    `--name NUMBER`. Any other argument is the section of params.yaml that has its name; where params.yaml has the
    plural instead, `--name ENTRY` picks the entry.

    Exits with 2 and one message on bad input, with 130 when stopped from the keyboard, and with a traceback on a fault
    of the program.

    Args:
        step: the typed function.
        arguments: its command line; the process's own by default.
        check: called before anything runs; may raise an InputError to refuse.
        observe: surrounds the run; returns nothing to it, so it is not a dependency of any stage.
        distributed: whether several processes may run the step together, or a function of its arguments that says so.
            If so, and the environment has `STEP_LAUNCHER` (a command's first words, such as
            `torchrun --standalone --nproc-per-node=4`), this process becomes
            `$STEP_LAUNCHER -m components STEP ARGUMENTS`. The command in dvc.yaml does not mention it, so the stage is
            the same for any number of GPUs.
    """
    with faults_told():
        words = sys.argv[1:] if arguments is None else arguments
        values = parse(step, words)
        refuse_links(values.values())
        if check:
            check()
        if distributed(values) if callable(distributed) else distributed:
            _launch(step, words)
        with observe(step.__name__, words, values):
            step(**values)


@contextmanager
def faults_told() -> Iterator[None]:
    """Log to the terminal; end the process with one message and code if the fault is not the program's."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        yield
    except InputError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped. Run it again to continue.\n")
        sys.exit(EXIT_STOPPED)
    except FileNotFoundError as error:
        _fail(f"{error.filename}: no such file. Run the stage of dvc.yaml that writes it, or `dvc pull`.")
    except OSError as error:
        _fail(
            f"{error.filename or 'reading or writing'}: {error.strerror or error}. Nothing half-written was kept: "
            "check that you may read and write there and that its disk has room, or choose another place, then run "
            "again."
        )


def _launch(step: Callable[..., None], arguments: Sequence[str]) -> None:
    """Become the launcher's process, unless there is no launcher or it started this process."""
    environment = dict(os.environ)
    launcher = environment.pop(LAUNCHER, "")
    if not launcher or any(name in environment for name in _RANKS):
        return
    example = f"write a command's first words, such as {LAUNCHER}='torchrun --standalone --nproc-per-node=2'."
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise InputError(f"{LAUNCHER}: {launcher!r}: {error}; {example}") from None
    if not words:
        raise InputError(f"{LAUNCHER}: {launcher!r} names no command; {example}")
    _LOG.info("launched by: %s", launcher)
    try:
        os.execvpe(words[0], [*words, "-m", "components", step.__name__, *arguments], environment)  # noqa: S606
    except OSError as error:
        raise InputError(f"{LAUNCHER}: {words[0]!r} can't be run ({error.strerror}); {example}") from None


def parse(step: Callable[..., None], arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Turn a command line and params.yaml into the typed arguments of `step`.

    Raises:
        InputError: params.yaml lacks a section, or holds a key or value that the step's types refuse.
    """
    hints = typing.get_type_hints(step)
    names = list(inspect.signature(step).parameters)
    parser = _parser(step, names, hints)
    flags = vars(parser.parse_args(arguments))
    values = read_params(flags.pop("params"))
    found: dict[str, Any] = {}
    for name in names:
        if hints[name] in _VALUES:
            found[name] = flags[name]
        elif flags.get(name) is None:
            found[name] = typed(hints[name], section(values, name), f"{PARAMS_FILE}: {name}")
        else:
            entry = section(values, f"{name}s", flags[name])
            found[name] = typed(
                hints[name], named(hints[name], entry, flags[name]), f"{PARAMS_FILE}: {name}s.{flags[name]}"
            )
    return found


def named(kind: Any, entry: Any, name: str) -> Any:
    """A table entry's name is that of its section, unless it gives another: `tasks.sr: {scale: 2}`."""
    if inspect.isclass(kind) and issubclass(kind, Choice) and isinstance(entry, dict):
        return {"name": name, **entry}
    return entry


def _parser(step: Callable[..., None], names: Sequence[str], hints: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m components {step.__name__}",
        description=inspect.getdoc(step),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help="file of sections (default: %(default)s)")
    for name in names:
        flag = f"--{name.replace('_', '-')}"
        if hints[name] in _PATHS:
            parser.add_argument(flag, dest=name, type=Path, required=hints[name] is Path)
        elif hints[name] is int:
            parser.add_argument(flag, dest=name, type=int, required=True)
        else:
            parser.add_argument(
                flag, dest=name, metavar="ENTRY", help=f"entry of {name}s in params.yaml (default: the section {name})"
            )
    return parser


def _fail(message: str) -> typing.NoReturn:
    message = without_secrets(message)
    sys.stderr.write(f"error: {message}\n")
    if report := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        # torchrun's own report of a failed process is long, and ends with what this file says.
        said = {"message": f"error: {message}", "timestamp": int(time.time())}
        Path(report).write_text(json.dumps(said), encoding="utf-8")
    sys.exit(EXIT_INPUT)
