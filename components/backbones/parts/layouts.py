"""How other releases of a network name its weights, and what these are called here."""

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
        convert: tensors under those names -> tensors under ours. What it doesn't know it hands on, so that a file
            which doesn't fit is refused by the names that it holds.
    """

    name: str
    convert: Callable[[Mapping[str, Tensor]], Tensors]

    @classmethod
    def renaming(cls, name: str, patterns: Mapping[str, str]) -> Self:
        """Rename by regular expressions: each is replaced where it is found first, in the order given.

        Patterns for whole parts of a name begin at its beginning: `conv_first` is not to be found in another name.
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
