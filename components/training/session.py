"""One training from its recipe to its outcome on disk: what the steps that train have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel

from components.images.patches import TrainingPatches
from components.images.store import Store
from components.methods.method import Method, Network
from components.run.errors import InputError
from components.tasks.task import Task
from components.training.checkpoint import checkpoint_path
from components.training.distribution import start
from components.training.loop import Row, Trained, forget, train
from components.training.recipe import Training
from components.training.watch import UNWATCHED, Report, Watch


@dataclass(frozen=True)
class Session:
    """A training to be run.

    Attributes:
        title: shown with the progress, and the checkpoint's name.
        task: what degrades and measures.
        recipe: steps, batch, optimiser, schedule, seed.
        lmdb: the image store.
        values: the params that the result depends on.
        files: the input files that it depends on, the store's excepted.
        report: gets what a watcher of the training wants to see.
    """

    title: str
    task: Task
    recipe: Training
    lmdb: Path
    values: dict[str, BaseModel]
    files: list[Path] = field(default_factory=list)
    report: Report | None = None

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
            validate: from the store to what measures the network.
            write: stores the outcome; the checkpoint is forgotten after it.
            sample: from the store to what restores a picture, for the report.

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
        checkpoint = checkpoint_path(self.title.replace(" ", "-"), self.values, files)
        trained = train(
            title=self.title,
            accelerator=accelerator,
            network=network,
            method=make_method(network, accelerator.device),
            weights=weights,
            patches=TrainingPatches(
                store, self.task, self.recipe.sizes, self.recipe.seed, augment=True, gray=self.task.gray
            ),
            recipe=self.recipe,
            validate=validate(store),
            checkpoint=checkpoint,
            watch=watch,
        )
        if accelerator.is_main_process:
            write(trained)
            forget(checkpoint)
        accelerator.end_training()
