"""YAML as DVC reads it (1.2), so that a step finds the values that DVC compared: `1e-06` is a number, `yes` a word."""

import copy
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode

CHARACTERS = 1_000_000
"""Characters that a text may have once each alias (`*NAME`) is replaced by what it stands for."""


class NotYamlError(ValueError):
    """The text is not YAML; the message says where."""


def read_yaml(text: str) -> Any:
    """Read a text as plain values, a copy of one's own.

    Raises:
        NotYamlError: the text is not YAML, gives a key twice, or has aliases that stand for very much.
    """
    return copy.deepcopy(_read(text))


@lru_cache(maxsize=1)  # the check parses a command of every stage, each of which reads params.yaml
def _read(text: str) -> Any:
    try:
        if "&" in text and "*" in text:
            _refuse_bomb(YAML(typ="safe").compose(text), {})
        return YAML(typ="safe").load(text)
    except NotYamlError:
        raise
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise NotYamlError(line + ", ".join(filter(None, [error.context, error.problem]))) from None
    except YAMLError as error:
        raise NotYamlError(" ".join(str(error).split())) from None
    except RecursionError:
        raise NotYamlError("brackets or lists within each other too deeply") from None
    except TypeError:
        raise NotYamlError("a key that is a list or a mapping; write a word or a number") from None
    except ValueError as error:
        raise NotYamlError(f"what looks like a date or number is none ({error}); put quotes around it") from None


def _refuse_bomb(node: Node | None, known: dict[int, int]) -> int:
    """How many characters a node has with all that it refers to; those of a node within itself have no end."""
    if node is None:
        return 0
    if isinstance(node, ScalarNode):
        return 1 + len(node.value)
    if id(node) not in known:
        known[id(node)] = CHARACTERS
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_refuse_bomb(part, known) for part in parts)
    if known[id(node)] > CHARACTERS:
        raise NotYamlError(
            f"line {node.start_mark.line + 1}: its aliases (*NAME) stand for more than {CHARACTERS} characters, or for "
            "themselves; write out what is meant"
        )
    return known[id(node)]


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
