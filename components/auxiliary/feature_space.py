"""A frozen network whose features are used to compare images."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class FeatureSpace(nn.Module, ABC):
    """Features of an image at several levels, shallow to deep.

    Attributes:
        levels: number of levels.
        released_names: prefixes of its parameters' names in the released checkpoint; other parameters are left out.
    """

    levels: int
    released_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of an image `B 3 H W`, one tensor `B C_l H_l W_l` per level."""
