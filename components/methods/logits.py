"""Response distillation: the student imitates the teacher's restored image."""

from typing import ClassVar

from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import IMAGE_TERMS, Batch, Distillation


class Logits(Distillation):
    """L1 to the clean image and to the teacher's (DCKD, equations 2 and 3).

    `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|`; the teacher's image is not clamped. In every
    method, the student's recipe can replace the L1 of either loss (`Setting.to_clean`, `to_teacher`).
    The published variants differ only in their weights: `sum` is 1 and 1 (the rows of the DCKD, MiPKD and DUKD
    tables), `convex` 0.5 and 0.5 (FAKD), `weighted` 5 and 1 (DUKD's main step).
    """

    terms: ClassVar[frozenset[str]] = IMAGE_TERMS

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        return self.image_losses(batch, lambda: network(batch.degraded))
