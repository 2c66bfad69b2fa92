"""How long, how fast and on how much data a network is trained: the published recipes are values of these types."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from components.images.distances import DistanceName
from components.images.progressive_learning import ProgressiveLearning, Sizes
from components.run.params import Params, without_nulls

Positive = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Schedule(Params):
    """Base of the schedules: a null key counts as not given, so that a preset can replace one schedule by another.

    Attributes:
        warmup_steps: first steps, in which the learning rate rises evenly to its start; the schedule follows them.
    """

    spans_training: ClassVar[bool] = False
    """Whether the learning rate of a step depends on how many steps there are."""

    warmup_steps: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        return without_nulls(values)


class Constant(Schedule):
    """The learning rate stays the same (DCKD as released)."""

    name: Literal["constant"]


class MultiStep(Schedule):
    """The learning rate is multiplied by `factor` at each milestone (most recipes of the field)."""

    name: Literal["multi_step"]
    milestones: tuple[Positive, ...]
    factor: float = Field(gt=0, lt=1)


class Cosine(Schedule):
    """Flat for `flat` steps, then half a cosine down to `minimum` (NAFNet: flat 0; Restormer: flat 92000)."""

    spans_training: ClassVar[bool] = True

    name: Literal["cosine"]
    minimum: float = Field(ge=0)
    flat: int = Field(default=0, ge=0)


class CosineRestarts(Schedule):
    """Half cosines in sequence, each from its weight times the learning rate down to its own minimum.

    Restormer's `CosineAnnealingRestartCyclicLR`: periods 92000 and 208000, minima 3e-4 and 1e-6, which is `cosine` with
    a flat start. The step that ends a period has its minimum; the next step restarts.
    """

    name: Literal["cosine_restarts"]
    periods: Annotated[tuple[Positive, ...], Field(min_length=1)]
    minima: tuple[Annotated[float, Field(ge=0)], ...]
    weights: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if not len(self.periods) == len(self.minima) == len(self.weights):
            raise ValueError("give as many minima and weights as periods")
        return self


class Adam(Params):
    """Adam or AdamW with its moments and weight decay."""

    name: Literal["adam", "adamw"]
    betas: tuple[Decay, Decay]
    weight_decay: float = Field(default=0.0, ge=0)


class ProgressiveStage(Params):
    """Another batch and patch, from the step following `after`."""

    after: Positive
    batch: Positive
    patch: Positive


class Mixup(Params):
    """Samples are mixed in pairs by `l ~ Beta(beta, beta)`, in a step with `probability` (Restormer: 1.2 and 0.5)."""

    beta: float = Field(gt=0)
    probability: float = Field(gt=0, le=1)


class Recipe(Params):
    """How a network is trained, whatever the seed.

    Attributes:
        steps: optimiser steps.
        batch: samples per step, over all processes together.
        patch: side of the degraded crop in pixels.
        progressive_learning: how batch and patch change (Restormer: patches grow from 128 to 384, batches shrink
            from 64 to 8).
        reconstruction: the distance to the clean image in every loss of this name.
        mixup: of training samples; none unless given.
        learning_rate: at the start; Adam moves every weight by about as much in a step, so above 1 nothing is learnt.
        optimiser: its kind and constants.
        schedule: how the learning rate falls.
        grad_clip_norm: the norm to which the gradient of all trained parameters is clipped (Restormer: 0.01).
        ema_decay: decay of the exponential moving average of the weights; that average is kept and measured.
        precision: `float32`, or `bf16` for automatic mixed precision.
        log_every: steps between rows of the history.
        validate_every: steps between measurements on the validation images.
    """

    steps: Positive
    batch: Positive
    patch: Positive
    progressive_learning: tuple[ProgressiveStage, ...] = ()
    reconstruction: DistanceName = "l1"
    mixup: Mixup | None = None
    learning_rate: float = Field(gt=0, le=1)
    optimiser: Adam
    schedule: Annotated[Constant | MultiStep | Cosine | CosineRestarts, Field(discriminator="name")]
    grad_clip_norm: float | None = Field(default=None, gt=0)
    ema_decay: Decay
    precision: Literal["float32", "bf16"] = "float32"
    log_every: Positive
    validate_every: Positive

    @property
    def sizes(self) -> ProgressiveLearning:
        """Batch and patch of every step."""
        return ProgressiveLearning(
            [Sizes(0, self.batch, self.patch), *(Sizes(**dict(stage)) for stage in self.progressive_learning)]
        )

    def batch_at(self, step: int) -> int:
        """Samples of a step (from 1)."""
        return len(self.sizes.samples(step))

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        schedule, left = self.schedule, self.steps - self.schedule.warmup_steps
        if left <= 0:
            raise ValueError(f"schedule.warmup_steps ({schedule.warmup_steps}) must be less than steps ({self.steps})")
        if isinstance(schedule, Cosine) and schedule.flat >= left:
            raise ValueError(f"schedule.flat ({schedule.flat}) must be less than steps ({left})")
        if isinstance(schedule, Cosine) and schedule.minimum > self.learning_rate:
            raise ValueError(f"schedule.minimum ({schedule.minimum}) is above learning_rate ({self.learning_rate})")
        if isinstance(schedule, CosineRestarts) and max(schedule.minima) > self.learning_rate:
            raise ValueError(f"schedule.minima ({schedule.minima}) are above learning_rate ({self.learning_rate})")
        if isinstance(schedule, CosineRestarts) and sum(schedule.periods) < left:
            raise ValueError(f"schedule.periods ({sum(schedule.periods)} together) end before the steps ({left})")
        if isinstance(schedule, MultiStep) and min(schedule.milestones, default=left) <= schedule.warmup_steps:
            raise ValueError(
                f"schedule.milestones ({schedule.milestones}) lie within warmup_steps ({schedule.warmup_steps})"
            )
        return self

    @model_validator(mode="after")
    def _progression_fits(self) -> Self:
        steps = [0, *(stage.after for stage in self.progressive_learning), self.steps]
        if any(after <= before for before, after in pairwise(steps)):
            raise ValueError(
                f"progressive_learning: after must grow, and end before steps ({self.steps}); found {steps[1:-1]}"
            )
        return self

    def seeded(self, seed: int) -> "Training":
        """One run of this recipe."""
        return Training.model_validate({**self.model_dump(), "seed": seed})


class Training(Recipe):
    """One training run: a recipe, and the seed of initial weights, crops and everything that a method draws."""

    seed: int = Field(ge=0)
