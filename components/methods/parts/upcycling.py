"""DUKD's upcycled data: additional training pairs for the student, made from the existing crops."""

from collections.abc import Callable
from fractions import Fraction
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from components.backbones.backbone import Backbone
from components.images.bicubic_tensors import resize_batch
from components.methods.method import Batch, Setting
from components.methods.parts.augmentations import Probability, draw_augmentation
from components.methods.parts.draws import generator, sample_generators
from components.run.errors import InputError

_TILE_PURPOSE = 2_000
_AUGMENTATION_PURPOSE = 3_000


class Upcycling:
    """Zoom-in, zoom-out and label consistency of DUKD (Zhang et al., arXiv 2309.14162, section 3; `dukd_model.py`).

    With student S, teacher T, degraded x (`n` by `n`), clean y (`scale*n` by `scale*n`), bicubic reduction `x/scale`:

    * `zoom_in = mean|T(tile) - undo(S(change(tile)))|`, over tiles of y of the size of x, used as degraded images;
      `change` inverts colours, flips and transposes (label consistency), each with some probability
    * `zoom_out_reconstruction = mean|S(x/scale) - x|`, only in the release
    * `zoom_out_logits = mean|S(x/scale) - T(x/scale)|`

    The release undoes the changes in the order in which it made them, which is wrong for 4 of the 16 combinations; here
    the order is reversed (`parts.augmentations`). Its reduction, like ours, is MATLAB's without rounding. A crop whose
    side is not a multiple of the scale is cropped to one.

    Args:
        setting: networks, terms and seed; of its terms, only those above are computed here.
        teach: returns the teacher's image of a batch.
        tiles: number of tiles drawn from the `scale * scale` tiles of a clean crop, the same for the whole batch.
        augmentation_probability: probability of each change.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"zoom_in", "zoom_out_reconstruction", "zoom_out_logits"})

    def __init__(
        self, setting: Setting, teach: Callable[[Tensor], Tensor], tiles: int, augmentation_probability: Probability
    ) -> None:
        self.terms_wanted = setting.terms & self.terms
        self.teach, self.seed = teach, setting.seed
        self.tiles, self.augmentation_probability = tiles, augmentation_probability
        scale = setting.student.scale
        if "zoom_in" in self.terms_wanted and tiles > scale**2:
            raise InputError(f"tiles: {tiles}, but a clean crop has {scale**2} at scale {scale}.")
        if scale == 1 and self.terms_wanted - {"zoom_in"}:
            raise InputError(
                "weights: zoom_out_reconstruction and zoom_out_logits teach nothing where both images have "
                "the same size: take them out."
            )

    def __call__(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch, whose crops must be square."""
        losses: dict[str, Tensor] = {}
        if "zoom_in" in self.terms_wanted:
            losses["zoom_in"] = self._zoom_in(network, batch)
        if self.terms_wanted - {"zoom_in"}:
            losses |= self._zoom_out(network, batch)
        return losses

    def _zoom_in(self, network: Backbone, batch: Batch) -> Tensor:
        side, scale = batch.degraded.shape[-1], network.scale
        order = torch.randperm(scale**2, generator=generator(self.seed, batch.step, _TILE_PURPOSE))
        corners = [divmod(int(place), scale) for place in order[: self.tiles]]
        tiles = torch.cat(
            [
                batch.clean[..., row * side : (row + 1) * side, column * side : (column + 1) * side]
                for row, column in corners
            ]
        )
        generators = [
            generator
            for index in range(self.tiles)
            for generator in sample_generators(batch.seeds, _AUGMENTATION_PURPOSE + index)
        ]
        augmentation = draw_augmentation(generators, self.augmentation_probability, tiles.device)
        return F.l1_loss(augmentation.undo(network(augmentation.apply(tiles))), self.teach(tiles))

    def _zoom_out(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        side = batch.degraded.shape[-1] // network.scale * network.scale
        degraded = batch.degraded[..., :side, :side]
        small = resize_batch(degraded, Fraction(1, network.scale))
        restored = network(small)
        losses: dict[str, Tensor] = {}
        if "zoom_out_reconstruction" in self.terms_wanted:
            losses["zoom_out_reconstruction"] = F.l1_loss(restored, degraded)
        if "zoom_out_logits" in self.terms_wanted:
            losses["zoom_out_logits"] = F.l1_loss(restored, self.teach(small))
        return losses
