"""The contrast of restored images in a frozen encoder's space (CSD, DCKD and their successors)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from components.auxiliary.feature_space import FeatureSpace
from components.methods.method import Frozen
from components.methods.parts.collectives import all_reduce_mean
from components.run.errors import InputError

EncoderRange = Literal["zero_one", "minus_one_one", "zero_255"]
"""The range of the images fed to an encoder: [0, 1] in DCKD's release, [-1, 1] in VQGAN's training, 0..255 in CSD's."""

TAP_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""The released weights of the five levels of VGG19 (CSD) and VQGAN (DCKD), shallow to deep."""

_EPSILON = 1e-7


def in_range(image: Tensor, encoder_range: EncoderRange) -> Tensor:
    """Map an image in [0, 1] to the range that an encoder expects."""
    if encoder_range == "zero_255":
        return image * 255
    return image if encoder_range == "zero_one" else 2 * image - 1


def contrastive(
    anchor: Sequence[Tensor],
    positive: Sequence[Tensor],
    negatives: Sequence[Sequence[Tensor]],
    weights: Sequence[float],
) -> Tensor:
    """Pull the anchor towards the positive and away from the negatives, level by level (DCKD, equations 5 and 6).

    `sum_l weight_l * mean|f_l(S) - f_l(T)| / (mean sum_j |f_l(S) - f_l(N_j)| + 1e-7)`: the denominator sums over the
    negatives and averages over elements. The gradient flows through both.

    Args:
        anchor: the student's taps, `B C_l H_l W_l` each.
        positive: the teacher's.
        negatives: the taps of each negative.
        weights: one per level.
    """
    levels = []
    for weight, ours, theirs, others in zip(weights, anchor, positive, zip(*negatives, strict=True), strict=True):
        near = all_reduce_mean((ours - theirs).abs().float())
        far = torch.stack([all_reduce_mean((ours - other).abs().float()) for other in others]).sum()
        levels.append(weight * near / (far + _EPSILON))
    return torch.stack(levels).sum()


class Contrast(nn.Module):
    """A frozen encoder, its input range, and the contrast of its features; neither trained nor checkpointed.

    Args:
        load_encoder: loads the encoder.
        tap_weights: weight of each of its levels, shallow to deep.
        encoder_range: the range of the images fed to it.

    Raises:
        InputError: the number of weights differs from the number of levels.
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
        """`contrastive` with the weights of this encoder's levels."""
        return contrastive(anchor, positive, negatives, self.tap_weights)
