"""A small VQ autoencoder: trains the encoder and codebook that DCKD needs if no VQGAN checkpoint is given."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.auxiliary.vqgan import Middle, ResnetBlock, VqganEncoder


class Decoder(nn.Module):
    """From codes back to an image: the middle, then a doubling and a block for each halving of the encoder."""

    def __init__(self, widths: list[int], code_size: int, groups: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(code_size, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups)
        self.blocks = nn.ModuleList(
            ResnetBlock(inputs, outputs, groups) for inputs, outputs in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """`B D h w` -> `B 3 h*2^levels w*2^levels`."""
        features = self.mid(self.conv_in(codes))
        for block in self.blocks:
            features = block(F.interpolate(features, scale_factor=2, mode="nearest"))
        image: Tensor = self.conv_out(F.silu(self.norm_out(features)))
        return image


class Coded(NamedTuple):
    """What passing an image through the codebook gives.

    Attributes:
        image: the reconstruction, `B 3 H W`.
        latent: the encoder's vectors before quantisation, `B D h w`.
        codes: the codes chosen for them, `B D h w`, with gradient to the codebook.
        indices: of the chosen codes, `B*h*w`.
    """

    image: Tensor
    latent: Tensor
    codes: Tensor
    indices: Tensor


class VqAutoencoder(nn.Module):
    """VQGAN's autoencoder without its discriminator: encoder, nearest code with a straight-through gradient, decoder.

    van den Oord et al., "Neural discrete representation learning", 2017.

    Args:
        encoder: encoder and codebook, the part that is kept after training.
    """

    def __init__(self, encoder: VqganEncoder) -> None:
        super().__init__()
        self.vqgan = encoder
        widths = [level.width for level in encoder.encoder.levels()]
        self.factor = 2 ** (len(widths) - 1)
        groups = encoder.encoder.norm_out.num_groups
        self.decoder = Decoder(widths, encoder.quantize.embedding.embedding_dim, groups)

    def forward(self, image: Tensor) -> Coded:
        """Encode and decode `B 3 H W` in [0, 1]; H and W are multiples of `factor`."""
        taps = self.vqgan.encoder.taps(image)
        latent: Tensor = self.vqgan.quant_conv(self.vqgan.encoder.latent(taps[-1]))
        indices = self.vqgan.quantize.distances(latent).argmin(1)
        batch, size, height, width = latent.shape
        codes = self.vqgan.quantize.embedding(indices).view(batch, height, width, size).permute(0, 3, 1, 2)
        straight_through = latent + (codes - latent).detach()
        return Coded(self.decoder(straight_through), latent, codes, indices)

    @torch.no_grad()
    def replace_codes(self, indices: Tensor, vectors: Tensor) -> None:
        """Overwrite the codes at `n` indices with `n D` vectors."""
        self.vqgan.quantize.embedding.weight[indices] = vectors.to(self.vqgan.quantize.embedding.weight)
