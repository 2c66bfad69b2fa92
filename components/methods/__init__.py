"""Distillation methods, one a file. To add one: its file, a line here, and its entry in params.yaml."""

from typing import Self

from pydantic import Field, model_validator

from components.methods.dckd import Dckd
from components.methods.logits import Logits
from components.methods.method import Distillation
from components.methods.scratch import Scratch
from components.run.errors import unknown_name
from components.run.params import Choice, fits

METHODS: dict[str, type[Distillation]] = {
    "scratch": Scratch,
    "logits": Logits,
    "dckd": Dckd,
}


class MethodChoice(Choice):
    """A method of the table, the weight of each of its losses, and its other arguments, checked.

    A loss without a weight is not computed.
    """

    weights: dict[str, float] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits(METHODS, self, skip=1)
        for term in self.weights:
            if term not in METHODS[self.name].terms:
                raise unknown_name("weights", term, METHODS[self.name].terms)
        return self
