"""Losses of the VQ autoencoder, and the reseeding of unused codes."""

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from components.auxiliary.vq_autoencoder import VqAutoencoder
from components.images.distances import Distance
from components.images.metrics import psnr, quantise
from components.images.store import Image, Store
from components.methods.method import Batch, Method
from components.methods.parts.collectives import all_gather_rows
from components.methods.parts.draws import generator
from components.run.errors import InputError
from components.training.loop import Row

RESEED_EVERY = 50
"""Steps after which codes that were never chosen are moved onto encoded patches (ours)."""


class Autoencoding(Method[VqAutoencoder]):
    """Reconstruction, codebook and commitment losses of VQ-VAE (equation 3) on clean crops.

    `reconstruction = mean|D(q(E(y))) - y|`, `codebook = mean (sg[z] - e)^2`, `commitment = mean (z - sg[e])^2`.
    Gradients alone leave most codes unused, so unused ones are reseeded with vectors of the current batch (ours), but
    only in the first half of the training, because the decoder has to learn what a moved code means.

    Args:
        autoencoder: the network that will be trained.
        steps: of the training.
        seed: of the run.
        to_clean: the distance of `reconstruction`, from the recipe.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction", "codebook", "commitment"})

    used: Tensor
    recent: Tensor

    def __init__(self, autoencoder: VqAutoencoder, steps: int, seed: int, to_clean: Distance = F.l1_loss) -> None:
        super().__init__()
        self.to_clean = to_clean
        self.seed, self.reseed_until = seed, steps // 2
        codes = autoencoder.vqgan.quantize.embedding.weight
        self.register_buffer("used", torch.zeros(len(codes), dtype=torch.bool))
        self.register_buffer("recent", codes.detach().clone())

    def forward(self, network: VqAutoencoder, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        coded = network(batch.clean)
        self.used[all_gather_rows(coded.indices)] = True
        vectors = all_gather_rows(coded.latent).permute(0, 2, 3, 1).reshape(-1, coded.latent.shape[1]).float()
        self.recent.copy_(vectors[torch.arange(len(self.recent), device=vectors.device) % len(vectors)])
        return {
            "reconstruction": self.to_clean(coded.image, batch.clean),
            "codebook": F.mse_loss(coded.codes, coded.latent.detach()),
            "commitment": F.mse_loss(coded.latent, coded.codes.detach()),
        }

    def follow(self, step: int, network: VqAutoencoder, average: VqAutoencoder) -> None:
        """Reseed the codes that were not used since the last time."""
        if step % RESEED_EVERY or step > self.reseed_until:
            return
        unused = (~self.used).nonzero().flatten()
        order = torch.randperm(len(self.recent), generator=generator(self.seed, step)).to(unused.device)
        for coder in (network, average):
            coder.replace_codes(unused, self.recent[order[: len(unused)]])
        self.used.zero_()


def reconstruction_on(store: Store, side: int) -> Callable[[VqAutoencoder], Row]:
    """Measure an autoencoder on the store's validation images: RGB PSNR, codes in use, and their perplexity.

    The images are cut into squares of `side` pixels, the size of its training and use: normalisation and attention
    see the whole input, so that at another size it is in effect another network.

    Raises:
        InputError: an image is smaller than such a square.
    """
    records = store.records("validation")
    for record in records:
        if min(record.clean) < side:
            height, width = record.clean
            raise InputError(
                f"{record.image}: {width}x{height} pixels are less than the encoder's crops, {side} clean pixels wide. "
                "Write a smaller patch for the encoder, or exclude the image."
            )

    @torch.inference_mode()
    def measure(network: VqAutoencoder) -> Row:
        device = next(network.parameters()).device
        counts = torch.zeros(len(network.vqgan.quantize.embedding.weight), device=device)
        scores = []
        for record in records:
            clean = _squares(store.whole(record).clean, side)
            coded = network(torch.from_numpy(clean).permute(0, 3, 1, 2).float().div(255).to(device))
            counts += torch.bincount(coded.indices, minlength=len(counts))
            scores.append(psnr(quantise(coded.image.permute(0, 2, 3, 1).cpu().numpy()), clean))
        shares = counts / counts.sum()
        entropy = -(shares[shares > 0] * shares[shares > 0].log()).sum()
        return {
            "psnr": sum(scores) / len(scores),
            "codes_in_use": float((counts > 0).sum()),
            "perplexity": float(entropy.exp()),
        }

    return measure


def _squares(image: Image, side: int) -> Image:
    """`H W 3` -> `n side side 3`; the remainder on the right and below is dropped."""
    rows, columns = (length // side for length in image.shape[:2])
    cut = image[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return cut.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)
