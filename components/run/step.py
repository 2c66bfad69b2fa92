"""A step's signature is its command line: `Path` arguments are files, all others are sections of params.yaml."""

import argparse
import errno
import inspect
import logging
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.run.errors import InputError
from components.run.params import PARAMS_FILE, Choice, read_params, section, typed

_PATHS = (Path, Path | None)

EXIT_INPUT = 2
EXIT_STOPPED = 130


def run_step(step: Callable[..., None], arguments: Sequence[str] | None = None) -> None:
    """Run `step` from the command line and exit.

    A `Path` argument becomes a required `--name PATH`, one of `Path | None` an optional one. Any other argument is
    the section of params.yaml that has its name; where params.yaml has the plural instead, `--name ENTRY` picks the
    entry.

    Exits with 2 and one message for bad input, with 130 when stopped by the keyboard; with a traceback for a fault of
    the program.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        step(**parse(step, arguments))
    except InputError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped. Run it again to go on.\n")
        sys.exit(EXIT_STOPPED)
    except FileNotFoundError as error:
        _fail(f"{error.filename}: no such file. Run the stage of dvc.yaml that writes it, or `dvc pull`.")
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}:
            raise
        _fail(
            f"{error.filename or 'write'}: {error.strerror}. Nothing half-written was kept: "
            "free space or choose another place, then run again."
        )


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
        if hints[name] in _PATHS:
            found[name] = flags[name]
        elif flags.get(name) is None:
            found[name] = typed(hints[name], section(values, name), f"{PARAMS_FILE}: {name}")
        else:
            entry = section(values, f"{name}s", flags[name])
            found[name] = typed(
                hints[name], _named(hints[name], entry, flags[name]), f"{PARAMS_FILE}: {name}s.{flags[name]}"
            )
    return found


def _named(kind: Any, entry: Any, name: str) -> Any:
    """The name of a table's entry is that of its section, unless it says otherwise: `tasks.sr: {scale: 2}`."""
    if inspect.isclass(kind) and issubclass(kind, Choice) and isinstance(entry, dict):
        return {"name": name, **entry}
    return entry


def _parser(step: Callable[..., None], names: Sequence[str], hints: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m components.{step.__name__}",
        description=inspect.getdoc(step),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help="file of sections (default: %(default)s)")
    for name in names:
        flag = f"--{name.replace('_', '-')}"
        if hints[name] in _PATHS:
            parser.add_argument(flag, dest=name, type=Path, required=hints[name] is Path)
        else:
            parser.add_argument(
                flag, dest=name, metavar="ENTRY", help=f"entry of {name}s in params.yaml (default: the section {name})"
            )
    return parser


def _fail(message: str) -> typing.NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(EXIT_INPUT)
