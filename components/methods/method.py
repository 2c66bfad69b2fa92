"""What every distillation method offers: named, unweighted losses of a student on a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, NoReturn, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.auxiliary.committee import Committee
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
        seeds: `B`, int64, one for each sample: whatever a method draws for a sample, it draws from a generator
            seeded by it, so that a run can resume, and be split over processes, without changing a number.
        step: number of the training step, from 1; seeds what is drawn once for the whole batch.
        part: which of the method's parts of that step this is, from 0.
    """

    degraded: Tensor
    clean: Tensor
    seeds: Tensor
    step: int
    part: int = 0


class Frozen(Generic[Network]):
    """Holds a network out of its owner's module tree: never trained, checkpointed, or synchronised.

    The network is put into evaluation mode, so that dropout and stochastic depth are off.
    """

    def __init__(self, network: Network) -> None:
        self.network: Network = network.eval().requires_grad_(False)


def not_given(**_: Any) -> NoReturn:
    """Stands in a `Setting` for each network that it was made without: an error where a method asks for one."""
    raise AssertionError("the method needs a network that its setting was made without")


@dataclass(frozen=True)
class Setting:
    """What a method may build upon. Whoever makes a setting gives what its method needs; the rest may be missing.

    Attributes:
        student: the network that will be trained, already on its device.
        terms: names of the losses wanted; the method returns exactly these and computes no others.
        seed: seed of the run.
        teacher: the frozen teacher, on the same device; None where a network is trained without one.
        build: builds another network of the student's architecture with new weights, on the same device; keywords
            replace arguments of the backbone (`build(channels=64)`), an unknown one is an `InputError`.
        load_encoder: loads the frozen encoder onto that device; only methods that need it call it.
        load_committee: likewise the frozen committee of teachers.
        load_privileged: likewise the frozen teacher that sees the clean image.
        to_clean: distance of the student's image to the clean one, which the losses named `reconstruction` are.
        to_teacher: distance of the student's image to the teacher's, which the losses named `logits` are.
    """

    student: Backbone
    terms: frozenset[str]
    seed: int
    teacher: Frozen[Backbone] | None = None
    build: Callable[..., Backbone] = not_given
    load_encoder: Callable[[], Frozen[FeatureSpace]] = not_given
    load_committee: Callable[[], Frozen[Committee]] = not_given
    load_privileged: Callable[[], Frozen[PrivilegedTeacher]] = not_given
    to_clean: Distance = F.l1_loss
    to_teacher: Distance = F.l1_loss


class Method(nn.Module, ABC, Generic[Network]):
    """Losses of a network: from the network and a batch to `{name: loss}`, one scalar a name, unweighted.

    Parameters that a method registers (learnable projections) are trained with the network; parameters without
    gradient (a history network) and buffers are checkpointed with it. Networks held in `Frozen` belong to neither.

    Attributes:
        terms: every loss the method can return.
        parts: backward passes of a step, each followed by a step of the optimiser; the gradient adds up over them
            and is cleared after the last. A part returns the losses that belong to it (`Batch.part`), at least one,
            and uses every trained parameter. All but DUKD as released have one.
    """

    terms: ClassVar[frozenset[str]]
    parts: int = 1

    @abstractmethod
    def forward(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, by name."""

    def follow(self, step: int, network: Network, average: Network) -> None:
        """Update state that follows the training, after the optimiser's step number `step` (from 1).

        Args:
            step: number of the step that was just taken.
            network: the network after it.
            average: the exponential moving average of the network after it.
        """


class Distillation(Method[Backbone]):
    """A distillation method: the losses of a student, in the setting of its teacher.

    The weights live in params.yaml; their keys choose the terms, and `forward` returns exactly these, over all parts
    of a step together. The constructor may give the student other initial weights, where the paper does.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    @property
    def teacher(self) -> Backbone:
        """The frozen teacher: its parameters have no gradient, but what passes through it may."""
        return (self.setting.teacher or not_given()).network

    def teach(self, image: Tensor) -> Tensor:
        """The teacher's restored image, without gradient."""
        with torch.no_grad():
            restored: Tensor = self.teacher(image)
        return restored

    def image_losses(
        self, batch: Batch, restore: Callable[[], Tensor], label: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Those of `reconstruction` and `logits` that are wanted; nothing is computed for one that is not.

        `reconstruction = to_clean(S(x), y)`, `logits = to_teacher(S(x), T(x))`, of which both distances are
        `mean|a - b|` unless the student's recipe names others.

        Args:
            batch: the crops.
            restore: gives the student's image of them, S(x).
            label: the teacher's, T(x), where the method has it already; else it is computed if `logits` needs it.
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
