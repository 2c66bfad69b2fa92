"""DUKD: data upcycling knowledge distillation for image super-resolution (Zhang et al., arXiv 2309.14162)."""

from typing import ClassVar, Literal

from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import IMAGE_TERMS, Batch, Distillation, Setting
from components.methods.parts.augmentations import Probability
from components.methods.parts.upcycling import Upcycling
from components.run.params import Positive


class Dukd(Distillation):
    """Logits distillation, plus losses of the same student on upcycled crops.

    * `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|`
    * `zoom_in`, `zoom_out_reconstruction`, `zoom_out_logits`: see `Upcycling`

    The published configurations differ in their weights (EDSR: 5 and 1 for reconstruction and logits, and the same for
    zoom-out; RCAN x2 and x4: 1 and 1, without zoom-out) and in `augmentation_probability` (0.3; for RCAN x2 and x4, 0).

    Args:
        setting: networks, terms and seed.
        tiles: how many tiles of a clean crop zoom-in uses; 1 as released (EDSR x2: 2).
        augmentation_probability: probability of each change of a tile.
        optimiser_steps: 1 sums all losses (the paper's objective). 2 follows the release: first a step on
            reconstruction and logits, then, without clearing their gradient, a second step on the sum of both and the
            upcycled losses. Its iterations cost more than those of other methods.
    """

    terms: ClassVar[frozenset[str]] = Upcycling.terms | IMAGE_TERMS

    def __init__(
        self,
        setting: Setting,
        tiles: Positive = 1,
        augmentation_probability: Probability = 0.3,
        optimiser_steps: Literal[1, 2] = 1,
    ) -> None:
        super().__init__(setting)
        self.upcycling = Upcycling(setting, self.teach, tiles, augmentation_probability)
        # A part without a loss would have no gradient to step along.
        both = setting.terms & Upcycling.terms and setting.terms & IMAGE_TERMS
        self.parts = optimiser_steps if both else 1

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, or of one part of its step: first the image losses, then the upcycled ones."""
        losses: dict[str, Tensor] = {}
        if self.parts == 1 or batch.part == 0:
            losses |= self.image_losses(batch, lambda: network(batch.degraded))
        if self.parts == 1 or batch.part == 1:
            losses |= self.upcycling(network, batch)
        return losses
