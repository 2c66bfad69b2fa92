"""The loss that trains MTKD's aggregator."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from components.auxiliary.aggregator import Aggregator
from components.auxiliary.ensemble import TeacherEnsemble
from components.images.distances import Distance
from components.methods.method import Batch, Frozen, Method


class Aggregation(Method[Aggregator]):
    """L1 of the aggregated image to the clean one (MTKD, first stage): `reconstruction = mean|A(T_1(x)..T_n(x)) - y|`.

    Args:
        teacher_ensemble: the frozen teachers, in the order that the aggregator learns.
        to_clean: the distance of `reconstruction`, from the recipe.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction"})

    def __init__(self, teacher_ensemble: Frozen[TeacherEnsemble], to_clean: Distance = F.l1_loss) -> None:
        super().__init__()
        self.teacher_ensemble, self.to_clean = teacher_ensemble, to_clean

    def forward(self, network: Aggregator, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch."""
        with torch.no_grad():
            images = self.teacher_ensemble.network(batch.degraded)
        return {"reconstruction": self.to_clean(network(images), batch.clean)}
