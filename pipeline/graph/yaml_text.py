"""Replace a value in the text of a YAML file, so that comments and layout stay."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml


def with_value(text: str, keys: Sequence[str], value: Any) -> str:
    """Replace the value at `keys`, or add the last key, and touch nothing else.

    Best effort: the caller must read the result to check it. An alias changes with its anchor.

    Args:
        text: of a YAML file.
        keys: of nested mappings, and indices of sequences; all but the last must be there.
        value: any that JSON can hold.
    """
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    behind = 0
    flow = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    flow = flow.strip().removesuffix("...").strip()
    for key in keys:
        found = {name: (inside, colon) for name, inside, colon in _entries(node)}
        if key not in found:
            return _added(text, node, f"{key}: {flow}")
        node, behind = found[key]
    start, end = node.start_mark.index, _end(text, node)
    between = text[behind:start].rstrip()
    if behind and (not between or between.lstrip().startswith("#")):
        start, flow = behind, f" {flow}{between}"  # a value on the lines below moves up to its key, before a comment
    return f"{text[:start]}{flow}{text[end:]}"


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


def _added(text: str, section: Any, entry: str) -> str:
    end = _end(text, section)
    if section.flow_style:
        separator = ", " if section.value else ""
        return f"{text[: end - 1]}{separator}{entry}{text[end - 1 :]}"
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    return f"{text[:line_end]}\n{' ' * section.start_mark.column}{entry}{text[line_end:]}"
