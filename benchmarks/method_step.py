"""Measures training steps of one method: `python -m benchmarks.method_step NAME`, with settings as JSON on stdin."""

import json
import sys
from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, cast
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.method_costs import PLAIN, Settings
from benchmarks.untrained import Entries
from components.methods.method import Batch
from components.methods.parts import affinity
from components.methods.parts.pairwise import Relation
from components.telemetry.memory import own_peak
from components.training.distribution import start
from components.training.loop import Trainee
from components.training.optimisation import make_optimiser

if TYPE_CHECKING:
    from components.backbones.backbone import Backbone


def whole_l1(student: Tensor, teacher: Tensor, relation: Relation) -> Tensor:
    """What `pairwise_l1` computes, with both relations held whole."""
    return F.l1_loss(relation(student, student), relation(teacher, teacher))


def measure(name: str, settings: Settings) -> dict[str, float]:
    """Seconds of the fastest step, and the peak in MB: of a GPU's memory if there is one, or of this process."""
    entries = Entries(settings["values"], settings["task"])
    recipe, choice = entries.recipe, entries.choice("fakd" if name == PLAIN else name)
    accelerator = start(recipe)
    device = accelerator.device
    network, method = entries.networks(choice, device)
    trainee = Trainee(network, method)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
    averaged = cast("Backbone", average.module)
    wrapped, optimiser = accelerator.prepare(trainee, make_optimiser(trainee.parameters(), recipe))
    wrapped.train()
    degraded = torch.rand(recipe.batch, 3, recipe.patch, recipe.patch, device=device)
    clean = F.interpolate(degraded, scale_factor=entries.scale)

    times = []
    for step in range(1, settings["repeats"] + 2):
        began = perf_counter()
        for part in range(method.parts):
            losses = wrapped(Batch(degraded, clean, torch.arange(recipe.batch) + step, step, part))
            accelerator.backward(torch.stack([choice.weights[term] * loss for term, loss in losses.items()]).sum())
            optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update_parameters(network)
        method.follow(step, network, averaged)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else own_peak()
    return {"seconds": min(times[1:]), "memory": peak / 2**20}


if __name__ == "__main__":
    with mock.patch.object(affinity, "pairwise_l1", whole_l1) if sys.argv[1] == PLAIN else nullcontext():
        print(json.dumps(measure(sys.argv[1], json.load(sys.stdin))))
