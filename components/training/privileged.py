"""Losses of PISR's privileged teacher, and how well it restores the images that it sees."""

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from components.auxiliary.privileged_teacher import PrivilegedTeacher
from components.images.distances import Distance
from components.images.store import Store
from components.methods.method import Batch, Method
from components.methods.parts.cascade import finish
from components.tasks.evaluation import network_restorer
from components.tasks.task import Task
from components.training.loop import Row


class PrivilegedLearning(Method[PrivilegedTeacher]):
    """Restore the clean image from the encoder's output, which should look like the degraded image (equation 2).

    With clean y, degraded x, imitated x' and restored y': `reconstruction = mean|y' - y|`, `imitation = mean|x' - x|`,
    the latter on luma if the decoder restores luma.

    Args:
        to_clean: the distance of `reconstruction`, from the recipe.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction", "imitation"})

    def __init__(self, to_clean: Distance = F.l1_loss) -> None:
        super().__init__()
        self.to_clean = to_clean

    def forward(self, network: PrivilegedTeacher, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        imitated = network.imitate(batch.clean)
        restored = finish(network, network.enter_imitated(imitated, batch.clean), -1)
        return {
            "reconstruction": self.to_clean(restored, batch.clean),
            "imitation": F.l1_loss(imitated, network.seen(batch.degraded)),
        }


def privileged_validation_on(store: Store, task: Task) -> Callable[[PrivilegedTeacher], Row]:
    """Measure a privileged teacher on the store's clean validation images by the task's protocol: mean scores."""
    records = store.records("validation")

    def measure(network: PrivilegedTeacher) -> Row:
        restorer = network_restorer(network)
        images = (store.whole(record).clean for record in records)
        scores = [task.measure(restorer(clean), clean) for clean in images]
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}

    return measure
