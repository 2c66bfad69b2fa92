"""SKD: soft knowledge distillation with multi-dimensional cross-net attention (Zhang and Yan, ICASSP 2025)."""

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone
from components.backbones.parts.precision import full_precision
from components.images.bicubic_tensors import resize_batch
from components.methods.method import Batch, Distillation, Setting
from components.methods.parts.cascade import Depth, Heads, heads_of, matching_cuts, projection
from components.methods.parts.contrast import TAP_WEIGHTS, Contrast, EncoderRange
from components.methods.parts.cross_attention import cross_channel, cross_spatial, kernel_distance, pooled
from components.methods.parts.taps import equal_sized_taps, features_of

_OF_FEATURES = frozenset({"kernel", "cross_channel", "cross_spatial"})


class Skd(Distillation):
    """Brings the student's features, plain and mixed by cross-attention, near the teacher's in a kernel's space.

    With student S, teacher T, degraded x, clean y, features S_f and T_f at the relative depths (arXiv 2501.09321):

    * `reconstruction = mean|S(x) - y|`
    * `kernel = sum_k GK(S_f, T_f)`, `cross_channel = sum_k GK(S_fc, T_f)`, `cross_spatial = sum_k GK(S_ft, T_f)`: see
      `parts.cross_attention`; the paper's weights are a2, a1 a2 and a1 a2
    * `contrastive`: see `parts.contrast`; pulls S(x) towards the positive and away from the bicubically enlarged x;
      the paper's weight is a3

    No code was released, and the weights, depths, lambda and sigma are not known. These are ours, and so are the
    normalisation before the attention, the bandwidth, the contrastive loss with its positive and its negative (DCKD's
    ratio of distances in the frozen encoder's space), and a learnable 1x1 projection of the student where the widths
    differ.

    Cross-spatial attention has one weight per pair of positions. Maps with more than `attention_tokens` positions are
    therefore first averaged over squares, in both networks, and compared at that size.

    Args:
        setting: networks, terms and seed.
        depths: relative depths of the features compared.
        temperature: factor of lambda, which is the square root of a vector's number of entries.
        attention_tokens: largest number of positions in the cross-spatial attention; 256 is a map of 16 x 16.
        positive: which image is the positive of the contrast, the `teacher`'s or the `clean` one.
        tap_weights: weight of each of the encoder's levels, shallow to deep.
        encoder_range: the images fed to the encoder.
    """

    terms: ClassVar[frozenset[str]] = _OF_FEATURES | {"reconstruction", "contrastive"}

    def __init__(
        self,
        setting: Setting,
        depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (1 / 3, 2 / 3, 1.0),
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        attention_tokens: Annotated[int, Field(ge=4)] = 256,
        positive: Literal["teacher", "clean"] = "teacher",
        tap_weights: tuple[float, ...] = TAP_WEIGHTS,
        encoder_range: EncoderRange = "zero_one",
    ) -> None:
        super().__init__(setting)
        self.temperature, self.attention_tokens = temperature, attention_tokens
        self.positive = positive
        self.student_cuts, self.teacher_cuts = (
            matching_cuts(network, depths) for network in (setting.student, self.teacher)
        )
        taps = equal_sized_taps(setting.student, self.teacher, depths)
        projections = [projection(tap.student.shape[1], tap.teacher.shape[1]) for tap in taps]
        # Only what the wanted losses use: every trained parameter must get a gradient in every step.
        self.projections = nn.ModuleList(projections if setting.terms & _OF_FEATURES else [])
        self.contrast = None
        if "contrastive" in setting.terms:
            self.contrast = Contrast(setting.load_encoder, tap_weights, encoder_range)

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        wanted = self.setting.terms
        losses: dict[str, Tensor] = {}
        label = batch.clean
        needs_label = "contrastive" in wanted and self.positive == "teacher"
        heads = heads_of(network, batch.degraded, self.student_cuts)
        with torch.no_grad():
            if needs_label or wanted & _OF_FEATURES:
                taught = heads_of(self.teacher, batch.degraded, self.teacher_cuts)
            if needs_label:
                label = taught.restore()
        if wanted - _OF_FEATURES:
            restored = heads.restore()
            losses |= self.image_losses(batch, lambda: restored)
            if self.contrast is not None:
                losses["contrastive"] = _contrast(self.contrast, restored, label, batch.degraded)
        if wanted & _OF_FEATURES:
            with full_precision(batch.degraded):
                losses |= self._compare(heads, taught)
        return losses

    def _compare(self, heads: Heads, taught: Heads) -> dict[str, Tensor]:
        """The feature losses, each summed over the depths."""
        distances: dict[str, list[Tensor]] = {term: [] for term in sorted(_OF_FEATURES & self.setting.terms)}
        pairs = zip(features_of(heads), features_of(taught), self.projections, strict=True)
        for features, teacher, project in pairs:
            student = project(features)
            ours, theirs = student.flatten(2), teacher.flatten(2)
            if "kernel" in distances:
                distances["kernel"].append(kernel_distance(ours, theirs))
            if "cross_channel" in distances:
                mixed = cross_channel(ours, theirs, self.temperature)
                distances["cross_channel"].append(kernel_distance(mixed, theirs))
            if "cross_spatial" in distances:
                small, goal = (pooled(maps, self.attention_tokens).flatten(2) for maps in (student, teacher))
                mixed = cross_spatial(small, goal, self.temperature)
                distances["cross_spatial"].append(kernel_distance(mixed, goal))
        return {term: torch.stack(values).sum() for term, values in distances.items()}


def _contrast(contrast: Contrast, restored: Tensor, positive: Tensor, degraded: Tensor) -> Tensor:
    """The contrast of the student's image with the positive and the enlarged input."""
    scale = restored.shape[-1] // degraded.shape[-1]
    anchor = contrast.taps(restored)
    with torch.no_grad():
        others = torch.cat([positive, resize_batch(degraded, Fraction(scale))])
        near, far = zip(*(tap.chunk(2) for tap in contrast.taps(others)), strict=True)
    loss: Tensor = contrast(anchor, near, [far])
    return loss
