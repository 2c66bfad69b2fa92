"""Several teachers that act as one: MTKD's label, a single image made from theirs."""

import math
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from components.auxiliary.aggregator import Aggregator
from components.backbones.backbone import Backbone, State
from components.run.errors import InputError


class TeacherEnsemble(nn.Module):
    """Teachers of one scale, by name; `B 3 h w` -> an image from each, in the order of the names.

    An aggregator recognises a teacher by its place among the images. MTKD's two released configurations list the same
    three teachers in different orders, so that the second stage takes one's image for another's; here the order in
    which they are given doesn't matter.

    Args:
        teachers: restoration networks by name.

    Raises:
        InputError: the teachers' scales differ.
    """

    def __init__(self, teachers: Mapping[str, Backbone]) -> None:
        super().__init__()
        self.teachers = nn.ModuleDict({name: teachers[name] for name in sorted(teachers)})
        scales = {name: teachers[name].scale for name in self.teachers}
        if len(set(scales.values())) != 1:
            raise InputError(f"the teachers of an ensemble must have one scale; found {scales}.")
        self.scale = next(iter(scales.values()))
        self.multiple = math.lcm(*(teacher.multiple for teacher in teachers.values()))

    def named_teachers(self) -> dict[str, Backbone]:
        """The teachers in the order of their names."""
        return {name: cast("Backbone", teacher) for name, teacher in self.teachers.items()}

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The teachers' restored images."""
        return tuple(teacher(image) for teacher in self.teachers.values())


class AggregatedEnsemble(Backbone):
    """A teacher ensemble and the aggregator of its images, as one network; its stages are the aggregator's layers.

    Args:
        teacher_ensemble: the teachers.
        aggregator: of the same scale, for as many teachers.
    """

    def __init__(self, teacher_ensemble: TeacherEnsemble, aggregator: Aggregator) -> None:
        super().__init__()
        self.teacher_ensemble, self.aggregator = teacher_ensemble, aggregator
        self.scale, self.multiple = teacher_ensemble.scale, teacher_ensemble.multiple
        self.depth = len(aggregator.layers)

    def enter(self, image: Tensor) -> State:
        """Input of the aggregator's layers; the context is its skip and the teachers' images."""
        images = self.teacher_ensemble(image)
        shallow = self.aggregator.enter(images)
        return State(self.aggregator.embed(shallow), (shallow, *images))

    def stage(self, index: int, state: State) -> State:
        """One residual Swin block."""
        return State(self.aggregator.layers[index](state.features), state.context)

    def leave(self, state: State) -> Tensor:
        """The aggregated image."""
        shallow, *images = state.context
        return self.aggregator.leave(state.features, shallow, images)
