"""The numbers of a metrics file, which may be nested and hold text as well."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def flat_numbers(values: Any, above: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a nested mapping by their dotted names, `a.b.c`, each below the name `above`."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from flat_numbers(value, f"{above}.{name}" if above else str(name))
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield above, values


def finite(numbers: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Those that JSON can hold."""
    return {name: value for name, value in numbers if math.isfinite(value)}
