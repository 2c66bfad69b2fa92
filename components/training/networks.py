"""The typed sections that say which networks a task has."""

from typing import Self

from pydantic import Field, model_validator

from components.backbones import BackboneChoice
from components.images.distances import DistanceName
from components.run.params import Params
from components.training.recipe import Recipe, Training


class Student(Params):
    """The small network and its training, the same for every method.

    Attributes:
        backbone: its architecture.
        training: its recipe; the seeds are the run's (`run.seeds`).
        logits: the distance to the teacher's image in every loss of this name.
    """

    backbone: BackboneChoice
    training: Recipe
    logits: DistanceName = "l1"


class Expected(Params):
    """The gate of a teacher: its expected mean PSNR on a test set, and how far below still passes, both in dB."""

    dataset: str
    psnr: float
    tolerance: float = Field(ge=0)


class Teacher(Params):
    """The large network: trained here, or a published checkpoint.

    Attributes:
        backbone: its architecture.
        checkpoint: file of published weights, relative to the folder of fetched sources (`<source>/<file>`).
        training: how it is trained if no checkpoint is given.
        expected: the score that it must reach, or the run stops; only a further member of an ensemble, which is
            measured as part of it, may lack one.
    """

    backbone: BackboneChoice
    checkpoint: str | None = None
    training: Training | None = None
    expected: Expected | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.checkpoint is None) == (self.training is None):
            raise ValueError("give either checkpoint (published weights) or training (a recipe)")
        return self
