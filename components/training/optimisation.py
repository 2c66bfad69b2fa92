"""Optimiser and learning-rate schedule of a recipe, both from torch."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import Adam as TorchAdam
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
)

from components.training.recipe import Constant, CosineRestarts, MultiStep, Training


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: Training) -> Optimizer:
    """The recipe's optimiser for the parameters that are trained."""
    kind: type[TorchAdam] = TorchAdam if recipe.optimiser.name == "adam" else AdamW
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return kind(
        trained, lr=recipe.learning_rate, betas=recipe.optimiser.betas, weight_decay=recipe.optimiser.weight_decay
    )


def make_schedule(optimiser: Optimizer, recipe: Training) -> LRScheduler:
    """The recipe's schedule; to be stepped once after every optimiser step."""
    warmup = recipe.schedule.warmup_steps
    schedules, milestones = _schedules(optimiser, recipe)
    if warmup:
        # Step s of the warm-up has s / warmup of the rate.
        rising = LinearLR(optimiser, start_factor=1 / warmup, total_iters=warmup - 1)
        schedules, milestones = [rising, *schedules], [warmup, *(warmup + milestone for milestone in milestones)]
    return SequentialLR(optimiser, schedules, milestones) if milestones else schedules[0]


def _schedules(optimiser: Optimizer, recipe: Training) -> tuple[list[LRScheduler], list[int]]:
    """The schedules after the warm-up, and the steps at which one gives way to the next, counted from its end."""
    schedule, steps = recipe.schedule, recipe.steps - recipe.schedule.warmup_steps
    if isinstance(schedule, Constant):
        return [ConstantLR(optimiser, factor=1.0, total_iters=0)], []
    if isinstance(schedule, MultiStep):
        milestones = [milestone - schedule.warmup_steps for milestone in schedule.milestones]
        return [MultiStepLR(optimiser, milestones, gamma=schedule.factor)], []
    if isinstance(schedule, CosineRestarts):
        return [LambdaLR(optimiser, lambda done: _restarting(done, schedule, recipe.learning_rate))], []
    cosine = CosineAnnealingLR(optimiser, T_max=steps - schedule.flat, eta_min=schedule.minimum)
    if schedule.flat == 0:
        return [cosine], []
    return [ConstantLR(optimiser, factor=1.0, total_iters=0), cosine], [schedule.flat]


def _restarting(done: int, schedule: CosineRestarts, rate: float) -> float:
    """The learning rate after `done` steps, as a fraction of `rate`."""
    begin = 0
    for period, minimum, weight in zip(schedule.periods, schedule.minima, schedule.weights, strict=True):
        if done <= begin + period:
            fall = (1 + math.cos(math.pi * (done - begin) / period)) / 2
            return (minimum + weight * (rate - minimum) * fall) / rate
        begin += period
    # torch asks once more after the last step.
    return schedule.minima[-1] / rate
