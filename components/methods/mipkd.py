"""MiPKD: multi-granularity mixture of priors for image super-resolution (Li et al., ICLR 2025, arXiv 2404.02573)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone
from components.methods.method import IMAGE_TERMS, Batch, Distillation, Setting
from components.methods.parts.augmentations import Probability
from components.methods.parts.cascade import Depth, Heads, heads_of, matching_cuts
from components.methods.parts.draws import generator, sample_generators
from components.methods.parts.prior_mixers import BlockPriorMixer, FeaturePriorMixer
from components.methods.parts.taps import equal_sized_taps
from components.run.params import Positive

if TYPE_CHECKING:
    from collections.abc import Iterable

_MIXTURES = frozenset({"feature", "autoencoder", "block"})
_MASK_PURPOSE = 4_000
_PATH_PURPOSE = 5_000


class MipKd(Distillation):
    """Features of student and teacher mixed at random positions, and the networks mixed at random blocks.

    With student S, teacher T, degraded x, clean y, features F_S,k and F_T,k at the relative depths k, encoders E and
    decoders D of the feature prior mixer, and random binary masks M over channels and positions per sample and tap:

    * `reconstruction = mean|S(x) - y|`, `logits = mean|S(x) - T(x)|`
    * `feature = sum_k mean|F_k - F_T,k|` with the enhanced `F_k = D_k(M_k E_T,k(F_T,k) + (1 - M_k) E_S,k(F_S,k))`
    * `autoencoder = sum_k mean|D_k(E_T,k(F_T,k)) - F_T,k|`: this trains the mixers, not the student
    * `block = mean|mixed - T(x)|`: starting from the first tap's enhanced features, each block between two taps, and
      everything after the last tap, is run by either the student or the teacher, as drawn once per step; the path ends
      in the image `mixed`

    No code was released. The paper's weights are 1, 1, 1 and 0.1; it gives none for the auto-encoder. The following
    are ours: the layers of the mixers, the taps at thirds of the body, both probabilities, the sums over taps, and
    where the mixed path begins.

    Args:
        setting: networks, terms and seed.
        depths: relative depths at which features are mixed.
        latent: channels of the mixers' latent space; by default those of the student at that depth.
        mask_probability: probability that an entry of the latent is the teacher's.
        student_probability: probability that a block of the mixed path is the student's.
    """

    terms: ClassVar[frozenset[str]] = _MIXTURES | IMAGE_TERMS

    def __init__(
        self,
        setting: Setting,
        depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (1 / 3, 2 / 3, 1.0),
        latent: Positive | None = None,
        mask_probability: Probability = 0.5,
        student_probability: Probability = 0.5,
    ) -> None:
        super().__init__(setting)
        self.mask_probability, self.student_probability = mask_probability, student_probability
        self.student_taps, self.teacher_taps = (
            matching_cuts(network, depths) for network in (setting.student, self.teacher)
        )
        taps = equal_sized_taps(setting.student, self.teacher, depths)
        widths = [(tap.student.shape[1], tap.teacher.shape[1]) for tap in taps]
        # Only what the wanted losses use: every trained parameter must get a gradient in every step.
        used = len(depths) if setting.terms & {"feature", "autoencoder"} else int("block" in setting.terms)
        self.features = nn.ModuleList(FeaturePriorMixer(*pair, latent or pair[0]) for pair in widths[:used])
        if "feature" not in setting.terms:
            for mixer in self.features[int("block" in setting.terms) :]:
                cast("FeaturePriorMixer", mixer).student_encoder.requires_grad_(requires_grad=False)
        self.blocks = BlockPriorMixer(widths if "block" in setting.terms else [])

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        wanted = self.setting.terms
        label = None
        heads = heads_of(network, batch.degraded, self.student_taps if wanted - {"autoencoder"} else ())
        with torch.no_grad():
            taught = heads_of(self.teacher, batch.degraded, self.teacher_taps if wanted - {"reconstruction"} else ())
            if wanted & {"logits", "block"}:
                label = taught.restore()
        losses = self.image_losses(batch, heads.restore, label)
        if wanted & _MIXTURES:
            enhanced, found = self._mix_features(heads, taught, batch.seeds)
            losses |= found
        if "block" in wanted and label is not None:
            drawn = torch.rand(
                len(self.student_taps), generator=generator(self.setting.seed, batch.step, _PATH_PURPOSE)
            )
            draws = (drawn < self.student_probability).tolist()
            losses["block"] = F.l1_loss(self.blocks(heads, taught, enhanced[0], draws), label)
        return losses

    def _mix_features(self, heads: Heads, taught: Heads, seeds: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Enhanced features of the first tap or of all taps, and the losses summed over the taps."""
        wanted = self.setting.terms
        enhanced: list[Tensor] = []
        distances: dict[str, list[Tensor]] = {term: [] for term in ("feature", "autoencoder") if term in wanted}
        for place, mixer in enumerate(cast("Iterable[FeaturePriorMixer]", self.features)):
            theirs = taught.states[place].features
            latent = mixer.teacher_encoder(theirs)
            if "autoencoder" in wanted:
                distances["autoencoder"].append(F.l1_loss(mixer.decoder(latent), theirs))
            if "feature" in wanted or ("block" in wanted and place == 0):
                mask = draw_mask(seeds, place, latent, self.mask_probability)
                enhanced.append(mixer.enhance(heads.states[place].features, latent, mask))
            if "feature" in wanted:
                distances["feature"].append(F.l1_loss(enhanced[-1], theirs))
        return enhanced, {term: torch.stack(values).sum() for term, values in distances.items()}


def draw_mask(seeds: Tensor, place: int, latent: Tensor, probability: float) -> Tensor:
    """A boolean mask, true where a latent `B C h w` is the teacher's; drawn separately for each sample and tap."""
    generators = sample_generators(seeds, _MASK_PURPOSE + place)
    drawn = torch.stack([torch.rand(latent.shape[1:], generator=source) for source in generators])
    return (drawn < probability).to(latent.device)
