"""CSD: towards compact single image super-resolution via contrastive self-distillation (Wang et al., IJCAI 2021)."""

import copy
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from components.backbones.backbone import Backbone
from components.methods.method import Batch, Distillation, Setting
from components.methods.parts.collectives import all_gather_rows
from components.methods.parts.contrast import TAP_WEIGHTS, Contrast, EncoderRange
from components.methods.parts.draws import mixed
from components.run.errors import InputError
from components.run.params import Positive


class Csd(Distillation):
    """The student is a slice, the first channels of every layer, of a wide network trained with it as its teacher.

    With student S, wide network T (the same weights and more), clean image y, degraded x, features f_l:

    * `reconstruction = mean|S(x) - y|`, `wide_reconstruction = mean|T(x) - y|`
    * `contrastive = sum_l w_l mean|f_l(T(x)) - f_l(S(x))| / mean sum_j |f_l(n_j) - f_l(S(x))|`, without gradient
      through T(x) or the negatives n_j, which are other samples of the batch, upsampled bicubically

    The release weighs the contrast by 200 for images in 0..255, which corresponds to 200/255 here. It takes the first
    samples of the batch as the negatives of every sample, so that a sample can be its own negative; here each sample
    gets other samples, in an order that depends on its seed.

    `reconstruction` alone with `start: teacher` is the control arm: a slice of the teacher trained by L1 alone achieves
    nearly all of CSD's gain.

    Args:
        setting: networks, terms and seed.
        wide: the arguments in which the wide network differs from the student (`{channels: 256}`); must be null
            if `start` is `teacher`.
        start: `random`: both start untrained, as published. `teacher`: the wide network is the task's teacher, and
            the student its slice.
        negatives: how many each sample gets; 10 as released. In a smaller batch, all other samples are used.
        tap_weights: weight of each feature level, shallow to deep.
        encoder_range: the images that are fed to the encoder; the release feeds 0..255 to VGG19.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction", "wide_reconstruction", "contrastive"})

    def __init__(
        self,
        setting: Setting,
        wide: dict[str, Any] | None = None,
        start: Literal["random", "teacher"] = "random",
        negatives: Positive = 10,
        tap_weights: tuple[float, ...] = TAP_WEIGHTS,
        encoder_range: EncoderRange = "zero_255",
    ) -> None:
        super().__init__(setting)
        self.negatives = negatives
        network = self._wide_network(wide, start)
        _check_slice(setting.student, network)
        if start == "teacher":
            with torch.no_grad():
                for name, narrow in setting.student.named_parameters():
                    narrow.copy_(network.get_parameter(name)[_corner(narrow)])
        self.contrast = None
        if "contrastive" in setting.terms:
            self.contrast = Contrast(setting.load_encoder, tap_weights, encoder_range)
            self.smallest_batch = 2
        # Its own first channels are never used: the student's parameters take their place.
        self.wide = network if setting.terms - {"reconstruction"} else None
        for name, narrow in setting.student.named_parameters():  # what is frozen in the student is frozen here too
            trained = narrow.requires_grad and "wide_reconstruction" in setting.terms
            network.get_parameter(name).requires_grad_(trained)

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        wanted = self.setting.terms
        restored = network(batch.degraded)
        losses = self.image_losses(batch, lambda: restored)
        if self.wide is not None:
            with torch.set_grad_enabled("wide_reconstruction" in wanted):
                taught = through_wide(self.wide, network, batch.degraded)
            if "wide_reconstruction" in wanted:
                losses["wide_reconstruction"] = self.setting.to_clean(taught, batch.clean)
            if self.contrast is not None:
                anchor = self.contrast.taps(restored)
                with torch.no_grad():
                    positive = self.contrast.taps(taught)
                losses["contrastive"] = self.contrast(anchor, positive, self._negatives(self.contrast, network, batch))
        return losses

    def _negatives(self, contrast: Contrast, network: Backbone, batch: Batch) -> list[list[Tensor]]:
        """Taps of each negative: other samples of the whole batch, enlarged to the size of the restored image."""
        with torch.no_grad():
            others = F.interpolate(all_gather_rows(batch.degraded), scale_factor=network.scale, mode="bicubic")
            taps = contrast.taps(others)
        chosen = other_samples(batch.seeds, all_gather_rows(batch.seeds), self.negatives)
        return [[tap[column] for tap in taps] for column in chosen.T]

    def _wide_network(self, wide: dict[str, Any] | None, start: Literal["random", "teacher"]) -> Backbone:
        if start == "teacher":
            if wide is not None:
                raise InputError("wide: the teacher is the wide network if start is teacher: take it out.")
            return copy.deepcopy(self.teacher).train()
        if wide is None:
            raise InputError("wide: missing; write in which arguments the wide network differs, like {channels: 256}.")
        return self.setting.build(**wide)


def through_wide(wide: Backbone, student: Backbone, image: Tensor) -> Tensor:
    """The wide network's image, with the student's weights in place of its own first channels."""
    weights: dict[str, Tensor] = {}
    shared = dict(student.named_parameters())
    for name, parameter in wide.named_parameters():
        whole = parameter.clone()
        whole[_corner(shared[name])] = shared[name]
        weights[name] = whole
    restored: Tensor = torch.func.functional_call(wide, weights, (image,))
    return restored


def other_samples(seeds: Tensor, everyone: Tensor, count: int) -> Tensor:
    """For each sample, the indices in `everyone` of `count` other samples, or of all others if there are fewer.

    The choice depends on the seeds alone, not on the order of the batch or the processes that it is split over.

    Args:
        seeds: `B`, the seeds of this process's samples.
        everyone: the seeds of the whole batch, which include `seeds`.
        count: how many other samples to choose.

    Raises:
        InputError: the batch has only one sample.
    """
    others = everyone.tolist()
    if len(others) < 2:
        raise InputError("training.batch: 1 has no other sample for the contrast: write at least 2.")
    chosen = []
    for seed in seeds.tolist():
        places = (place for place, other in enumerate(others) if other != seed)
        chosen.append(sorted(places, key=lambda place, seed=seed: mixed(seed, others[place]))[:count])  # type: ignore[misc]
    return torch.tensor(chosen, device=everyone.device)


def _check_slice(student: Backbone, wide: Backbone) -> None:
    """Raise an `InputError` if the student is not a slice of the wide network."""
    ours = {name: tuple(value.shape) for name, value in student.named_parameters()}
    theirs = {name: tuple(value.shape) for name, value in wide.named_parameters()}
    if ours.keys() != theirs.keys():
        name = min(ours.keys() ^ theirs.keys())
        raise InputError(
            "wide: the student must be a slice of the wide network, of the same architecture and depth; "
            f"only one of them has {name}."
        )
    for name, shape in ours.items():
        if len(shape) != len(theirs[name]) or any(a > b for a, b in zip(shape, theirs[name], strict=True)):
            raise InputError(f"wide: {name} is {shape} in the student, larger than {theirs[name]} in the wide network.")


def _corner(narrow: Tensor) -> tuple[slice, ...]:
    """The part of the wide network's parameter that the student's parameter occupies."""
    return tuple(slice(side) for side in narrow.shape)
