"""What every distillation method offers: named, unweighted losses of a student on a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, NoReturn, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.auxiliary.ensemble import AggregatedEnsemble
from components.auxiliary.feature_space import FeatureSpace
from components.auxiliary.privileged_teacher import PrivilegedTeacher
from components.backbones.backbone import Backbone
from components.images.distances import Distance

Network = TypeVar("Network", bound=nn.Module)

IMAGE_TERMS = frozenset({"reconstruction", "logits"})
"""The losses of the student's image alone, which `Distillation.image_losses` computes for every method."""


class Batch(NamedTuple):
    """Aligned training crops.

    Attributes:
        degraded: `B 3 h w` in [0, 1].
        clean: `B 3 h*scale w*scale` in [0, 1].
        seeds: `B`, int64, one per sample: whatever a method draws for a sample comes from a generator seeded with its
            seed, so that a run can resume, or be split over processes, without changing a number.
        step: number of the training step, from 1; seeds whatever is drawn once for the whole batch.
        part: index of this part among the method's parts of the step, from 0.
    """

    degraded: Tensor
    clean: Tensor
    seeds: Tensor
    step: int
    part: int = 0


class Frozen(Generic[Network]):
    """Keeps a network out of its owner's module tree, so that it is never trained, checkpointed or synchronised.

    The network is put into evaluation mode, so that dropout and stochastic depth are off.
    """

    def __init__(self, network: Network) -> None:
        self.network: Network = network.eval().requires_grad_(False)


def not_given(**_: Any) -> NoReturn:
    """The default of the networks in a `Setting` that were not given: raises as soon as a method asks for one."""
    raise AssertionError("the method needs a network that was not given in its setting")


@dataclass(frozen=True)
class Setting:
    """Everything a method is built from. Whoever makes a setting provides what its method needs, and may omit the rest.

    Attributes:
        student: the network that will be trained, already on its device.
        terms: names of the wanted losses; the method returns exactly these and computes no others.
        seed: seed of the run.
        teacher: the frozen teacher, on the same device; None if the network is trained without one.
        build: builds another network of the student's architecture with new weights, on the same device; keywords
            replace arguments of the backbone (`build(channels=64)`), an unknown one is an `InputError`.
        load_encoder: loads the frozen encoder onto that device; called only by methods that need it.
        load_ensemble: likewise the frozen ensemble of teachers.
        load_privileged: likewise the frozen teacher that sees the clean image.
        to_clean: distance between the student's image and the clean one; it defines the losses named `reconstruction`.
        to_teacher: distance between the student's image and the teacher's; it defines the losses named `logits`.
    """

    student: Backbone
    terms: frozenset[str]
    seed: int
    teacher: Frozen[Backbone] | None = None
    build: Callable[..., Backbone] = not_given
    load_encoder: Callable[[], Frozen[FeatureSpace]] = not_given
    load_ensemble: Callable[[], Frozen[AggregatedEnsemble]] = not_given
    load_privileged: Callable[[], Frozen[PrivilegedTeacher]] = not_given
    to_clean: Distance = F.l1_loss
    to_teacher: Distance = F.l1_loss


class Method(nn.Module, ABC, Generic[Network]):
    """Losses of a network on a batch: `{name: loss}`, one unweighted scalar per name.

    Parameters that a method registers (learnable projections) are trained with the network; parameters without
    gradient (a history network) and buffers are checkpointed with it. Networks held in `Frozen` are neither trained nor
    checkpointed.

    Attributes:
        terms: every loss the method can return.
        parts: number of backward passes in a step, each followed by an optimiser step; the gradient accumulates over
            them and is cleared after the last. A part returns the losses that belong to it (`Batch.part`), at least
            one, and uses every trained parameter. All methods except DUKD as released have one part.
        smallest_batch: samples of a step, over all processes, that its losses need.
    """

    terms: ClassVar[frozenset[str]]
    parts: int = 1
    smallest_batch: int = 1

    @abstractmethod
    def forward(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, by name."""

    def follow(self, step: int, network: Network, average: Network) -> None:
        """Update state that follows the training, after optimiser step number `step` (from 1).

        Args:
            step: number of the step just taken.
            network: the network after it.
            average: the exponential moving average of the network after it.
        """


class Distillation(Method[Backbone]):
    """A distillation method: the losses of a student in its setting (`Setting`).

    The weights live in params.yaml; their keys choose the terms, and `forward` returns exactly these, over all parts
    of a step together. The constructor may replace the student's initial weights if the paper does.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    @property
    def teacher(self) -> Backbone:
        """The frozen teacher: its parameters get no gradient, but a gradient may flow through it to its input."""
        return (self.setting.teacher or not_given()).network

    def teach(self, image: Tensor) -> Tensor:
        """The teacher's restored image, without gradient."""
        with torch.no_grad():
            restored: Tensor = self.teacher(image)
        return restored

    def image_losses(
        self, batch: Batch, restore: Callable[[], Tensor], label: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Those of `reconstruction` and `logits` that are wanted; nothing is computed for the others.

        `reconstruction = to_clean(S(x), y)`, `logits = to_teacher(S(x), T(x))`; both distances are
        `mean|a - b|` unless the student's recipe names another.

        Args:
            batch: the crops.
            restore: returns the student's image of them, S(x).
            label: the teacher's image T(x), if the method already has it; by default computed if `logits` needs it.
        """
        losses: dict[str, Tensor] = {}
        if self.setting.terms & IMAGE_TERMS:
            restored = restore()
            if "reconstruction" in self.setting.terms:
                losses["reconstruction"] = self.setting.to_clean(restored, batch.clean)
            if "logits" in self.setting.terms:
                label = self.teach(batch.degraded) if label is None else label
                losses["logits"] = self.setting.to_teacher(restored, label)
        return losses
