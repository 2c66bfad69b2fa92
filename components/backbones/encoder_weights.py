"""Files of the frozen encoder and codebook: ours, and the released VQGAN checkpoint."""

from pathlib import Path

from safetensors.torch import load_file

from components.backbones.vqgan import VqganEncoder
from components.backbones.weights import load_published, read_description
from components.run.errors import InputError
from components.run.params import bind

_KEPT = ("encoder.", "quant_conv.", "quantize.embedding.")


def load_encoder(path: Path) -> VqganEncoder:
    """Rebuild an encoder that `train_encoder` stored, in evaluation mode.

    Raises:
        InputError: the file is not one of ours, or holds another kind of network.
    """
    description = read_description(path)
    if description.keys() != {"encoder"}:
        raise InputError(f"{path}: holds no encoder but: {', '.join(description) or 'nothing'}.")
    network = VqganEncoder(**bind(str(path), VqganEncoder, description["encoder"]))
    network.load_state_dict(load_file(path))
    return network.eval()


def load_released_encoder(network: VqganEncoder, path: Path) -> str:
    """Fill an encoder from a VQGAN checkpoint of taming-transformers; decoder, discriminator and loss are left out.

    Returns:
        What format it was, for the log.

    Raises:
        InputError: a broken or unsafe file, or one of another architecture.
    """
    return load_published(network, path, ignore=lambda name: not name.startswith(_KEPT))
