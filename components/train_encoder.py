"""Step: the frozen encoder and codebook of DCKD, imported from a VQGAN checkpoint or trained small on the images."""

import logging
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import nn

from components.backbones.encoder_weights import load_released_encoder
from components.backbones.vq_autoencoder import VqAutoencoder
from components.backbones.vqgan import VqganEncoder
from components.backbones.weights import save_network
from components.images.store import Store
from components.methods.method import Method
from components.run.errors import InputError
from components.run.files import write_json, written_whole
from components.run.params import Choice, Params, bind, build
from components.run.step import run_step
from components.tasks import TASKS
from components.training.autoencoding import Autoencoding, reconstruction_on
from components.training.loop import Row, Trained
from components.training.outcome import HISTORY, VALIDATION, write_rows
from components.training.recipe import Training
from components.training.session import Session

_LOG = logging.getLogger(__name__)


class Encoder(Params):
    """The encoder: a released checkpoint, or a small one that is trained here.

    Attributes:
        network: arguments of `VqganEncoder`; empty for the released f=16 network with 1024 codes.
        checkpoint: file of released weights, relative to the folder of fetched sources.
        training: how it is trained where no checkpoint is given.
        weights: of reconstruction, codebook and commitment in that training.
    """

    network: dict[str, Any]
    checkpoint: str | None = None
    training: Training | None = None
    weights: dict[str, float] = {"reconstruction": 1.0, "codebook": 1.0, "commitment": 0.25}

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.checkpoint is None) == (self.training is None):
            raise ValueError("give either checkpoint (released weights) or training (a recipe)")
        if set(self.weights) != Autoencoding.terms:
            raise ValueError(f"weights: name exactly {', '.join(sorted(Autoencoding.terms))}")
        return self


def train_encoder(task: Choice, encoder: Encoder, raw: Path, lmdb: Path, output: Path, scores: Path) -> None:
    """Import or train the encoder and codebook in whose space DCKD compares images.

    Args:
        task: the task whose clean images it is trained on.
        encoder: its architecture, and its recipe or checkpoint.
        raw: folder of fetched sources, to which the checkpoint is relative.
        lmdb: the image store.
        output: folder to write `encoder.safetensors`, `history.csv` and `validation.csv` to.
        scores: JSON file to write: reconstruction PSNR and codes in use on the validation images (null if imported).

    Raises:
        InputError: a checkpoint or an argument that does not fit, or a crop that is no multiple of the code size.
    """
    restoration = build("tasks", TASKS, task)
    arguments = bind("params.yaml: encoders.network", VqganEncoder, encoder.network)

    def write(trained: Trained) -> None:
        kept = trained.network.vqgan if isinstance(trained.network, VqAutoencoder) else trained.network
        with written_whole(output) as partial:
            partial.mkdir()
            save_network(partial / "encoder.safetensors", kept, {"encoder": encoder.network})
            write_rows(partial / HISTORY, trained.history)
            write_rows(partial / VALIDATION, trained.validation)
        last: Row | dict[str, None] = trained.validation[-1] if trained.validation else {}
        names = ("psnr", "codes_in_use", "perplexity")
        write_json(scores, {"codes": arguments["codes"], **{name: last.get(name) for name in names}})

    if encoder.training is None:
        network = VqganEncoder(**arguments)
        path = raw / str(encoder.checkpoint)
        _LOG.info("imported %s (%s)", path, load_released_encoder(network, path))
        write(Trained(network))
        return

    def make_method(network: nn.Module, device: torch.device) -> Method:
        if not isinstance(network, VqAutoencoder):
            raise TypeError(f"expected an autoencoder, not {type(network).__name__}")
        return Autoencoding(network, recipe.seed).to(device)

    def validate(store: Store) -> Any:
        return reconstruction_on(store)

    recipe = encoder.training
    factor = 2 ** (len(arguments["multipliers"]) - 1)
    if recipe.patch * restoration.scale % factor:
        raise InputError(
            f"params.yaml: encoders.training.patch: {recipe.patch} degraded pixels are "
            f"{recipe.patch * restoration.scale} clean ones, no multiple of {factor}, the side of a code."
        )
    session = Session(
        "train encoder", restoration, recipe, lmdb, {"task": task, "encoder": encoder}
    )
    session.run(lambda: VqAutoencoder(VqganEncoder(**arguments)), make_method, encoder.weights, validate, write)


if __name__ == "__main__":
    run_step(train_encoder)
