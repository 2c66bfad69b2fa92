"""Step: the frozen encoder in whose features methods compare images: imported, or a small one trained here."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from components.auxiliary.encoder_weights import build_encoder, load_released_encoder
from components.auxiliary.feature_space import FeatureSpace
from components.auxiliary.vq_autoencoder import VqAutoencoder
from components.auxiliary.vqgan import VqganEncoder
from components.backbones.weights import save_network
from components.dependencies.verdict import refuse_unsound
from components.images.distances import DISTANCES
from components.run.errors import InputError
from components.run.files import write_json, written_whole
from components.run.params import Params, Weight, bind, without_nulls
from components.run.step import CHECKPOINTS, run_step
from components.tasks import TaskChoice, build_task
from components.telemetry.recorder import current, observed
from components.training.autoencoding import Autoencoding, reconstruction_on
from components.training.loop import Trained
from components.training.outcome import HISTORY, VALIDATION, write_rows
from components.training.recipe import Training
from components.training.session import Session

MEASURES = ("psnr", "codes_in_use", "perplexity")

_LOG = logging.getLogger(__name__)


class AutoencoderLossWeights(Params):
    """Weights of the autoencoder's losses; 0.25 is VQ-VAE's."""

    reconstruction: Weight = 1.0
    codebook: Weight = 1.0
    commitment: Weight = 0.25


class EncoderRecipe(Params):
    """The encoder: a released checkpoint, or a small one that is trained here.

    Attributes:
        network: arguments of `VqganEncoder`, empty for the released f=16 network with 1024 codes; or `{name: vgg19}`.
        checkpoint: file of released weights, relative to the folder of fetched sources.
        training: how it is trained if no checkpoint is given.
        weights: of the losses in that training.
    """

    network: Annotated[dict[str, Any], BeforeValidator(without_nulls)]
    checkpoint: str | None = None
    training: Training | None = None
    weights: AutoencoderLossWeights = AutoencoderLossWeights()

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.checkpoint is None) == (self.training is None):
            raise ValueError("give either checkpoint (released weights) or training (a recipe)")
        if self.training and self.training.progressive_learning:
            raise ValueError(
                "training.progressive_learning: an encoder has one image size, because its normalisation sees it all"
            )
        if self.network.get("name") == "vgg19" and self.checkpoint is None:
            raise ValueError("vgg19 is imported: give its checkpoint")
        return self


def train_encoder(task: TaskChoice, encoder: EncoderRecipe, raw: Path, lmdb: Path, output: Path, scores: Path) -> None:
    """Import or train the encoder in whose space DCKD, CSD and SKD compare images.

    Args:
        task: the task whose clean images it is trained on.
        encoder: its architecture, and its recipe or checkpoint.
        raw: folder of fetched sources, to which the checkpoint is relative.
        lmdb: the image store.
        output: folder to write `encoder.safetensors`, `history.csv` and `validation.csv` to.
        scores: JSON file to write: reconstruction PSNR and codes in use on the validation images (null if imported).

    Raises:
        InputError: a checkpoint or an argument does not fit, or the crop is not a multiple of a code's side.
    """
    restoration = build_task(task)
    where = "params.yaml: encoders.network"

    def write(network: FeatureSpace, trained: Trained[VqAutoencoder] | None = None) -> None:
        history, validation = (trained.history, trained.validation) if trained else ([], [])
        with written_whole(output) as partial:
            partial.mkdir()
            save_network(partial / "encoder.safetensors", network, {"encoder": encoder.network})
            write_rows(partial / HISTORY, history)
            write_rows(partial / VALIDATION, validation)
        measured = {name: validation[-1][name] if validation else None for name in MEASURES}
        codes = len(network.quantize.embedding.weight) if isinstance(network, VqganEncoder) else None
        write_json(scores, {"codes": codes, **measured})

    if encoder.training is None:
        network = build_encoder(encoder.network, where)
        path = raw / str(encoder.checkpoint)
        _LOG.info("imported %s (%s)", path, load_released_encoder(network, path))
        write(network)
        return

    recipe, to_clean = encoder.training, DISTANCES[encoder.training.reconstruction]
    arguments = bind(where, VqganEncoder, {key: value for key, value in encoder.network.items() if key != "name"})
    factor = 2 ** (len(arguments["multipliers"]) - 1)
    if recipe.patch * restoration.scale % factor:
        raise InputError(
            f"params.yaml: encoders.training.patch: {recipe.patch} degraded pixels are "
            f"{recipe.patch * restoration.scale} clean ones, not a multiple of {factor}, the side of a code."
        )
    Session(
        title="train encoder",
        output=output,
        checkpoints=CHECKPOINTS,
        step="components.train_encoder",
        task=restoration,
        recipe=recipe,
        lmdb=lmdb,
        values={"task": task, "encoder": encoder},
        spans_training=True,
        report=current(),
    ).run(
        make_network=lambda: VqAutoencoder(VqganEncoder(**arguments)),
        make_method=lambda network, device: Autoencoding(network, recipe.steps, recipe.seed, to_clean).to(device),
        weights=encoder.weights.model_dump(),
        validate=lambda store: reconstruction_on(store, recipe.patch * restoration.scale),
        write=lambda trained: write(trained.network.vqgan, trained),
    )


main = partial(
    run_step,
    train_encoder,
    check=refuse_unsound,
    observe=observed,
    distributed=lambda arguments: arguments["encoder"].training is not None,
)


if __name__ == "__main__":
    main()
