"""The training loop: every network of the project is trained here, by any method."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, Generic, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from components.images.patches import StepSampler, TrainingPatches
from components.methods.method import Batch, Method, Network
from components.methods.parts.draws import mixed
from components.telemetry.progress import Progress
from components.training.checkpoint import Identity, load_checkpoint, save_checkpoint
from components.training.distribution import loader_workers
from components.training.meter import TOTAL, Meter, refuse_senseless_end
from components.training.mixup import mix
from components.training.optimisation import make_optimiser, make_schedule
from components.training.recipe import Training
from components.training.stopping import stopping
from components.training.watch import UNWATCHED, Watch

CHECKPOINT_SECONDS = 60.0

Row = dict[str, float]


class Trainee(nn.Module, Generic[Network]):
    """The network and its method as one module, so that one wrapper distributes, casts and synchronises both."""

    def __init__(self, network: Network, method: Method[Network]) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name."""
        losses: dict[str, Tensor] = self.method(self.network, batch)
        return losses


@dataclass
class Trained(Generic[Network]):
    """Result of a training.

    Attributes:
        network: the moving average of the trained network.
        history: rows of step, learning rate, total loss and every term (means since the previous row).
        validation: rows of step and the validation scores.
    """

    network: Network
    history: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)


def train(
    title: str,
    accelerator: Accelerator,
    network: Network,
    method: Method[Network],
    weights: Mapping[str, float],
    patches: TrainingPatches,
    recipe: Training,
    validate: Callable[[Network], Row],
    checkpoint: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    identity: Identity = MappingProxyType({}),
    watch: Watch[Network] = UNWATCHED,
) -> Trained[Network]:
    """Train `network` by `method` on `patches`.

    A run that was stopped or killed resumes from `checkpoint` and ends with the same bytes as an uninterrupted one:
    crops and all random numbers depend only on the seed, the step and the sample, and the method's own state is
    checkpointed.

    Args:
        title: shown with the progress.
        accelerator: device, precision and processes.
        network: the network, on the accelerator's device.
        method: its losses, on the same device.
        weights: weight of each loss; the total is their weighted sum.
        patches: the training crops.
        recipe: steps, batch, optimiser, schedule, seed.
        validate: measures the moving average on validation images.
        checkpoint: where to keep the state of the run; removed by `forget` once the result is stored.
        checkpoint_seconds: time between checkpoints.
        identity: what the result depends on, stored with the checkpoint.
        watch: is shown each row, in the main process; it has no influence on the training.

    Raises:
        DivergedError: a loss was not finite, or ended above that of any image.
    """
    trainee = Trainee(network, method)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
    averaged = cast("Network", average.module)
    optimiser = make_optimiser(trainee.parameters(), recipe)
    schedule = make_schedule(optimiser, recipe)
    trained = Trained(averaged)
    meter = Meter(accelerator)
    parts: dict[str, Any] = {
        "trainee": trainee,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
        "meter": meter,
    }
    if step := _resumed(checkpoint, recipe.steps, parts, trained):
        accelerator.print(f"{title}: going on from step {step} of {recipe.steps}")

    wrapped, optimiser = accelerator.prepare(trainee.train(), optimiser)
    averaged.eval()
    saved = monotonic()
    shown = Progress(title, recipe.steps, start=step) if accelerator.is_main_process else None

    with stopping(accelerator) as stop:
        for batch in _batches(patches, recipe, step, accelerator):
            step = batch.step
            # Dropout and the like use the global generator: seeded by the step, a resumed run draws the same numbers.
            torch.manual_seed(mixed(recipe.seed, step, accelerator.process_index))
            losses = _descend(accelerator, wrapped, optimiser, batch, weights, method.parts, recipe.grad_clip_norm)
            learning_rate = float(schedule.get_last_lr()[0])
            schedule.step()
            average.update_parameters(network)
            method.follow(step, network, averaged)

            meter.add(step, {TOTAL: _weighted(losses, weights).detach(), **losses})
            last = step == recipe.steps
            logs = step % recipe.log_every == 0 or last
            if logs:
                trained.history.append({"step": float(step), "learning_rate": learning_rate, **meter.means()})
                watch.row(trained.history[-1])
                if shown:
                    images = shown.rate(step) * recipe.batch_at(step)
                    shown.advance_to(step, loss=f"{trained.history[-1][TOTAL]:.4f}", images=f"{images:.0f}/s")
            if step % recipe.validate_every == 0 or last:
                trained.validation.append({"step": step, **validate(averaged)})
                watch.validated(trained.validation[-1], averaged)
            stops = stop.wanted(logs)
            due = logs and not last and monotonic() - saved >= checkpoint_seconds
            if accelerator.is_main_process and (stops or due):
                saved = monotonic()
                kept = {"history": trained.history, "validation": trained.validation, "step": step}
                states = {name: part.state_dict() for name, part in parts.items()}
                save_checkpoint(checkpoint, states | kept | {"identity": dict(identity)})
            if stops:
                accelerator.print(f"{title}: stopped after step {step} of {recipe.steps}")
                break
    if shown:
        shown.close()
    if trained.history:
        refuse_senseless_end(trained.history[-1])
    return trained


def _resumed(checkpoint: Path, steps: int, parts: Mapping[str, Any], trained: Trained[Network]) -> int:
    """Give every part of a training its state in the checkpoint, and return the step; 0 without a checkpoint."""
    state = load_checkpoint(checkpoint, steps)
    if not state:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    trained.history, trained.validation = state["history"], state["validation"]
    return int(state["step"])


def _descend(
    accelerator: Accelerator,
    wrapped: nn.Module,
    optimiser: Optimizer,
    batch: Batch,
    weights: Mapping[str, float],
    parts: int,
    grad_clip_norm: float | None,
) -> dict[str, Tensor]:
    """Take one optimiser step for each part of the batch, and return the losses of all parts."""
    losses: dict[str, Tensor] = {}
    for part in range(parts):
        found = wrapped(batch._replace(part=part))
        accelerator.backward(_weighted(found, weights))
        if grad_clip_norm:
            accelerator.clip_grad_norm_(wrapped.parameters(), grad_clip_norm)
        optimiser.step()
        losses |= found
    optimiser.zero_grad(set_to_none=True)
    return losses


def _weighted(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def forget(checkpoint: Path) -> None:
    """Remove the checkpoint of a run whose result is stored."""
    checkpoint.unlink(missing_ok=True)


def _batches(patches: TrainingPatches, recipe: Training, done: int, accelerator: Accelerator) -> Iterator[Batch]:
    """This process's share of every step's batch, from the step after `done`, on the device."""
    sampler = StepSampler(
        done + 1, recipe.steps, recipe.sizes, rank=accelerator.process_index, world_size=accelerator.num_processes
    )
    on_gpu = accelerator.device.type != "cpu"
    loader = DataLoader(patches, batch_sampler=sampler, num_workers=loader_workers(accelerator), pin_memory=on_gpu)
    for step, crops in enumerate(loader, start=done + 1):
        degraded, clean = (crops[name].to(accelerator.device, non_blocking=on_gpu) for name in ("degraded", "clean"))
        batch = Batch(degraded, clean, crops["seed"], step)
        yield mix(batch, recipe.mixup, recipe.seed, accelerator.process_index) if recipe.mixup else batch
