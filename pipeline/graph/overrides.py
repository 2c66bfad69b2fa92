"""`--set KEY=VALUE`: other values for keys of params.yaml, the same for every stage of a run."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.utils.serialize import loads_yaml, modify_yaml
from ruamel.yaml.error import YAMLError

from pipeline.graph.yaml_text import with_value
from pipeline.messages import PipelineError, did_you_mean
from pipeline.project import value_fault

PARAMS_FILE = "params.yaml"


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--set` to a command."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help=f"another value for a key of {PARAMS_FILE}: students.sr.training.steps=500; repeatable; `+KEY` adds a key",
    )


def parse_overrides(assignments: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """Read `KEY=VALUE` assignments; a value is YAML, a key is dotted and exists in `params`.

    `a.0` is the first entry of the list `a`; `+a.b` adds the key `b` to the section `a`.

    Raises:
        PipelineError: no `=`, a value that is not YAML or that JSON can't hold, or an unknown key; the message lists
            its neighbours.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip("+"):
            raise PipelineError(f"--set {assignment}: expected KEY=VALUE, as in students.sr.training.steps=500.")
        try:
            overrides[key] = json.loads(json.dumps(loads_yaml(text), allow_nan=False))
        except YAMLError as error:
            reason = " ".join(str(error).split())
            raise PipelineError(f"--set {assignment}: the value is not valid YAML: {reason}") from None
        except (TypeError, ValueError):
            raise PipelineError(
                f"--set {assignment}: JSON can't hold this value. Put quotes around a date or `.nan`."
            ) from None
    changed(params, overrides)
    return overrides


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
        *sections, last = key.removeprefix("+").split(".")
        inside: Any = values
        for depth, part in enumerate(sections):
            inside = inside[_place(inside, part, sections[:depth], key)]
        place = last if _adds(key, inside, last) else _place(inside, last, sections, key)
        inside[place] = value
    return values


def _unshared(values: Any) -> Any:
    """A copy in which nothing is shared: YAML's aliases make several keys refer to the same section."""
    if isinstance(values, Mapping):
        return {key: _unshared(value) for key, value in values.items()}
    return [_unshared(value) for value in values] if isinstance(values, list) else values


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
        edited = with_value(edited, key.removeprefix("+").split("."), value)
    if _same(edited, expected):
        path.write_text(edited, encoding="utf-8")
        return
    # Aliases and the like: DVC's own writer keeps the values but changes the layout.
    with modify_yaml(str(path)) as data:
        data.update(expected)
    if not _same(path.read_text(encoding="utf-8"), expected):
        path.write_text(text, encoding="utf-8")
        raise PipelineError(f"{PARAMS_FILE}: {', '.join(overrides)}: YAML has no way to write that value.")


def _same(text: str, expected: Mapping[str, Any]) -> bool:
    """Whether DVC and the steps find these values."""
    try:
        return bool(loads_yaml(text) == expected)
    except (YAMLError, ValueError):  # ValueError: `._` looks like a number
        return False


def _place(inside: Any, part: str, above: Sequence[str], key: str) -> Any:
    """The key or index that `part` means inside a section or list."""
    where = f"--set {key}: {PARAMS_FILE}: {'.'.join(above) or 'sections'}"
    if isinstance(inside, list):
        if part.isdecimal() and int(part) < len(inside):
            return int(part)
        raise PipelineError(f"{where}: a list of {len(inside)} entries has no entry {part!r}.")
    if not isinstance(inside, dict):
        raise PipelineError(f"{where}: expected a section with the key {part!r}, found {inside!r}.")
    names = {str(name): name for name in inside}
    if part not in names:
        hint = did_you_mean(part, names)
        raise PipelineError(
            f"{where}: unknown key {part!r}.{hint} There are: {', '.join(sorted(names))}. (`+{key}=...` adds a key.)"
        )
    return names[part]


def _adds(key: str, inside: Any, last: str) -> bool:
    return key.startswith("+") and isinstance(inside, dict) and last not in map(str, inside)
