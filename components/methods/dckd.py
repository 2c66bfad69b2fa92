"""DCKD: dynamic contrastive knowledge distillation for efficient image restoration (Zhou et al., AAAI 2025)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import IMAGE_TERMS, Batch, Distillation, Setting
from components.methods.parts.augmentations import Probability, draw_augmentation
from components.methods.parts.contrast import TAP_WEIGHTS, EncoderRange
from components.methods.parts.draws import sample_generators
from components.methods.parts.dynamic_contrast import CrossEntropy, DynamicContrast, History, Negatives

_LABEL_CONSISTENCY_PURPOSE = 1_000


class Dckd(Distillation):
    """Dynamic contrastive regularisation and distribution mapping on top of logits (equation 10).

    With student S, teacher T, clean image y, degraded x:

    * `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|` (equations 2, 3)
    * `contrastive`, `codes`: see `DynamicContrast`
    * `label_consistency = mean|S(x) - undo(T(change(x)))|`, only in the release

    Args:
        setting: networks, terms and seed.
        history: how the history network follows the student.
        negatives: how the negatives are made.
        tap_weights: weight of each VQGAN level in the contrast, shallow to deep.
        cross_entropy: `released` or `exact`.
        encoder_range: the images fed to the encoder.
        augmentation_probability: probability of each change in label consistency; 0.5 as released.
    """

    terms: ClassVar[frozenset[str]] = DynamicContrast.terms | IMAGE_TERMS | {"label_consistency"}

    def __init__(
        self,
        setting: Setting,
        history: History,
        negatives: Negatives,
        tap_weights: tuple[float, ...] = TAP_WEIGHTS,
        cross_entropy: CrossEntropy = "released",
        encoder_range: EncoderRange = "zero_one",
        augmentation_probability: Probability = 0.5,
    ) -> None:
        super().__init__(setting)
        self.contrast = DynamicContrast(setting, history, negatives, tap_weights, cross_entropy, encoder_range)
        self.augmentation_probability = augmentation_probability

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        restored = network(batch.degraded)
        label, consistent_label = self._labels(batch)
        losses = self.image_losses(batch, lambda: restored, label)
        if "label_consistency" in self.setting.terms:
            losses["label_consistency"] = F.l1_loss(restored, consistent_label)
        contrast: dict[str, Tensor] = self.contrast(batch, restored, label)
        return losses | contrast

    def follow(self, step: int, network: Backbone, average: Backbone) -> None:
        """Refresh the history network if its interval has elapsed."""
        self.contrast.follow(step, network, average)

    def _labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teacher's image of the input, and that of its augmented copy, undone; one forward pass for both."""
        if "label_consistency" not in self.setting.terms:
            label = self.teach(batch.degraded)
            return label, label
        generators = sample_generators(batch.seeds, _LABEL_CONSISTENCY_PURPOSE)
        augmentation = draw_augmentation(generators, self.augmentation_probability, batch.degraded.device)
        both = self.teach(torch.cat([batch.degraded, augmentation.apply(batch.degraded)]))
        label, changed = both.chunk(2)
        return label, augmentation.undo(changed)
