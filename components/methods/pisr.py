"""PISR: learning with privileged information for efficient image super-resolution (Lee et al., ECCV 2020)."""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone
from components.methods.method import Batch, Distillation, Setting
from components.methods.parts.cascade import Depth, example_heads, heads_of, matching_cuts
from components.run.errors import InputError

Distribution = Literal["laplace", "gaussian"]
Spread = Literal["element", "channel", "position", "sample"]
Form = Literal["released", "paper"]

_SMALLEST = 1e-8
_RELEASED_FACTORS = {"laplace": 0.1, "gaussian": 0.001}


class Pisr(Distillation):
    """The student starts as the privileged teacher's decoder, and its features learn to predict the teacher's.

    With student S, clean image y, degraded x, features F_S(x) of the student and F_T(y) of the privileged teacher,
    which sees the clean image itself:

    * `reconstruction = mean|S(x) - y|`
    * `variational = sum over taps of -log q(F_T | F_S)`, mean over elements: see `negative_log_likelihood`; the
      location and spread of q are predicted from F_S by two learnable heads (variational information distillation)

    The release weighs `variational` by 1e-6 and its reconstruction loss compares luma. The L1 of gray RGB is 255/219 of
    the L1 of luma, so a weight of 219/255 gives the released sum. Only FSRCNN was released, tapped after `expanding`,
    which is depth 1. Other networks are tapped at that depth too, before the upsampling (ours).

    Args:
        setting: networks, terms and seed.
        depths: relative depths of the taps.
        distribution: the family of q; Laplace in the paper.
        spread: what has its own spread in each sample: every `element` (`None`, as released), each `channel`
            (`C` in the release), each `position` (`HW`), or the `sample` (`CHW`).
        form: form of the loss, see `negative_log_likelihood`.
        start: `decoder`, as published, or `random`, to measure the gain from the features alone.
        feature_range: divisor of both networks' features before they are compared (ours): 1, as released, for
            networks that compute in [0, 1] as FSRCNN does; 255 for those that compute in 0..255. The released factors
            and weight suit features of magnitude 1.

    Raises:
        InputError: the privileged teacher's decoder does not have the student's architecture.
    """

    terms: ClassVar[frozenset[str]] = frozenset({"reconstruction", "variational"})

    def __init__(
        self,
        setting: Setting,
        depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (1.0,),
        distribution: Distribution = "laplace",
        spread: Spread = "element",
        form: Form = "released",
        start: Literal["decoder", "random"] = "decoder",
        feature_range: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(setting)
        self.distribution, self.form, self.feature_range = distribution, form, feature_range
        self.heads = nn.ModuleList()
        self.cuts = matching_cuts(setting.student, depths) if "variational" in setting.terms else ()
        if self.cuts:
            (example,) = example_heads([setting.student], depths)
            self.heads.extend(Prediction(state.features.shape[1], spread) for state in example.states)
        self.privileged = None
        if self.cuts or start == "decoder":
            privileged = setting.load_privileged()
            _refuse_other(privileged.network.decoder, setting.student)
            if start == "decoder":
                setting.student.load_state_dict(privileged.network.decoder.state_dict())
            if self.cuts:
                self.privileged = privileged

    def forward(self, network: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch."""
        if self.privileged is None:
            return self.image_losses(batch, lambda: network(batch.degraded))
        ours = heads_of(network, batch.degraded, self.cuts)
        with torch.no_grad():
            theirs = heads_of(self.privileged.network, batch.clean, self.cuts)
        distances = []
        for head, one, other in zip(self.heads, ours.states, theirs.states, strict=True):
            location, spread = head(one.features / self.feature_range)
            features = other.features / self.feature_range
            distances.append(negative_log_likelihood(location, spread, features, self.distribution, self.form))
        losses = self.image_losses(batch, ours.restore)
        losses["variational"] = torch.stack(distances).sum()
        return losses


class Prediction(nn.Module):
    """The two heads of a tap, for the location and the unscaled spread: each a 1x1 convolution, PReLU, 1x1 convolution.

    Args:
        channels: channels of the tap.
        spread: what has its own spread.
    """

    def __init__(self, channels: int, spread: Spread) -> None:
        super().__init__()
        spreads = channels if spread in {"element", "channel"} else 1
        self.location = _head(channels, channels)
        self.spread = _head(channels, spreads)
        self.over_positions = spread in {"channel", "sample"}

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`B C h w` -> location `B C h w`, and a positive spread of `B C h w`, `B C 1 1`, `B 1 h w` or `B 1 1 1`."""
        spread: Tensor = self.spread(features).float()
        if self.over_positions:
            spread = spread.mean((2, 3), keepdim=True)
        return self.location(features), F.softplus(spread)


def negative_log_likelihood(
    location: Tensor, spread: Tensor, features: Tensor, distribution: Distribution, form: Form
) -> Tensor:
    """Negative log-density of the teacher's features, mean over elements, without its constant.

    With location m, features f and the head's positive output p, it is `log b + |f - m| / b` for Laplace and
    `log(v)/2 + (f - m)^2 / 2v` for Gauss. The paper's form is Laplace with b = p; its Gaussian counterpart, v = p, is
    ours. The release has b = p/10 and v = p/1000, and 2b in Laplace's logarithm. 1e-8 is added to every b and v.
    The release also adds `C log(2 pi) / 2` for C channels, a constant without gradient (51.5 for FSRCNN) that dominates
    the loss curve; it is omitted here.

    Args:
        location: `B C h w`.
        spread: positive, of a shape that broadcasts to it.
        features: the teacher's, `B C h w`.
        distribution: `laplace` or `gaussian`.
        form: `released` or `paper`.
    """
    location, features = location.float(), features.float()
    scale = spread.float() * (_RELEASED_FACTORS[distribution] if form == "released" else 1) + _SMALLEST
    if distribution == "gaussian":
        return (scale.log() / 2 + (features - location).square() / (2 * scale)).mean()
    normaliser = (2 * scale if form == "released" else scale).log()
    return (normaliser + (features - location).abs() / scale).mean()


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, inputs, 1), nn.PReLU(), nn.Conv2d(inputs, outputs, 1))


def _refuse_other(decoder: Backbone, student: Backbone) -> None:
    """Raise an `InputError` if the decoder and the student are different networks."""
    shapes, expected = (
        {name: value.shape for name, value in network.state_dict().items()} for network in (decoder, student)
    )
    if shapes != expected or decoder.scale != student.scale:
        raise InputError(
            "start: the privileged teacher's decoder is another network than the student: run "
            "train_privileged_teacher again."
        )
