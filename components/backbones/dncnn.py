"""DnCNN: beyond a Gaussian denoiser, residual learning of deep CNN for image denoising (Zhang et al., TIP 2017)."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.layouts import Layout, Tensors
from components.backbones.parts.luma import to_gray, to_luma
from components.backbones.parts.precision import full_precision
from components.run.errors import InputError
from components.run.params import Positive

_EPSILON, _MOMENTUM = 1e-4, 0.9
"""Of the release's batch normalisation (cszn/KAIR)."""

_EPSILON_OF_TORCH = 1e-5

_MATCONVNET = re.compile(r"net\.layers\.(?P<layer>\d+)\.weights\.(?P<number>[012])")


class DnCnn(Backbone):
    """DnCNN: convolutions with ReLU that estimate the noise, which is then subtracted; input and output of equal size.

    Parameter names as in cszn/KAIR, whose weights load: `model.{0,2,4,...}` with batch normalisation merged into the
    convolutions, as in its files, or `model.{0,2,3,5,6,...}` with it separate. So do those of cszn/DnCNN and
    SaoYan/DnCNN-PyTorch (`dncnn.*`), and MatConvNet's `.mat`. A network without batch normalisation merges it on
    loading, and gives the same results in evaluation.

    Args:
        scale: 1.
        layers: convolutions in all: 17 for a known noise level, 20 for unknown ones. All but the first and the last
            are stages.
        channels: width.
        planes: `gray` restores the gray level of the image (MATLAB's `rgb2gray`: 0 is black, 1 is white, unlike the
            studio range of luma) and keeps each plane's difference from it. The three equal planes of a gray image
            stay equal, and are restored as the release restores one. `colour` sees and restores all three.
        batch_norm: whether the middle convolutions are normalised, as the paper trains them.
    """

    def __init__(
        self,
        scale: int,
        layers: Annotated[int, Field(gt=2)] = 17,
        channels: Positive = 64,
        planes: Literal["gray", "colour"] = "gray",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if scale != 1:
            raise InputError(f"scale {scale} is not supported by dncnn, which keeps the size: take it where scale is 1")
        self.scale, self.depth, self.gray = scale, layers - 2, planes == "gray"
        ends = 1 if self.gray else 3
        modules: list[nn.Module] = [nn.Conv2d(ends, channels, 3, padding=1), nn.ReLU()]
        for _ in range(self.depth):
            modules.append(nn.Conv2d(channels, channels, 3, padding=1))
            if batch_norm:
                modules.append(nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM))
            modules.append(nn.ReLU())
        self.model = nn.Sequential(*modules, nn.Conv2d(channels, ends, 3, padding=1))
        self.step = 3 if batch_norm else 2

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context is the image.

        That convolution runs in full precision even under autocast: an image in bf16's 8 bits costs 0.1 dB or more.
        """
        seen = to_gray(to_luma(image)) if self.gray else image
        with full_precision(image):
            features = self.model[0](seen)
        return State(self.model[1](features), (image,))

    def stage(self, index: int, state: State) -> State:
        """One convolution and its ReLU."""
        features = state.features
        for place in range(2 + index * self.step, 2 + (index + 1) * self.step):
            features = self.model[place](features)
        return state._replace(features=features)

    def leave(self, state: State) -> Tensor:
        """Subtract the noise; noise of the gray level is subtracted from all planes alike."""
        noise: Tensor = self.model[-1](state.features)
        return state.context[0] - noise

    def layouts(self) -> tuple[Layout, ...]:
        """MatConvNet's and other PyTorch releases' names; for a network without batch normalisation, KAIR's with it."""
        others = (Layout("MatConvNet's", _from_matconvnet), Layout("dncnn.", _from_dncnn))
        return (*others, Layout("batch normalisation merged, KAIR's", _merged)) if self.step == 2 else others


def _merged(tensors: Mapping[str, Tensor]) -> Tensors:
    """Convolutions that do what convolution and batch normalisation together do in evaluation."""
    found: Tensors = {}
    for name, value in tensors.items():
        place, _, kind = name.removeprefix("model.").partition(".")
        layer, within = divmod(int(place) - 2, 3) if place.isdigit() else (0, -1)
        if place == "0" or within < 0:
            found[name] = value
        elif within == 0:
            found[f"model.{2 + 2 * layer}.{kind}"] = _normalised(tensors, int(place), kind)
    return found


def _normalised(tensors: Mapping[str, Tensor], place: int, kind: str) -> Tensor:
    """Weight or bias of one convolution, with the normalisation after it merged in (the last has none)."""
    value, after = tensors[f"model.{place}.{kind}"], f"model.{place + 1}."
    if f"{after}running_var" not in tensors:
        return value
    mean, variance = (tensors[f"{after}running_{moment}"].double() for moment in ("mean", "var"))
    factor = tensors[f"{after}weight"] * torch.rsqrt(variance + _EPSILON)
    if kind == "weight":
        return value * factor.view(-1, 1, 1, 1)
    return (value - mean) * factor + tensors[f"{after}bias"]


def _from_dncnn(tensors: Mapping[str, Tensor]) -> Tensors:
    """`dncnn.{n}.*`, of convolutions of which all or all but the first have no bias -> KAIR's names.

    Of both releases that have these names, the one without any bias (SaoYan/DnCNN-PyTorch) normalises with another
    epsilon; its variances become those that give the same result with ours.
    """
    named = {name.replace("dncnn.", "model.", 1): value for name, value in tensors.items()}
    added = _EPSILON_OF_TORCH - _EPSILON if "model.0.bias" not in named else 0
    for name, value in list(named.items()):
        layer, _, kind = name.rpartition(".")
        if kind == "running_var":
            named[name] = value.double() + added
            named.setdefault(f"{layer}.num_batches_tracked", torch.tensor(0))
        elif value.ndim == 4:
            named.setdefault(f"{layer}.bias", value.new_zeros(len(value)))
    return named


def _from_matconvnet(tensors: Mapping[str, Tensor]) -> Tensors:
    """Numbers of MatConvNet's layers -> KAIR's names; the file's other numbers (strides, the noise level) are dropped.

    Convolutions are `height width inputs outputs`, without the last if it is 1. Of batch normalisation, the moments are
    a column of means and one of standard deviations, whose variance includes epsilon.
    """
    found: Tensors = {}
    for name, value in tensors.items():
        match = _MATCONVNET.fullmatch(name)
        if match is None:
            found |= {} if name.startswith("net.") else {name: value}
            continue
        layer, number = f"model.{match['layer']}", match["number"]
        if number == "2":
            found[f"{layer}.running_mean"], deviation = value.double().unbind(1)
            found[f"{layer}.running_var"] = deviation**2 - _EPSILON
            found[f"{layer}.num_batches_tracked"] = torch.tensor(0)
        elif number == "0" and value.ndim > 2:
            found[f"{layer}.weight"] = value.reshape(*value.shape[:3], -1).permute(3, 2, 0, 1)
        else:
            found[f"{layer}.{('weight', 'bias')[int(number)]}"] = value.flatten()
    return found
