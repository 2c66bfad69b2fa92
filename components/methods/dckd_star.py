"""DCKD*: DCKD with DUKD's upper-bound constraint (Zhou et al., AAAI 2025, tables 1 and 2)."""

from typing import ClassVar

from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import IMAGE_TERMS, Batch, Distillation, Setting
from components.methods.parts.augmentations import Probability
from components.methods.parts.contrast import TAP_WEIGHTS, EncoderRange
from components.methods.parts.dynamic_contrast import CrossEntropy, DynamicContrast, History, Negatives
from components.methods.parts.upcycling import Upcycling
from components.run.params import Positive


class DckdStar(Distillation):
    """DCKD's lower-bound constraint and DUKD's upper-bound constraint together.

    * `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|`
    * `contrastive`, `codes`: see `DynamicContrast`
    * `zoom_in`, `zoom_out_reconstruction`, `zoom_out_logits`: see `Upcycling`

    The paper says that DUKD is incorporated, but not how, and its release has neither zoom-in nor zoom-out. One step on
    the weighted sum of all losses is our reading.

    Args:
        setting: networks, terms and seed.
        history, negatives, tap_weights, cross_entropy, encoder_range: see `DynamicContrast`.
        tiles, augmentation_probability: see `Upcycling`.
    """

    terms: ClassVar[frozenset[str]] = DynamicContrast.terms | Upcycling.terms | IMAGE_TERMS

    def __init__(
        self,
        setting: Setting,
        history: History,
        negatives: Negatives,
        tap_weights: tuple[float, ...] = TAP_WEIGHTS,
        cross_entropy: CrossEntropy = "released",
        encoder_range: EncoderRange = "zero_one",
        tiles: Positive = 1,
        augmentation_probability: Probability = 0.3,
    ) -> None:
        super().__init__(setting)
        self.contrast = DynamicContrast(setting, history, negatives, tap_weights, cross_entropy, encoder_range)
        self.upcycling = Upcycling(setting, self.teach, tiles, augmentation_probability)

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        losses: dict[str, Tensor] = {}
        if self.setting.terms - Upcycling.terms:
            restored, label = network(batch.degraded), self.teach(batch.degraded)
            losses = self.image_losses(batch, lambda: restored, label) | self.contrast(batch, restored, label)
        return losses | self.upcycling(network, batch)

    def follow(self, step: int, network: Backbone, average: Backbone) -> None:
        """Refresh the history network if its interval has elapsed."""
        self.contrast.follow(step, network, average)
