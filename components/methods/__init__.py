"""Distillation methods, one per file. To add one: write its file, a line here, and its entry in params.yaml."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from components.methods.crosskd import CrossKd
from components.methods.csd import Csd
from components.methods.dckd import Dckd
from components.methods.dckd_star import DckdStar
from components.methods.dukd import Dukd
from components.methods.fakd import Fakd
from components.methods.logits import Logits
from components.methods.method import Distillation, Setting
from components.methods.mipkd import MipKd
from components.methods.mtkd import Mtkd
from components.methods.pisr import Pisr
from components.methods.scratch import Scratch
from components.methods.skd import Skd
from components.methods.srkd import Srkd
from components.run.errors import InputError, unknown_name
from components.run.params import PARAMS_FILE, Choice, Weight, build, fits, without_nulls

METHODS: dict[str, type[Distillation]] = {
    "scratch": Scratch,
    "logits": Logits,
    "fakd": Fakd,
    "srkd": Srkd,
    "crosskd": CrossKd,
    "mipkd": MipKd,
    "skd": Skd,
    "csd": Csd,
    "dckd": Dckd,
    "dckd_star": DckdStar,
    "dukd": Dukd,
    "pisr": Pisr,
    "mtkd": Mtkd,
}


class MethodChoice(Choice):
    """A method of the table with the weight of each of its losses and its other arguments, all validated.

    A loss that has no weight, or whose weight is null, is not computed.
    """

    weights: Annotated[dict[str, Weight], BeforeValidator(without_nulls)] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits(METHODS, self, skip=1)
        for term in self.weights:
            if term not in METHODS[self.name].terms:
                raise unknown_name("weights", term, METHODS[self.name].terms)
        return self


def build_method(choice: MethodChoice, setting: Setting) -> Distillation:
    """Build the method that the params name, in its setting.

    Raises:
        InputError: the method can't be built in this setting; the message begins with the key in params.yaml.
    """
    try:
        return build("method", METHODS, choice, setting)
    except InputError as error:
        raise InputError(f"{PARAMS_FILE}: methods.{choice.name}.{error}") from None
