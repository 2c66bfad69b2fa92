"""What two networks' features at the same relative depths are compared by."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from components.backbones.backbone import Backbone
from components.backbones.parts.precision import at_least_float32
from components.methods.parts.cascade import Heads, example_heads
from components.run.errors import InputError


class Tap(NamedTuple):
    """A relative depth at which networks are compared, and the student's and the teacher's features there.

    Attributes:
        depth: share of a network's stages that lie before it.
        student: `1 C h w`, of an empty image: made for their shape.
        teacher: likewise, of the same image.
    """

    depth: float
    student: Tensor
    teacher: Tensor

    @property
    def sizes(self) -> tuple[str, str]:
        """Height and width of the student's features and of the teacher's, as a message writes them."""
        student, teacher = (" x ".join(map(str, features.shape[2:])) for features in (self.student, self.teacher))
        return student, teacher


def example_taps(student: Backbone, teacher: Backbone, depths: Sequence[float]) -> Iterator[Tap]:
    """The taps of two networks, shallow to deep."""
    ours, theirs = (features_of(heads) for heads in example_heads((student, teacher), depths))
    return map(Tap, sorted(depths), ours, theirs)


def equal_sized_taps(student: Backbone, teacher: Backbone, depths: Sequence[float]) -> Iterator[Tap]:
    """The taps of two networks that are compared position by position, shallow to deep.

    Raises:
        InputError: the features of a tap differ in height or width; the message begins with `depths`.
    """
    for tap in example_taps(student, teacher, depths):
        ours, theirs = tap.sizes
        if ours != theirs:
            raise InputError(
                f"depths: {tap.depth:g}: there the student's features are {ours} where the teacher's are {theirs}: "
                "write another depth, or take networks of one family."
            )
        yield tap


def features_of(heads: Heads) -> list[Tensor]:
    """Features at the cuts, shallow to deep; float32 where mixed precision made them coarser."""
    return [at_least_float32(state.features) for state in heads.states]
