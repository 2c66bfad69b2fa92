"""DnCNN: beyond a Gaussian denoiser, residual learning of deep CNN for image denoising (Zhang et al., TIP 2017)."""

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


class DnCnn(Backbone):
    """DnCNN: convolutions with ReLU that estimate the noise, which is then subtracted; input and output of equal size.

    Parameter names as in cszn/KAIR, whose weights load: `model.{0,2,4,...}` with batch normalisation merged into the
    convolutions, as in its files, or `model.{0,2,3,5,6,...}` with it separate. A network without batch normalisation
    merges such a file on loading, and gives the same results in evaluation.

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
        """For a network without batch normalisation, the release's names with it."""
        return (Layout("batch normalisation merged, KAIR's", self._merge),) if self.step == 2 else ()

    def _merge(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Convolutions that do what convolution and batch normalisation together do in evaluation."""
        merged: Tensors = {}
        for name, value in tensors.items():
            place, _, kind = name.removeprefix("model.").partition(".")
            layer, within = divmod(int(place) - 2, 3) if place.isdigit() else (0, -1)
            if place == "0" or within < 0:
                merged[name] = value
            elif within == 0:
                merged[f"model.{2 + 2 * layer}.{kind}"] = self._normalised(tensors, int(place), kind)
        return merged

    @staticmethod
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
