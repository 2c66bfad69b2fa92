"""How long, how fast and on how much a network is trained: the published recipes are values of these types."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.run.params import Params, without_nulls

Positive = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Schedule(Params):
    """Base of the schedules: keys of null are not given, so that a preset can replace one by another."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        return without_nulls(values)


class Constant(Schedule):
    """The learning rate stays (DCKD as released)."""

    name: Literal["constant"]


class MultiStep(Schedule):
    """The learning rate is multiplied by `factor` at each milestone (most recipes of the field)."""

    name: Literal["multi_step"]
    milestones: tuple[Positive, ...]
    factor: float = Field(gt=0, lt=1)


class Cosine(Schedule):
    """Flat for `flat` steps, then half a cosine down to `minimum` (NAFNet: flat 0; Restormer: flat 92000)."""

    name: Literal["cosine"]
    minimum: float = Field(ge=0)
    flat: int = Field(default=0, ge=0)


class Adam(Params):
    """Adam or AdamW with its moments and weight decay."""

    name: Literal["adam", "adamw"]
    betas: tuple[Decay, Decay]
    weight_decay: float = Field(default=0.0, ge=0)


class Training(Params):
    """One training run.

    Attributes:
        steps: optimiser steps.
        batch: samples a step, over all processes together.
        patch: side of the degraded crop in pixels.
        learning_rate: at the start.
        optimiser: its kind and constants.
        schedule: how the learning rate falls.
        average_decay: of the exponential moving average of the weights, which is what is kept and measured.
        precision: `float32`, or `bf16` for automatic mixed precision.
        log_every: steps between rows of the history.
        validate_every: steps between measurements on the validation images.
        seed: of the initial weights, the crops and everything that a method draws.
    """

    steps: Positive
    batch: Positive
    patch: Positive
    learning_rate: float = Field(gt=0)
    optimiser: Adam
    schedule: Annotated[Constant | MultiStep | Cosine, Field(discriminator="name")]
    average_decay: Decay
    precision: Literal["float32", "bf16"] = "float32"
    log_every: Positive
    validate_every: Positive
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Training":
        schedule = self.schedule
        if isinstance(schedule, Cosine) and schedule.flat >= self.steps:
            raise ValueError(f"schedule.flat ({schedule.flat}) must be less than steps ({self.steps})")
        if isinstance(schedule, Cosine) and schedule.minimum > self.learning_rate:
            raise ValueError(f"schedule.minimum ({schedule.minimum}) is above learning_rate ({self.learning_rate})")
        return self
