"""How other releases of a network name its weights, and how those names become ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One release's names.

    Attributes:
        name: whose names they are, for the log.
        convert: tensors under those names -> tensors under ours. It passes on names that it doesn't know, so that the
            error for a file that doesn't fit shows the names in it.
    """

    name: str
    convert: Callable[[Mapping[str, Tensor]], Tensors]

    def applied(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Tensors under our names; those of a file that lacks what the release has, or has it in other shapes, stay."""
        try:
            return self.convert(tensors)
        except (LookupError, RuntimeError, ValueError):
            return dict(tensors)

    @classmethod
    def renaming(cls, name: str, patterns: Mapping[str, str]) -> Self:
        """Rename by regular expressions: each replaces its first match, in the order given.

        A pattern matches at the start of a name, so that `conv_first` is not found inside another name; one that
        begins with a lookbehind matches anywhere.
        """
        compiled = [
            (re.compile(pattern if pattern.startswith("(?<=") else f"^{pattern}"), made)
            for pattern, made in patterns.items()
        ]

        def rename(key: str) -> str:
            for pattern, made in compiled:
                key = pattern.sub(made, key, count=1)
            return key

        return cls(name, lambda tensors: {rename(key): value for key, value in tensors.items()})
