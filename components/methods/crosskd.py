"""CrossKD: dual cross knowledge distillation for image super-resolution (Fang et al., JVCIR 95:103858, 2023)."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone
from components.methods.method import IMAGE_TERMS, Batch, Distillation, Setting
from components.methods.parts.cascade import Bridge, Depth, Heads, example_heads, finish, heads_of, matching_cuts
from components.run.errors import InputError

_CASCADES = frozenset({"student_teacher", "teacher_student"})


class CrossKd(Distillation):
    """The student's head followed by the frozen teacher's tail, and the reverse (cross-cascade, ours).

    The paper cascades parts of the student with parts of the frozen teacher, so that the teacher's parameters
    supervise the student directly. No code was released and we could only obtain the abstract, so the cut points,
    the targets and the weights are ours. With student S, teacher T, degraded x, clean y, both networks cut into head
    and tail at the same relative depths k, and a target t:

    * `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|`
    * `student_teacher = sum_k mean|T_tail,k(S_head,k(x)) - t|`: the gradient passes through the teacher's tail
    * `teacher_student = sum_k mean|S_tail,k(T_head,k(x)) - t|`

    Besides features, a tail needs context (the global skip, an encoder's skips). It gets it from the head that it
    continues, not from its own network: a cascade is one network, and a teacher's tail with access to the teacher's
    own skip could restore much of the image while bypassing the student's head. If the networks' widths differ,
    learnable 1x1 projections are inserted at the cut (ours); the networks in the published tables have equal widths
    and need none.

    Args:
        setting: networks, terms and seed.
        depths: the relative depths at which both networks are cut.
        target: `clean` compares the cascades' images with y, `teacher` with T(x).
    """

    terms: ClassVar[frozenset[str]] = _CASCADES | IMAGE_TERMS

    def __init__(
        self,
        setting: Setting,
        depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (0.3, 0.7),
        target: Literal["clean", "teacher"] = "clean",
    ) -> None:
        super().__init__(setting)
        self.target = target
        self.student_cuts, self.teacher_cuts = (
            matching_cuts(network, depths) for network in (setting.student, self.teacher)
        )
        into_teacher, into_student = [], []
        student, teacher = example_heads((setting.student, self.teacher), depths)
        for depth, ours, theirs in zip(sorted(depths), student.states, teacher.states, strict=True):
            try:
                into_teacher.append(Bridge(ours, theirs))
                into_student.append(Bridge(theirs, ours))
            except InputError as error:
                raise InputError(f"depths: {depth:g}: {error}") from None
        # Only the projections that a wanted loss uses: every trained parameter must get a gradient in every step.
        self.into_teacher = nn.ModuleList(into_teacher if "student_teacher" in setting.terms else [])
        self.into_student = nn.ModuleList(into_student if "teacher_student" in setting.terms else [])

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        wanted = self.setting.terms
        label = None
        needs_label = "logits" in wanted or (self.target == "teacher" and wanted & _CASCADES)
        losses: dict[str, Tensor] = {}
        with torch.no_grad():
            if needs_label or "teacher_student" in wanted:
                taught = heads_of(self.teacher, batch.degraded, self.teacher_cuts)
            if needs_label:
                label = taught.restore()
        target = batch.clean if label is None or self.target == "clean" else label
        if wanted - {"teacher_student"}:
            heads = heads_of(network, batch.degraded, self.student_cuts)
            losses |= self.image_losses(batch, heads.restore, label)
            if "student_teacher" in wanted:
                losses["student_teacher"] = _cascaded(heads, self.into_teacher, self.teacher, self.teacher_cuts, target)
        if "teacher_student" in wanted:
            losses["teacher_student"] = _cascaded(taught, self.into_student, network, self.student_cuts, target)
        return losses


def _cascaded(heads: Heads, bridges: nn.ModuleList, tail: Backbone, cuts: Sequence[int], target: Tensor) -> Tensor:
    """Sum over the cuts of the L1 between the target and what `tail` restores from another network's head."""
    images = [finish(tail, bridge(state), cut) for state, bridge, cut in zip(heads.states, bridges, cuts, strict=True)]
    return torch.stack([F.l1_loss(image, target) for image in images]).sum()
