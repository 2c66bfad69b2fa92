"""Device, precision and processes: Accelerate decides on them, and all other modules ask here."""

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from components.run.errors import InputError
from components.training.recipe import Training


def start(recipe: Training) -> Accelerator:
    """Join the other processes (`torchrun`), if any, and choose the device: a GPU if there is one, otherwise the CPU.

    On the CPU only deterministic algorithms are used, so that one seed always gives the same bytes.

    Raises:
        InputError: the batch cannot be split evenly over the processes.
    """
    accelerator = Accelerator(
        # Without this, on the CPU, Accelerate would take each of several processes for the only one.
        cpu=not torch.accelerator.is_available(),
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        # Every parameter is used in every step, and buffers that follow the training see the whole batch.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=False)],
    )
    for batch in recipe.sizes.batches:
        if batch % accelerator.num_processes:
            raise InputError(
                f"training.batch: {batch} can't be split over {accelerator.num_processes} processes: "
                "write a multiple of their number, or start fewer."
            )
    if accelerator.device.type == "cpu":
        torch.use_deterministic_algorithms(mode=True)
        # Nothing here reads uninitialised memory; filling it took a sixth of DCKD's time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # Moments of weights after a dead ReLU decay into denormal numbers, on which a CPU is many times slower. Set
        # before the first parallel operation, because torch's threads inherit the setting when they are created.
        torch.set_flush_denormal(True)
    return accelerator


def loader_workers(accelerator: Accelerator) -> int:
    """Processes that read crops: none on the CPU, where they would take cores from the training itself."""
    if accelerator.device.type == "cpu":
        return 0
    processes: int = accelerator.num_processes
    return max(1, min(8, len(os.sched_getaffinity(0)) // processes - 1))
