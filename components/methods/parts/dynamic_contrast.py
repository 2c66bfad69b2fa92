"""DCKD's own two losses: the contrast with images of an earlier state of the student, and the codes of a VQGAN."""

import copy
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.auxiliary.vqgan import VqganEncoder
from components.backbones.backbone import Backbone
from components.methods.method import Batch, Setting
from components.methods.parts.contrast import Contrast, EncoderRange, in_range
from components.methods.parts.degradations import Bank, degrade
from components.run.errors import InputError
from components.run.params import Params

CrossEntropy = Literal["released", "exact"]


class History(Params):
    """How the history network follows the student.

    Attributes:
        source: `ema` copies from the student's moving average (as released), `student` from the student
            itself (paper, section 3.2).
        keep: fraction of the old weights kept at a refresh (alpha; 0.1 in the paper).
        intervals: steps between refreshes, one interval per phase of the training.
        phase: steps per phase; the last interval applies to the rest of the training.
    """

    source: Literal["ema", "student"]
    momentum: float = Field(ge=0, le=1)
    intervals: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    phase: int = Field(gt=0)


class Negatives(Params):
    """The negatives of the contrast, all restored by the history network.

    Attributes:
        degraded: number of independently degraded copies of the input.
        clean: whether the unchanged input is one more negative (released: 4 degraded ones and this one; the paper
            says 5).
        bank: the degradations.
    """

    degraded: int = Field(ge=0)
    clean: bool
    bank: Bank

    @model_validator(mode="after")
    def _differ_from_the_student(self) -> Self:
        if self.degraded == 0 or max(self.bank.blur, self.bank.resize, self.bank.noise) == 0:
            # The history network starts as a copy of the student: without degradation, every distance is 0 at first.
            raise ValueError("at least one negative must be degraded, by at least one degradation of probability > 0")
        return self


class DynamicContrast(nn.Module):
    """Dynamic contrastive regularisation and the distribution mapping module (DCKD, sections 3.2 and 3.3).

    With student S, teacher T, degraded x, VQGAN taps f_1..f_5 and codebook distances d:

    * `contrastive`: see `parts.contrast` (equations 5, 6), negatives from the history network (equation 4)
    * `codes`: see `code_cross_entropy` (equations 8, 9)

    Nothing in it is trained: it is always in evaluation mode.

    Args:
        setting: networks, terms and seed; of its terms, only those above are computed here.
        history: how the history network follows the student.
        negatives: how the negatives are made.
        tap_weights: weight of each VQGAN level in the contrast, shallow to deep.
        cross_entropy: `released` or `exact`.
        encoder_range: the range of the images fed to the encoder; `zero_one` as released.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"contrastive", "codes"})

    def __init__(
        self,
        setting: Setting,
        history: History,
        negatives: Negatives,
        tap_weights: Sequence[float],
        cross_entropy: CrossEntropy,
        encoder_range: EncoderRange,
    ) -> None:
        super().__init__()
        self.seed = setting.seed
        self.history_rule, self.negatives = history, negatives
        self.cross_entropy = cross_entropy
        self._needs_codes = "codes" in setting.terms
        self.contrast: Contrast | None = None
        self.history: Backbone | None = None
        if setting.terms & self.terms:
            self.contrast = Contrast(setting.load_encoder, tap_weights, encoder_range)
            if self._needs_codes and not isinstance(self.contrast.encoder.network, VqganEncoder):
                raise InputError("weights: codes needs a codebook, which only a vqgan encoder has: take it out.")
        if "contrastive" in setting.terms:
            # Registered, unlike the teacher, so that it is checkpointed and a resumed run continues with it.
            self.history = copy.deepcopy(setting.student).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - the signature is torch's
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, batch: Batch, restored: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: the crops.
            restored: the student's image of them, `B 3 H W`.
            label: the teacher's.
        """
        losses: dict[str, Tensor] = {}
        if self.contrast is None:
            return losses
        taps, distances = self._encode(self.contrast, restored)
        with torch.no_grad():
            label_taps, label_distances = self._encode(self.contrast, label)
        if self.history is not None:
            negatives = self._negative_taps(self.contrast, self.history, batch)
            losses["contrastive"] = self.contrast(taps, label_taps, negatives)
        if self._needs_codes:
            losses["codes"] = code_cross_entropy(distances, label_distances, self.cross_entropy)
        return losses

    def follow(self, step: int, network: Backbone, average: Backbone) -> None:
        """Refresh the history network if its interval has elapsed."""
        rule = self.history_rule
        if self.history is None or not is_refresh(step, rule.intervals, rule.phase):
            return
        source = average if rule.source == "ema" else network
        with torch.no_grad():
            for kept, new in zip(self.history.parameters(), source.parameters(), strict=True):
                kept.lerp_(new.to(kept), 1 - rule.momentum)
            for buffer, current in zip(self.history.buffers(), source.buffers(), strict=True):
                buffer.copy_(current)

    def _encode(self, contrast: Contrast, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The taps of an image, and its squared distances to the codes (if unwanted, the image instead)."""
        encoder = contrast.encoder.network
        if isinstance(encoder, VqganEncoder) and self._needs_codes:
            return encoder.encode(in_range(image, contrast.encoder_range))
        return contrast.taps(image), image

    def _negative_taps(self, contrast: Contrast, history: Backbone, batch: Batch) -> list[tuple[Tensor, ...]]:
        inputs = [batch.degraded] if self.negatives.clean else []
        inputs += [
            degrade(batch.degraded, self.negatives.bank, batch.seeds, self.seed, batch.step, index)
            for index in range(self.negatives.degraded)
        ]
        with torch.no_grad():
            taps = [tap.chunk(len(inputs)) for tap in contrast.taps(history(torch.cat(inputs)))]
        return list(zip(*taps, strict=True))


def code_cross_entropy(student: Tensor, teacher: Tensor, kind: CrossEntropy) -> Tensor:
    """Cross entropy of the student's distribution over the codes to the teacher's (equations 8 and 9).

    A token's probabilities are the softmax of its negated squared distances (equation 8 lacks the minus sign).
    `exact` is `-sum p_T log p_S`. `released` passes the student's probabilities through a second softmax, as the
    released code does: with 1024 codes that is `6.933 - <p_T, p_S>` to 1e-3, bounded, and the published weight 0.001
    was tuned for it.

    Args:
        student: squared distances, `tokens codes`.
        teacher: the same, of the teacher.
        kind: `released` or `exact`.
    """
    target = torch.softmax(-teacher.float(), dim=1)
    scores = -student.float()
    return F.cross_entropy(torch.softmax(scores, dim=1) if kind == "released" else scores, target)


def is_refresh(step: int, intervals: Sequence[int], phase: int) -> bool:
    """Whether the history network is refreshed after a step (from 1).

    In phase i, steps `i*phase+1 .. (i+1)*phase`, it is refreshed every `intervals[i]` steps; the last interval applies
    to all later phases.
    """
    interval = intervals[min((step - 1) // phase, len(intervals) - 1)]
    return step % interval == 0
