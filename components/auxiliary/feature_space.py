"""A frozen network in whose features images are compared."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class FeatureSpace(nn.Module, ABC):
    """Features of an image at several levels, shallow to deep.

    Attributes:
        levels: how many there are.
        released_names: what the names of its parameters begin with in the released checkpoint; others are left out.
    """

    levels: int
    released_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of an image `B 3 H W`, one tensor `B C_l H_l W_l` a level."""
