"""Training without a teacher: the lower bound that every method is compared with."""

from typing import ClassVar

from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import Batch, Distillation


class Scratch(Distillation):
    """L1 to the clean image, `reconstruction = mean|S(x) - y|`, or the recipe's other distance."""

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction"})

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        return self.image_losses(batch, lambda: network(batch.degraded))
