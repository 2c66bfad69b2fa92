"""SRKD: image super-resolution using knowledge distillation (Gao et al., ACCV 2018; our reading)."""

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from components.backbones.backbone import Backbone
from components.backbones.parts.precision import full_precision
from components.methods.method import Batch, Distillation, Setting
from components.methods.parts.cascade import Depth, heads_of, matching_cuts
from components.methods.parts.taps import example_taps, features_of
from components.run.errors import InputError

Statistic = Literal["power_of_mean", "mean_of_powers", "maximum", "minimum"]

_LEVELS = ("low", "middle", "high")
_EPSILON = 1e-8


class Srkd(Distillation):
    """Statistics over the channels of the student's features imitate those of the teacher's, at three depths.

    With student S, degraded x, clean y, and maps G(F), `B C h w -> B h w`, of the features F at a depth:

    * `reconstruction = mean|S(x) - y|`
    * `low`, `middle`, `high`: the distance of G(F_S) to G(F_T) at the three depths; the paper weighs each by its own
      lambda, and some are 0. The teacher's image is not used.

    Neither the code nor the full text of the paper is available to us. These facts come from papers that describe it:
    the four statistics, p = 1 and 2, that `power_of_mean` with p = 2 is best, and the taps after blocks 4, 7 and 10 of
    10. These are ours: L1 or L2, the division by the norm, and the weights.

    Args:
        setting: networks, terms and seed.
        statistic: G; `power_of_mean` is `(mean_c F_c)^p`, `mean_of_powers` is `mean_c F_c^p`.
        power: the p of these two.
        depths: relative depths of the taps, shallow to deep.
        distance: mean of absolute (`l1`) or squared (`l2`) differences.
        normalise: divide each map by its root mean square over positions, which is its L2 norm up to a factor that
            would make the loss depend on the patch size. Without it, the loss scales with the networks' features.

    Raises:
        InputError: the networks' features differ in height or width.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction", *_LEVELS})

    def __init__(
        self,
        setting: Setting,
        statistic: Statistic = "power_of_mean",
        power: Annotated[int, Field(ge=1, le=2)] = 2,
        depths: tuple[Depth, Depth, Depth] = (0.4, 0.7, 1.0),
        distance: Literal["l1", "l2"] = "l2",
        normalise: bool = True,
    ) -> None:
        super().__init__(setting)
        self.statistic: Statistic = statistic
        self.power, self.normalise = power, normalise
        self.distance = F.l1_loss if distance == "l1" else F.mse_loss
        if list(depths) != sorted(set(depths)):
            raise InputError(f"depths: {list(depths)}: write three from shallow to deep.")
        for tap in example_taps(setting.student, self.teacher, depths):
            if tap.student.shape[2:] != tap.teacher.shape[2:]:
                student, teacher = tap.sizes
                raise InputError(
                    f"depths: {tap.depth}: the student's maps are {student} there, the teacher's {teacher}: "
                    "take networks of one family."
                )
        # The networks are run only to the deepest wanted level.
        self.levels = {level: depth for level, depth in zip(_LEVELS, depths, strict=True) if level in setting.terms}
        self.cuts, self.teacher_cuts = (
            matching_cuts(network, list(self.levels.values()) or [1.0]) for network in (setting.student, self.teacher)
        )

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        ours = heads_of(network, batch.degraded, self.cuts)
        losses = self.image_losses(batch, ours.restore)
        if self.levels:
            with torch.no_grad():
                theirs = heads_of(self.teacher, batch.degraded, self.teacher_cuts)
            with full_precision(batch.degraded):
                pairs = zip(self.levels, features_of(ours), features_of(theirs), strict=True)
                losses |= {level: self.distance(self.maps(one), self.maps(other)) for level, one, other in pairs}
        return losses

    def maps(self, features: Tensor) -> Tensor:
        """The statistic of `B C h w` features at each position, `B h w`."""
        match self.statistic:
            case "power_of_mean":
                maps = features.mean(1).pow(self.power)
            case "mean_of_powers":
                maps = features.pow(self.power).mean(1)
            case "maximum":
                maps = features.amax(1)
            case "minimum":
                maps = features.amin(1)
        if not self.normalise:
            return maps
        norms: Tensor = torch.linalg.vector_norm(maps, dim=(1, 2), keepdim=True)
        return maps / (norms / math.sqrt(maps[0].numel()) + _EPSILON)
