"""Optimiser and learning-rate schedule of a recipe, both torch's own."""

from collections.abc import Iterable

from torch import nn
from torch.optim import Adam as TorchAdam
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, MultiStepLR, SequentialLR

from components.training.recipe import Constant, MultiStep, Training


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: Training) -> Optimizer:
    """The recipe's optimiser over the parameters that are trained."""
    kind: type[TorchAdam] = TorchAdam if recipe.optimiser.name == "adam" else AdamW
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return kind(
        trained, lr=recipe.learning_rate, betas=recipe.optimiser.betas, weight_decay=recipe.optimiser.weight_decay
    )


def make_schedule(optimiser: Optimizer, recipe: Training) -> LRScheduler:
    """The recipe's schedule; to be stepped once after every optimiser step."""
    schedule = recipe.schedule
    if isinstance(schedule, Constant):
        return ConstantLR(optimiser, factor=1.0, total_iters=0)
    if isinstance(schedule, MultiStep):
        return MultiStepLR(optimiser, list(schedule.milestones), gamma=schedule.factor)
    cosine = CosineAnnealingLR(optimiser, T_max=recipe.steps - schedule.flat, eta_min=schedule.minimum)
    if schedule.flat == 0:
        return cosine
    flat = ConstantLR(optimiser, factor=1.0, total_iters=0)
    return SequentialLR(optimiser, [flat, cosine], milestones=[schedule.flat])
