"""Change a value in the text of a YAML file, so that comments and layout stay."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.1 and 1.2 read alike: a text that only 1.2 takes for a number is put into quotes."""


_NUMBER = re.compile(r"([-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+)$", re.ASCII)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:number", _NUMBER, list("-+.0123456789"))
_WIDTH = 80  # of DVC's own writer


def with_value(text: str, keys: Sequence[str], value: Any) -> str:
    """Replace the value at `keys`, or add the last key, and touch nothing else.

    Best effort: the caller must read the result to check it. An alias changes with its anchor.

    Args:
        text: of a YAML file.
        keys: of nested mappings, and indices of sequences; all but the last must be there.
        value: any that JSON can hold.
    """
    node: Any = _composed(text)
    behind = 0
    for key in keys:
        found = {name: (inside, colon) for name, inside, colon in _entries(node)}
        if key not in found:
            return _added(text, node, key, value)
        node, behind = found[key]
    start, end = node.start_mark.index, _end(text, node)
    flow = _flow([value])
    between = text[behind:start].rstrip()
    if behind and (not between or between.lstrip().startswith("#")):
        start, flow = behind, f" {flow}{between}"  # a value on the lines below moves up to its key, before a comment
    return f"{text[:start]}{flow}{text[end:]}"


def without_key(text: str, keys: Sequence[str]) -> str:
    """Remove an entry of a mapping. Best effort, as in `with_value`.

    Args:
        text: of a YAML file.
        keys: of nested mappings, and indices of sequences; all must be there.
    """
    section: Any = _composed(text)
    for key in keys[:-1]:
        section = next(inside for name, inside, _ in _entries(section) if name == key)
    names = [name.value for name, _ in section.value]
    index = names.index(keys[-1])
    key, value = section.value[index]
    if len(names) == 1:
        return with_value(text, keys[:-1], {})
    start, end = key.start_mark.index, _end(text, value)
    if section.flow_style and index:
        start = _end(text, section.value[index - 1][1])
    elif section.flow_style or text[text.rfind("\n", 0, start) + 1 : start].strip():
        end = section.value[index + 1][0].start_mark.index  # the first one of a flow mapping, or behind a `-`
    else:
        start, end = text.rfind("\n", 0, start) + 1, _line_end(text, end) + 1
    return text[:start] + text[end:]


def _composed(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.CSafeLoader)


def _flow(value: Any) -> str:
    """A list's or mapping's one entry as it stands in a flow, where a text with a comma needs quotes."""
    return _dumped(value, default_flow_style=True, width=float("inf")).strip()[1:-1]


def _dumped(value: Any, **layout: Any) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **layout))


def _entries(node: Any) -> Iterator[tuple[str, Any, int]]:
    """Key or index of each value in a node, the value's node, and where the text after `key:` begins."""
    if isinstance(node, yaml.MappingNode):
        yield from ((name.value, inside, name.end_mark.index + 1) for name, inside in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((str(index), inside, 0) for index, inside in enumerate(node.value))


def _end(text: str, node: Any) -> int:
    """Where the text of a node ends; PyYAML counts the comments after a block as part of it."""
    inside = [entry for _, entry, _ in _entries(node)]
    if inside and not node.flow_style:
        return _end(text, inside[-1])
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    return start + len(text[start:end].rstrip())


def _line_end(text: str, position: int) -> int:
    found = text.find("\n", position)
    return len(text) if found < 0 else found


def _added(text: str, section: Any, key: str, value: Any) -> str:
    end = _end(text, section)
    if section.flow_style:
        separator = ", " if section.value else ""
        return f"{text[: end - 1]}{separator}{_flow({key: value})}{text[end - 1 :]}"
    end, column = _line_end(text, end), section.start_mark.column
    return "\n".join([text[:end], *(" " * column + line for line in _lines(key, value, _WIDTH - column))]) + text[end:]


def _lines(key: str, value: Any, width: int) -> list[str]:
    """An entry of a block: in one line where it fits, as all else of params.yaml is written."""
    line = _flow({key: value})
    if len(line) <= width and "\n" not in line:
        return [line]
    if isinstance(value, dict):
        inner = [line for name, entry in value.items() for line in _lines(name, entry, width - 2)]
        return [f"{_flow([key])}:", *(f"  {line}" for line in inner)]
    innermost = None if isinstance(value, list) else False  # a list's entries in a line each
    return _dumped({key: value}, default_flow_style=innermost, width=width).splitlines()
