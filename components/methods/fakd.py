"""FAKD: feature-affinity based knowledge distillation for efficient image super-resolution (He et al., ICIP 2020)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from components.backbones.backbone import Backbone
from components.backbones.parts.precision import full_precision
from components.methods.method import IMAGE_TERMS, Batch, Distillation, Setting
from components.methods.parts import affinity
from components.methods.parts.cascade import Depth, heads_of, matching_cuts
from components.methods.parts.taps import Tap, example_taps, features_of
from components.run.errors import InputError
from components.run.params import Positive

Comparison = Callable[[Tensor, Tensor], Tensor]

_SAME_CHANNELS = frozenset({"channel", "fsp", "fitnet"})
_ANY_SIZE = frozenset({"channel", "batch", "fsp"})


class Fakd(Distillation):
    """The relations inside the student's features imitate those inside the teacher's (equations 1 to 4).

    With student S, teacher T, degraded x, clean y:

    * `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|`
    * `spatial`, which is the paper's own, and `channel`, `batch`, `pooled_spatial`, `fsp`, `attention`, `mmd` and
      `rbf`, which its repository adds: the comparisons in `parts.affinity`, summed over the taps (`fsp`: over the
      pairs of neighbouring taps)
    * `fitnet`: the sum over the taps of `mean|F_S - F_T|`

    The taps follow the same stages as in the released networks: groups 3, 7 and 10 of RCAN's 10; blocks 5, 10 and 16 of
    EDSR's 16, or 10, 21 and 32 of its 32; groups 2, 4 and 6 of a SAN with 6, or 7, 13 (released: 14) and 20 of its 20.
    The last stage includes the closing convolution and the global skip; the release adds that skip in place, so its
    loss, too, reads the features with the skip.

    The published weights are 0.5 and 0.5 for the image losses and 10 for `spatial`, with images in 0..255. Images are
    in [0, 1] here, where a weight of 10 / 255 for `spatial` keeps the ratio.

    Args:
        setting: networks, terms and seed.
        depths: relative depths of the taps.
        pool: how `pooled_spatial`, `mmd` and `rbf` pool a window.
        pool_size: side of that window; 1, as released, pools nothing.
        rbf_order: order of the Taylor series of `rbf`.
        rbf_gamma: gamma of its kernel.

    Raises:
        InputError: the networks' features do not have the shapes that a wanted loss needs.
    """

    terms: ClassVar[frozenset[str]] = (
        IMAGE_TERMS | _SAME_CHANNELS | {"spatial", "batch", "pooled_spatial", "attention", "mmd", "rbf"}
    )

    def __init__(
        self,
        setting: Setting,
        depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (0.327, 0.655, 1.0),
        pool: affinity.Pool = "max",
        pool_size: Positive = 1,
        rbf_order: Positive = 2,
        rbf_gamma: Annotated[float, Field(gt=0)] = 5.0,
    ) -> None:
        super().__init__(setting)
        self._per_tap = _comparisons(partial(affinity.pooled, size=pool_size, kind=pool), rbf_order, rbf_gamma)
        self.compared = sorted(setting.terms - IMAGE_TERMS)
        if "fsp" in self.compared and len(depths) == 1:
            raise InputError("depths: 'fsp' compares neighbouring taps: write two or more.")
        for tap in example_taps(setting.student, self.teacher, depths):
            _refuse_unequal(self.compared, tap)
        self.cuts, self.teacher_cuts = (matching_cuts(network, depths) for network in (setting.student, self.teacher))

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        wanted = self.setting.terms
        ours = heads_of(network, batch.degraded, self.cuts)
        if wanted == {"reconstruction"}:
            return self.image_losses(batch, ours.restore)
        with torch.no_grad():
            theirs = heads_of(self.teacher, batch.degraded, self.teacher_cuts)
            label = theirs.restore() if "logits" in wanted else None
        losses = self.image_losses(batch, ours.restore, label)
        with full_precision(batch.degraded):
            return losses | self.compare(features_of(ours), features_of(theirs))

    def compare(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
        """The feature losses, from the `B C h w` features at each tap."""
        losses: dict[str, Tensor] = {}
        for term in self.compared:
            if term == "fsp":
                parts = [affinity.fsp(*pair) for pair in zip(pairwise(student), pairwise(teacher), strict=True)]
            else:
                parts = [self._per_tap[term](*pair) for pair in zip(student, teacher, strict=True)]
            losses[term] = torch.stack(parts).sum()
        return losses


def _comparisons(pooled: Callable[[Tensor], Tensor], rbf_order: int, rbf_gamma: float) -> dict[str, Comparison]:
    """Every feature loss except `fsp`, as a function of the student's and the teacher's features at one tap."""

    def of_pooled(comparison: Comparison) -> Comparison:
        return lambda student, teacher: comparison(pooled(student), pooled(teacher))

    return {
        "spatial": affinity.spatial,
        "channel": affinity.channel,
        "batch": affinity.batch,
        "attention": affinity.attention,
        "fitnet": F.l1_loss,
        "pooled_spatial": of_pooled(affinity.spatial),
        "mmd": of_pooled(affinity.mmd),
        "rbf": of_pooled(partial(affinity.rbf, order=rbf_order, gamma=rbf_gamma)),
    }


def _refuse_unequal(terms: Sequence[str], tap: Tap) -> None:
    """Raise an `InputError` if the features at a tap do not have the shapes that one of the losses needs."""
    width, taught_width = tap.student.shape[1], tap.teacher.shape[1]
    size, taught_size = tap.sizes
    for term in terms:
        if term in _SAME_CHANNELS and width != taught_width:
            raise InputError(
                f"weights: {term!r} compares channels one by one, but at depth {tap.depth} the student has {width} and "
                f"the teacher {taught_width}: take it out (spatial, batch and attention compare any widths), or give "
                "both the same number of channels."
            )
        if term not in _ANY_SIZE and size != taught_size:
            raise InputError(
                f"weights: {term!r} compares positions one by one, but at depth {tap.depth} the student has {size} "
                f"where the teacher has {taught_size}: take it out (channel, batch and fsp compare any sizes), or take "
                "networks of one family."
            )
