"""Files of the frozen encoder: our own, and the released checkpoints of VQGAN and VGG19."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.auxiliary.feature_space import FeatureSpace
from components.auxiliary.vgg import Vgg19
from components.auxiliary.vqgan import VqganEncoder
from components.backbones.weights import load_published, load_stored, read_description
from components.run.errors import InputError, unknown_name
from components.run.params import bind

ENCODERS: dict[str, Callable[..., FeatureSpace]] = {"vqgan": VqganEncoder, "vgg19": Vgg19}


def build_encoder(arguments: Mapping[str, Any], where: str) -> FeatureSpace:
    """Build an encoder from its arguments: those of `VqganEncoder`, or `{name: vgg19}`.

    Raises:
        InputError: unknown name or argument.
    """
    values = dict(arguments)
    name = values.pop("name", "vqgan")
    if name not in ENCODERS:
        raise unknown_name(f"{where}: name", name, ENCODERS)
    return ENCODERS[name](**bind(where, ENCODERS[name], values))


def load_encoder(path: Path) -> FeatureSpace:
    """Rebuild an encoder that `train_encoder` stored, in evaluation mode.

    Raises:
        InputError: the file is not one of ours, or holds another kind of network.
    """
    description = read_description(path)
    if description.keys() != {"encoder"}:
        raise InputError(f"{path}: holds no encoder but: {', '.join(description) or 'nothing'}.")
    network = build_encoder(description["encoder"], str(path))
    return load_stored(network, path)


def load_released_encoder(network: FeatureSpace, path: Path) -> str:
    """Fill an encoder from a released checkpoint: taming-transformers' VQGAN, torchvision's VGG19.

    What is not part of the encoder (decoder, discriminator and loss; later layers and classifier) is left out.

    Returns:
        The format of the file, for the log.

    Raises:
        InputError: a broken or unsafe file, or one of another architecture.
    """
    return load_published(network, path, ignore=lambda name: not name.startswith(network.released_names))
