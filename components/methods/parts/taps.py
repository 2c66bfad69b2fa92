"""The features of two networks at the same relative depths, for methods that compare them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from components.backbones.backbone import Backbone
from components.backbones.parts.precision import at_least_float32
from components.methods.parts.cascade import Heads, example_heads
from components.run.errors import InputError


class Tap(NamedTuple):
    """A relative depth at which two networks are compared, and the features of each there.

    Attributes:
        depth: fraction of a network's stages that come before it.
        student: the student's features of a blank image, `1 C h w`, used for their shape.
        teacher: the teacher's features of the same image.
    """

    depth: float
    student: Tensor
    teacher: Tensor

    @property
    def sizes(self) -> tuple[str, str]:
        """Height and width of the student's features and of the teacher's, formatted for messages."""
        student, teacher = (" x ".join(map(str, features.shape[2:])) for features in (self.student, self.teacher))
        return student, teacher


def example_taps(student: Backbone, teacher: Backbone, depths: Sequence[float]) -> Iterator[Tap]:
    """The taps of two networks, shallow to deep."""
    ours, theirs = (features_of(heads) for heads in example_heads((student, teacher), depths))
    return map(Tap, sorted(depths), ours, theirs)


def equal_sized_taps(student: Backbone, teacher: Backbone, depths: Sequence[float]) -> Iterator[Tap]:
    """The taps of two networks whose features are compared position by position, shallow to deep.

    Raises:
        InputError: the features of a tap differ in height or width; the message begins with `depths`.
    """
    for tap in example_taps(student, teacher, depths):
        ours, theirs = tap.sizes
        if ours != theirs:
            raise InputError(
                f"depths: {tap.depth:g}: the student's features are {ours} there, but the teacher's are {theirs}: "
                "write another depth, or take networks of one family."
            )
        yield tap


def features_of(heads: Heads) -> list[Tensor]:
    """Features at the cuts, shallow to deep, in at least float32 (`at_least_float32`)."""
    return [at_least_float32(state.features) for state in heads.states]
