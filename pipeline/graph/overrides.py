"""Overrides: what a run changes in params.yaml, the same for every stage.

`{"a.b": value, "+a.new": value, "~a.gone": null}`: a value replaces the one that is there, whole; `+` adds a key, and
`~` removes one. Other texts, as `--set` takes them, are turned into these in assignments.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.utils.serialize import dumps_yaml, loads_yaml
from ruamel.yaml.error import YAMLError

from pipeline.graph.yaml_text import with_value, without_key
from pipeline.messages import PipelineError, did_you_mean
from pipeline.project import value_fault

PARAMS_FILE = "params.yaml"


def differing(before: Any, after: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The overrides that make `after` of `before`, as few values as possible.

    Args:
        before: a mapping, or a list.
        after: one of the same kind.
        above: the dotted key of both, with a dot at its end.
    """
    there, wanted = _by_name(before), _by_name(after)
    for key, value in wanted.items():
        if key not in there:
            yield f"+{above}{key}", value
        elif _comparable(there[key], value):
            yield from differing(there[key], value, f"{above}{key}.")
        elif json.dumps(value) != json.dumps(there[key], default=str):  # 1 is another value than true, or 1.0
            yield f"{above}{key}", value
    yield from ((f"~{above}{key}", None) for key in there if key not in wanted)


def as_json(overrides: Mapping[str, Any]) -> str:
    """Overrides as the text that a pipeline's parameter `overrides` takes."""
    return json.dumps(dict(overrides), separators=(",", ":"), ensure_ascii=False)


def read_json(text: str) -> dict[str, Any]:
    """Read what `as_json` wrote.

    Raises:
        PipelineError: the text is not a JSON object.
    """
    try:
        overrides = json.loads(text or "{}")
    except ValueError as error:
        raise PipelineError(f'--overrides: not valid JSON ({error}): expected {{"a.b": value, ...}}.') from None
    if not isinstance(overrides, dict):
        raise PipelineError(f'--overrides: expected a JSON object {{"a.b": value, ...}}, found {text}.')
    return overrides


def changed(params: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `params` with the overrides laid over them; `params` stays as it is.

    Raises:
        PipelineError: a key that `params` does not have, or a value that no step takes.
    """
    values: dict[str, Any] = _unshared(params)
    for key, value in overrides.items():
        if fault := value_fault(f"--set {key}", value):
            raise PipelineError(fault)
        *sections, last = parts_of(key)
        inside: Any = values
        for depth, part in enumerate(sections):
            inside = inside[place_of(inside, part, sections[:depth], key)]
        adds = key.startswith("+") and isinstance(inside, dict) and last not in map(str, inside)
        place = last if adds else place_of(inside, last, sections, key)
        if key.startswith("~"):
            del inside[place]
        else:
            inside[place] = value
    return values


def apply_overrides(path: Path, overrides: Mapping[str, Any]) -> None:
    """Write the overrides into a params.yaml; only the characters of the values themselves change.

    Raises:
        PipelineError: a key that the file does not have; the file is left as it is.
    """
    if not overrides:
        return

    text = path.read_text(encoding="utf-8")
    before = loads_yaml(text)
    expected = changed(before, overrides)
    if repr(expected) == repr(before):
        return
    edited = text
    for key, value in overrides.items():
        edited = without_key(edited, parts_of(key)) if key.startswith("~") else with_value(edited, parts_of(key), value)
    if _holds(edited, expected):
        path.write_text(edited, encoding="utf-8")
        return
    # Aliases and the like: DVC's own writer keeps the values but neither layout nor comments.
    path.write_text(dumps_yaml(expected), encoding="utf-8")


def parts_of(key: str) -> list[str]:
    """The parts of an override's dotted key."""
    return key.lstrip("+~").split(".")


def place_of(inside: Any, part: str, above: Sequence[str], key: str) -> Any:
    """The key or index that `part` means inside a section or list.

    Args:
        inside: what lies at `above`.
        part: of a dotted key.
        above: the parts before it.
        key: what was asked for, for the message.

    Raises:
        PipelineError: there is none; the message lists what there is.
    """
    where = f"--set {key}: {PARAMS_FILE}: {'.'.join(above) or 'sections'}"
    if isinstance(inside, list):
        if part.isdecimal() and int(part) < len(inside):
            return int(part)
        raise PipelineError(f"{where}: a list of {len(inside)} entries has no entry {part!r}.")
    if not isinstance(inside, dict):
        raise PipelineError(f"{where}: expected a section with the key {part!r}, found {inside!r}.")
    names = {str(name): name for name in inside}
    if part not in names:
        raise PipelineError(
            f"{where}: unknown key {part!r}.{did_you_mean(part, names)} There are: {', '.join(sorted(names))}. "
            "(A `+` before the whole key adds it.)"
        )
    return names[part]


def _by_name(values: Any) -> dict[str, Any]:
    """Values of a mapping by key, of a list by index, as the parts of a dotted key name them."""
    found = values.items() if isinstance(values, Mapping) else enumerate(values)
    return {str(key): value for key, value in found}


def _comparable(before: Any, after: Any) -> bool:
    """Whether a dotted key can say what differs between two values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return not any("." in str(key) for key in (*before, *after))
    lists = isinstance(before, list) and isinstance(after, list)
    return lists and len(before) == len(after) and any(isinstance(value, Mapping) for value in before)


def _unshared(values: Any) -> Any:
    """A copy in which nothing is shared: YAML's aliases make several keys refer to the same section."""
    if isinstance(values, Mapping):
        return {key: _unshared(value) for key, value in values.items()}
    return [_unshared(value) for value in values] if isinstance(values, list) else values


def _holds(text: str, expected: Mapping[str, Any]) -> bool:
    """Whether the text is YAML with these values."""
    try:
        return bool(loads_yaml(text) == expected)
    except (YAMLError, ValueError):  # ValueError: `._` looks like a number
        return False
