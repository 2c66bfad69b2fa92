"""One training from its recipe to its outcome on disk: what the steps that train have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import nn

from components.dependencies.code import modules_of, table_modules
from components.images.patches import TrainingPatches
from components.images.store import Store
from components.methods.method import Distillation, Frozen, Method, Network
from components.run.errors import InputError
from components.tasks.task import Task
from components.training.checkpoint import STEPS, checkpoint_path, identity_of, tell_of_others
from components.training.distribution import start
from components.training.loop import Row, Trained, forget, train
from components.training.recipe import Training
from components.training.watch import UNWATCHED, Reporter, Watch


@dataclass(frozen=True)
class Session:
    """A training to be run.

    Attributes:
        title: shown with the progress.
        output: what it writes, which names its checkpoint.
        checkpoints: folder of the checkpoints.
        step: module of the step, `components.NAME`, whose code is part of the checkpoint's key.
        task: what degrades and measures.
        recipe: steps, batch, optimiser, schedule, seed.
        lmdb: the image store.
        values: the params that the result depends on.
        files: the input files that it depends on, except the store's.
        spans_training: whether the method does something else at a step if there are more of them.
        report: receives what a watcher of the training wants to see.
    """

    title: str
    output: Path
    checkpoints: Path
    step: str
    task: Task
    recipe: Training
    lmdb: Path
    values: dict[str, BaseModel]
    files: list[Path] = field(default_factory=list)
    spans_training: bool = False
    report: Reporter | None = None

    def run(
        self,
        make_network: Callable[[], Network],
        make_method: Callable[[Network, torch.device], Method[Network]],
        weights: Mapping[str, float],
        validate: Callable[[Store], Callable[[Network], Row]],
        write: Callable[[Trained[Network]], None],
        sample: Callable[[Store], Callable[[Network], bytes]] | None = None,
    ) -> None:
        """Build the network and the method from the seed, train, and write the outcome in the main process.

        Args:
            make_network: the network with its initial weights.
            make_method: the method for that network, on a device.
            weights: weight of each of its losses.
            validate: makes, from the store, the function that measures the network.
            write: stores the outcome; the checkpoint is removed afterwards.
            sample: makes, from the store, the function that restores a picture for the report.

        Raises:
            InputError: the recipe does not fit the data or the processes.
        """
        store = Store(self.lmdb)
        if not store.records("validation"):
            raise InputError(f"{self.lmdb}: no validation image; name a dataset in the collection's validation split.")
        accelerator = start(self.recipe)
        torch.manual_seed(self.recipe.seed)
        network = make_network().to(accelerator.device)
        files = [self.lmdb / "data.mdb", self.lmdb / "index.json", *self.files]
        watch = UNWATCHED
        if self.report and accelerator.is_main_process:
            watch = Watch(self.report, self.recipe.batch, self.recipe.steps, sample(store) if sample else None)
        method = make_method(network, accelerator.device)
        identity = identity_of(self.values, files, modules_of([self.step], _entries_of(self.task, network, method)))
        if not (self.spans_training or self.recipe.schedule.spans_training):  # then more steps go on from fewer
            identity = {key: value for key, value in identity.items() if not key.endswith(STEPS)}
        name = "-".join([self.title.partition(" ")[0], *self.output.parts[-3:]])
        checkpoint = checkpoint_path(self.checkpoints, name, identity)
        if accelerator.is_main_process:
            tell_of_others(checkpoint, name, identity)
        trained = train(
            title=self.title,
            accelerator=accelerator,
            network=network,
            method=method,
            weights=weights,
            patches=TrainingPatches(
                store, self.task, self.recipe.sizes, self.recipe.seed, augment=True, gray=self.task.gray
            ),
            recipe=self.recipe,
            validate=validate(store),
            checkpoint=checkpoint,
            identity=identity,
            watch=watch,
        )
        if accelerator.is_main_process:
            write(trained)
            forget(checkpoint)
        accelerator.end_training()


def _entries_of(task: Task, network: nn.Module, method: Method[Network]) -> set[str]:
    """Modules of those table entries that a training runs: its task, its method and all of its networks."""
    held = [value for part in method.modules() for value in vars(part).values() if isinstance(value, Frozen)]
    if isinstance(method, Distillation) and method.setting.teacher:
        held.append(method.setting.teacher)
    parts = [task, *network.modules(), *method.modules(), *(one for frozen in held for one in frozen.network.modules())]
    return {type(part).__module__ for part in parts} & table_modules()
