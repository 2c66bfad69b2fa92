"""Mixture of experts feature compensator of DRSformer (MEFC; Chen et al., CVPR 2023, section 3.3)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from components.backbones.parts.transposed_attention import depthwise, pointwise

_STEPS = 4
_SEPARABLE = (1, 3, 5, 7)
_DILATED = (3, 5, 7)
_EXPERTS = len(_SEPARABLE) + len(_DILATED) + 1


class ExpertWeights(nn.Module):
    """Weight of each expert in each step, from the means of the channels; official name `ca_fc.{0,2}`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        count = _STEPS * _EXPERTS
        self.ca_fc = nn.Sequential(nn.Linear(channels, 2 * count), nn.ReLU(), nn.Linear(2 * count, count))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B steps experts`, whose sum over the experts is 1."""
        scores: Tensor = self.ca_fc(features.mean((2, 3))).unflatten(-1, (_STEPS, _EXPERTS))
        return scores.softmax(-1)


class ExpertLayer(nn.Module):
    """Experts side by side, weighted and joined: convolutions of several sizes and dilations, and a mean.

    Official parameter names: `_ops.{0..6}.op.{k}`, `_out.0`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        separable = [_separable(channels, side) for side in _SEPARABLE]
        dilated = [_named_op(depthwise(channels, side, 2), pointwise(channels, channels)) for side in _DILATED]
        mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self._ops = nn.ModuleList([*separable, *dilated, mean])
        self._out = nn.Sequential(pointwise(_EXPERTS * channels, channels), nn.ReLU())

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """`B C h w`, `B experts` -> `B C h w`."""
        shares = weights.unbind(1)
        parts = [expert(features) * share.view(-1, 1, 1, 1) for expert, share in zip(self._ops, shares, strict=True)]
        output: Tensor = self._out(torch.cat(parts, 1))
        return output


class ExpertSteps(nn.Module):
    """Layers of experts, each added to its input; official names `preprocess.op.0`, `_ops.{step}`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.preprocess = _named_op(pointwise(channels, channels), nn.ReLU())
        self._ops = nn.ModuleList(ExpertLayer(channels) for _ in range(_STEPS))

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """`B C h w`, `B steps experts` -> `B C h w`."""
        features = self.preprocess(features)
        for layer, shares in zip(self._ops, weights.unbind(1), strict=True):
            features = (features + layer(features, shares)).relu()
        return features


class ExpertCompensator(nn.Module):
    """Four steps of eight experts, weighted by the image itself; official names `layers.{0,1}`.

    The weights come from means over the whole image: a crop or a tile may weight the experts differently.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([ExpertWeights(channels), ExpertSteps(channels)])

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        weigh, steps = self.layers
        output: Tensor = steps(features, weigh(features))
        return output


def _separable(channels: int, side: int) -> nn.Module:
    """Depthwise and 1x1 convolution, twice."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [depthwise(channels, side), pointwise(channels, channels), nn.ReLU()]
    return _named_op(*layers[:-1])


def _named_op(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(op=nn.Sequential(*layers)))
