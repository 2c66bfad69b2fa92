"""MTKD: multi-teacher knowledge distillation for image super-resolution (Jiang et al., ECCV 2024)."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import Batch, Distillation, Setting
from components.methods.parts.wavelets import wavelet_distance

_OF_ENSEMBLE = frozenset({"wavelet", "image"})


class Mtkd(Distillation):
    """The student imitates one image aggregated from those of several teachers (second stage).

    With student S, ensemble A (`train_ensemble`, the first stage), clean image y, degraded x:

    * `reconstruction = mean|S(x) - y|`, weight 0.1
    * `wavelet`: `wavelet_distance` of S(x) and A(x), with one level of Haar; weight 1 in the paper
    * `image = mean|S(x) - A(x)|`, weight 1 in the released configuration, in place of `wavelet`

    The release's wavelet loss, which its configuration does not use, has four levels by default, averages the three
    detail bands of a level where the paper sums them, and uses the number of the last level as an index into the batch
    instead of a list, so that the approximation is compared for the fourth sample alone. Here it is compared for all.

    Args:
        setting: networks, terms and seed.
        levels: number of levels of the wavelet transform.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction", "wavelet", "image"})

    def __init__(self, setting: Setting, levels: Annotated[int, Field(gt=0, le=16)] = 1) -> None:
        super().__init__(setting)
        self.levels = levels
        self.ensemble = setting.load_ensemble() if _OF_ENSEMBLE & setting.terms else None

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        restored = network(batch.degraded)
        losses = self.image_losses(batch, lambda: restored)
        if self.ensemble is not None:
            with torch.no_grad():
                label = self.ensemble.network(batch.degraded)
            if "wavelet" in self.setting.terms:
                losses["wavelet"] = wavelet_distance(restored.float(), label.float(), self.levels)
            if "image" in self.setting.terms:
                losses["image"] = F.l1_loss(restored, label)
        return losses
