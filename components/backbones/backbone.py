"""What every restoration network offers: a map from image to image, cut into comparable stages."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

from torch import Tensor, nn

from components.backbones.parts.layouts import Layout


class State(NamedTuple):
    """A forward pass between two stages.

    Attributes:
        features: `B C h w`, what is compared between networks and may be replaced by another network's features.
        context: what later stages still need (the global skip, an encoder's skips).
    """

    features: Tensor
    context: tuple[Tensor, ...]


class Backbone(nn.Module, ABC):
    """A restoration network: `B 3 h w` in [0, 1] -> `B 3 h*scale w*scale`, not clamped.

    `forward` is `enter`, then the stages from shallow to deep, then `leave`. Methods that compare features, or that
    send one network's features through another's tail, run these parts themselves; the last stage's features are
    what enters the upsampler. Parameter names follow the official release, so that published weights load.

    Attributes:
        multiple: the input's height and width must be multiples of it.
        smallest_in_onnx: smallest side, in pixels, that its ONNX graph takes; the network itself takes any.
        scale: output size over input size.
        depth: number of stages.
    """

    multiple: int = 1
    smallest_in_onnx: int = 1
    scale: int
    depth: int

    @abstractmethod
    def enter(self, image: Tensor) -> State:
        """Shallow features of an image."""

    @abstractmethod
    def stage(self, index: int, state: State) -> State:
        """State after stage `index` (0 is the shallowest)."""

    @abstractmethod
    def leave(self, state: State) -> Tensor:
        """Image from the state after the last stage."""

    @classmethod
    def is_derived(cls, name: str) -> bool:  # noqa: ARG003  (what a network overrides)
        """Whether a key of a published checkpoint is derived (a buffer of indices or masks), left out on loading."""
        return False

    def fold(self) -> Self:
        """Turn, in place, what only the training needs into what gives the same images without it; returns itself."""
        return self

    def layouts(self) -> tuple[Layout, ...]:
        """Other names under which its weights are published, besides our own."""
        return ()

    def forward(self, image: Tensor) -> Tensor:
        """Restore a batch of images."""
        state = self.enter(image)
        for index in range(self.depth):
            state = self.stage(index, state)
        return self.leave(state)

    def forward_tapped(self, image: Tensor, depths: Sequence[float]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Restore a batch of images and return the features at relative depths, in the order given.

        Args:
            image: `B 3 h w` in [0, 1].
            depths: fractions in (0, 1]; 1 is the last stage. The same fractions tap teacher and student alike.
        """
        wanted = [stage_at(depth, self.depth) for depth in depths]
        features: dict[int, Tensor] = {}
        state = self.enter(image)
        for index in range(self.depth):
            state = self.stage(index, state)
            if index in wanted:
                features[index] = state.features
        return self.leave(state), tuple(features[index] for index in wanted)


def stage_at(depth: float, stages: int) -> int:
    """Index of the stage that ends at a relative depth in (0, 1]: 1 is the last, 0.3 of ten stages the third."""
    if not 0 < depth <= 1:
        raise ValueError(f"a relative depth lies in (0, 1], not {depth}")
    return max(1, round(depth * stages)) - 1
