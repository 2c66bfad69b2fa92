"""YAML as DVC reads it (1.2), so that a step finds the values that DVC compared: `1e-06` is a number, `yes` a word."""

import copy
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError


class NotYamlError(ValueError):
    """The text is not YAML; the message says where."""


def read_yaml(text: str) -> Any:
    """Read a text as plain values, a copy of one's own.

    Raises:
        NotYamlError: the text is not YAML, or gives a key twice.
    """
    return copy.deepcopy(_read(text))


@lru_cache(maxsize=1)  # the check parses a command of every stage, each of which reads params.yaml
def _read(text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise NotYamlError(line + ", ".join(filter(None, [error.context, error.problem]))) from None
    except YAMLError as error:
        raise NotYamlError(" ".join(str(error).split())) from None
    except ValueError as error:
        raise NotYamlError(f"what looks like a date or number is none ({error}); put quotes around it") from None


def misread(values: Any, where: str) -> Iterator[str]:
    """Values that are read otherwise than they are meant: a message each.

    `dvc exp run -S` reads the whole file by OmegaConf, for which `${NAME}` refers to another value, and `???` is one
    that is missing. YAML takes 2024-01-01 for a date, and a key that looks like a number, a truth value or nothing for
    that.

    Args:
        values: of a file, or one of them.
        where: the place of the values, for messages.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            if not isinstance(key, str):
                yield f"{where}: YAML takes a key for {_kind(key)}, {str(key)!r}; put quotes around it."
            yield from misread(value, f"{where}.{key}")
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from misread(value, f"{where}.{index}")
    elif isinstance(values, str) and "${" in values:
        yield f"{where}: `dvc exp run -S` takes `${{` for a reference; write $NAME without braces. Found {values!r}."
    elif values == "???":
        yield f"{where}: `dvc exp run -S` takes '???' for a missing value; write another."
    elif not isinstance(values, str | int | float | None):
        yield f"{where}: YAML takes this for {_kind(values)}, {str(values)!r}; put quotes around it."


def _kind(value: Any) -> str:
    if isinstance(value, date):
        return "a date"
    return {bool: "a truth value", int: "a number", float: "a number", type(None): "nothing"}.get(
        type(value), "no text and no number"
    )
