"""The contrast of restored images in a frozen encoder's space (CSD, DCKD, and those after them)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from components.auxiliary.feature_space import FeatureSpace
from components.methods.method import Frozen
from components.methods.parts.collectives import all_reduce_mean
from components.run.errors import InputError

EncoderRange = Literal["zero_one", "minus_one_one", "zero_255"]
"""The images that an encoder is fed: DCKD's release [0, 1], VQGAN's training [-1, 1], CSD's release 0..255."""

TAP_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Of the five levels of VGG19 (CSD) and VQGAN (DCKD), shallow to deep, as released."""

_EPSILON = 1e-7


def in_range(image: Tensor, encoder_range: EncoderRange) -> Tensor:
    """Map [0, 1] to the range that an encoder is fed."""
    if encoder_range == "zero_255":
        return image * 255
    return image if encoder_range == "zero_one" else 2 * image - 1


def contrastive(
    anchor: Sequence[Tensor],
    positive: Sequence[Tensor],
    negatives: Sequence[Sequence[Tensor]],
    weights: Sequence[float],
) -> Tensor:
    """Pull the anchor to the positive and away from the negatives, level by level (DCKD, equations 5 and 6).

    `sum_l weight_l * mean|f_l(S) - f_l(T)| / (mean sum_j |f_l(S) - f_l(N_j)| + 1e-7)`: the denominator sums over the
    negatives and averages over elements. The gradient flows through both.

    Args:
        anchor: the student's taps, `B C_l H_l W_l` each.
        positive: the teacher's.
        negatives: for each negative, its taps.
        weights: one for each level.
    """
    levels = []
    for weight, ours, theirs, others in zip(weights, anchor, positive, zip(*negatives, strict=True), strict=True):
        near = all_reduce_mean((ours - theirs).abs().float())
        far = torch.stack([all_reduce_mean((ours - other).abs().float()) for other in others]).sum()
        levels.append(weight * near / (far + _EPSILON))
    return torch.stack(levels).sum()


class Contrast(nn.Module):
    """A frozen encoder, what it is fed, and the contrast of its features. Nothing in it is trained or checkpointed.

    Args:
        load_encoder: loads the encoder.
        tap_weights: weight of each of its levels, shallow to deep.
        encoder_range: the images that it is fed.

    Raises:
        InputError: the weights are not one for each level.
    """

    def __init__(
        self,
        load_encoder: Callable[[], Frozen[FeatureSpace]],
        tap_weights: Sequence[float],
        encoder_range: EncoderRange,
    ) -> None:
        super().__init__()
        self.encoder, self.tap_weights, self.encoder_range = load_encoder(), tap_weights, encoder_range
        levels = self.encoder.network.levels
        if levels != len(tap_weights):
            raise InputError(
                f"tap_weights: {len(tap_weights)} weights, but the encoder has {levels} levels: write one for each."
            )

    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """The encoder's features of an image, `B 3 H W` in [0, 1]: `B C_l H_l W_l` of each level."""
        return self.encoder.network.taps(in_range(image, self.encoder_range))

    def forward(
        self, anchor: Sequence[Tensor], positive: Sequence[Tensor], negatives: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """`contrastive` with these weights."""
        return contrastive(anchor, positive, negatives, self.tap_weights)
