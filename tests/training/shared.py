"""Trainings of every method and of the autoencoder, alone or as one of several processes; leaves what they gave."""

import json
import math
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save_file

from components.methods import METHODS
from components.methods.logits import Logits
from components.run.errors import InputError
from components.tasks.sr import SuperResolution
from components.training import autoencoding
from components.training.autoencoding import Autoencoding, reconstruction_on
from components.training.distribution import start
from components.training.meter import DivergedError
from components.training.recipe import Training
from components.training.session import Session
from tests.training import tiny

RECIPE = tiny.recipe(steps=6, batch=8, log_every=1, validate_every=6)


class BrokenInTheSecond(Logits):
    def forward(self, network, batch):
        losses = super().forward(network, batch)
        if batch.step == 2 and os.environ.get("RANK") == "1":
            losses["logits"] = losses["logits"] * math.nan
        return losses


class StoppedInTheSecond(Logits):
    def follow(self, step, network, average):
        if step == 2 and os.environ.get("RANK") == "1":
            signal.raise_signal(signal.SIGTERM)


def train_all(lmdb, folder):
    """Write `<name>-<rank>.json` and `.safetensors` for each training, and what is said of wrong ones."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)  # where the checkpoints go
    rank = os.environ.get("RANK", "0")
    for name in METHODS:
        keep(f"{name}-{rank}", tiny.distilled(tiny.refreshing(name), lmdb, folder / f"{name}.pt", RECIPE, seconds=3600))
    # All that Restormer's and NAFNet's recipes add, with batches of 8, 4 and 2.
    sizes = [{"after": 2, "batch": 4, "patch": 10}, {"after": 4, "batch": 2, "patch": 12}]
    restorer = RECIPE.model_dump(mode="json") | tiny.RESTORER | {"progressive_learning": sizes}
    picked = tiny.refreshing("dckd_star")
    keep(f"restorer-{rank}", tiny.distilled(picked, lmdb, folder / "restorer.pt", Training(**restorer), seconds=3600))
    try:
        start(tiny.recipe(progressive_learning=[{"after": 3, "batch": 9, "patch": 8}]))
    except InputError as error:
        Path(f"refused-later-{rank}.txt").write_text(str(error))
    try:
        start(tiny.recipe(batch=7))
    except InputError as error:
        Path(f"refused-{rank}.txt").write_text(str(error))
    try:
        picked = tiny.choice("logits")
        tiny.distilled(picked, lmdb, folder / "broken.pt", wrap=lambda method: BrokenInTheSecond(method.setting))
    except DivergedError as error:
        Path(f"diverged-{rank}.txt").write_text(str(error))
    former = signal.signal(signal.SIGTERM, lambda *_: Path(f"stopped-{rank}.txt").touch())
    wrap = lambda method: StoppedInTheSecond(method.setting)  # noqa: E731
    with suppress(KeyboardInterrupt):
        tiny.distilled(tiny.choice("logits"), lmdb, folder / "stopped.pt", RECIPE, seconds=3600, wrap=wrap)
    signal.signal(signal.SIGTERM, former)
    # Last, because a session ends with the processes' connection.
    autoencoding.RESEED_EVERY = 2
    session = Session(
        title="autoencoder",
        output=Path("autoencoder"),
        checkpoints=Path(),
        step="components.train_encoder",
        task=SuperResolution(2),
        recipe=RECIPE,
        lmdb=lmdb,
        values={"recipe": RECIPE},
    )
    session.run(
        make_network=tiny.autoencoder,
        make_method=lambda network, _: Autoencoding(network, RECIPE.steps, RECIPE.seed),
        weights={"reconstruction": 1.0, "codebook": 1.0, "commitment": 0.25},
        validate=lambda store: reconstruction_on(store, 16),
        write=lambda trained: keep(f"autoencoder-{rank}", trained),
    )


def keep(name, trained):
    save_file(trained.network.state_dict(), f"{name}.safetensors")
    Path(f"{name}.json").write_text(json.dumps({"history": trained.history, "validation": trained.validation}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_all(Path(sys.argv[1]), Path(sys.argv[2]))
