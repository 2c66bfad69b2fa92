"""Label-preserving augmentations of an image, and their exact inverse."""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

Probability = Annotated[float, Field(ge=0, le=1)]


class InvertibleAugmentation(NamedTuple):
    """Which changes each sample of a batch undergoes: boolean tensors of shape `B`.

    Applied in the order invert (1 - x), vertical flip (of the rows), horizontal flip (of the columns), transpose, and
    undone in the reverse order. The last three generate the dihedral group of the square; with colour inversion there
    are 16 changes. DUKD's release undoes them in the same order, which is wrong for a transpose after exactly one
    flip; DCKD's is right.
    """

    invert: Tensor
    vertical_flip: Tensor
    horizontal_flip: Tensor
    transpose: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Change a batch of square images, `B C n n` in [0, 1]."""
        images = torch.where(_per_sample(self.invert), 1 - images, images)
        images = torch.where(_per_sample(self.vertical_flip), images.flip(-2), images)
        images = torch.where(_per_sample(self.horizontal_flip), images.flip(-1), images)
        return torch.where(_per_sample(self.transpose), images.transpose(-1, -2), images)

    def undo(self, images: Tensor) -> Tensor:
        """Inverse of `apply`, also for images restored from changed ones."""
        images = torch.where(_per_sample(self.transpose), images.transpose(-1, -2), images)
        images = torch.where(_per_sample(self.horizontal_flip), images.flip(-1), images)
        images = torch.where(_per_sample(self.vertical_flip), images.flip(-2), images)
        return torch.where(_per_sample(self.invert), 1 - images, images)


def draw_augmentation(
    generators: list[torch.Generator], probability: float, device: torch.device
) -> InvertibleAugmentation:
    """Draw each of the four changes for each sample with the same probability, from the sample's own generator."""
    drawn = torch.stack([torch.rand(4, generator=generator) for generator in generators]) < probability
    invert, vertical_flip, horizontal_flip, transpose = drawn.to(device).unbind(1)
    return InvertibleAugmentation(invert, vertical_flip, horizontal_flip, transpose)


def _per_sample(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1)
