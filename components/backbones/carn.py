"""CARN: fast, accurate, and lightweight super-resolution with cascading residual network (Ahn et al., ECCV 2018)."""

import re
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import DIV2K_MEAN, conv3x3
from components.backbones.parts.layouts import Layout, Tensors
from components.run.errors import InputError
from components.run.params import Positive

_UNITS = 3
_ENLARGERS = re.compile(r"^upsample\.up[234]\.")


class Activated(nn.Module):
    """1x1 convolution and ReLU (`BasicBlock` of the release)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B outputs h w`."""
        activated: Tensor = self.body(features)
        return activated


class ResidualUnit(nn.Module):
    """Two convolutions, added to the input, then ReLU (figure 4a)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        return F.relu(self.body(features) + features)


class EfficientResidualUnit(nn.Module):
    """Two group convolutions and one of 1x1, added to the input, then ReLU (residual-E block, figure 4b)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        return F.relu(self.body(features) + features)


class CascadingBlock(nn.Module):
    """Three units; after each, a 1x1 convolution brings all results so far back to one width (figure 3b).

    Args:
        channels: width of input and output.
        unit: makes one unit.
        shared: whether one unit is used three times (CARN-M's recursion, section 3.3).
    """

    def __init__(self, channels: int, unit: Callable[[], nn.Module], shared: bool) -> None:
        super().__init__()
        self.shared = shared
        for index in range(1, 2 if shared else _UNITS + 1):
            self.add_module(f"b{index}", unit())
        for index in range(1, _UNITS + 1):
            self.add_module(f"c{index}", Activated(channels * (index + 1), channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        cascade = features
        for index in range(1, _UNITS + 1):
            unit = self.get_submodule("b1" if self.shared else f"b{index}")
            cascade = torch.cat([cascade, unit(features)], dim=1)
            features = self.get_submodule(f"c{index}")(cascade)
        return features


class Enlarger(nn.Module):
    """Sub-pixel convolutions, each with a ReLU before the pixels are shuffled."""

    def __init__(self, scale: int, channels: int, groups: int) -> None:
        super().__init__()
        if scale not in {2, 3, 4, 8}:
            raise InputError(f"scale {scale} is not supported by carn: write 2, 3, 4 or 8")
        factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for factor in factors:
            convolution = nn.Conv2d(channels, channels * factor**2, 3, padding=1, groups=groups)
            layers += [convolution, nn.ReLU(), nn.PixelShuffle(factor)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h*scale w*scale`."""
        enlarged: Tensor = self.body(features)
        return enlarged


class _Cascading(Backbone):
    """What CARN and CARN-M share: cascading blocks in a cascade, on RGB of DIV2K's mean (figure 3a)."""

    mean: Tensor

    def __init__(
        self, scale: int, channels: int, blocks: int, unit: Callable[[], nn.Module], shared: bool, groups: int
    ) -> None:
        super().__init__()
        self.scale, self.depth = scale, blocks
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.entry = conv3x3(3, channels)
        for index in range(1, blocks + 1):
            self.add_module(f"b{index}", CascadingBlock(channels, unit, shared))
        for index in range(1, blocks + 1):
            self.add_module(f"c{index}", Activated(channels * (index + 1), channels))
        self.upsample = nn.ModuleDict({"up": Enlarger(scale, channels, groups)})
        self.exit = conv3x3(channels, 3)

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution; the context is the cascade, all results side by side."""
        features: Tensor = self.entry(image - self.mean)
        return State(features, (features,))

    def stage(self, index: int, state: State) -> State:
        """One cascading block, and the 1x1 convolution over the cascade."""
        deep = self.get_submodule(f"b{index + 1}")(state.features)
        cascade = torch.cat([state.context[0], deep], dim=1)
        return State(self.get_submodule(f"c{index + 1}")(cascade), (cascade,))

    def leave(self, state: State) -> Tensor:
        """Enlarge, and add the mean colour back."""
        image: Tensor = self.exit(self.upsample["up"](state.features)) + self.mean
        return image

    def layouts(self) -> tuple[Layout, ...]:
        """The multi-scale release's; one of its three enlargers (`upsample.up{2,3,4}`) is taken."""
        own = f"upsample.up{self.scale}."

        def convert(tensors: Mapping[str, Tensor]) -> Tensors:
            return {
                name.replace(own, "upsample.up."): value
                for name, value in tensors.items()
                if name.startswith(own) or not _ENLARGERS.match(name)
            }

        return (Layout(f"multi-scale (x{self.scale} of x2, x3 and x4)", convert),)


class Carn(_Cascading):
    """CARN; official parameter names (`entry`, `b{k}.b{u}.body.*`, `b{k}.c{u}.body.0`, `c{k}.body.0`, `upsample.up`).

    The release has one file for x2, x3 and x4, with an enlarger for each; the one for `scale` is loaded.

    Args:
        scale: 2, 3, 4 or 8.
        channels: width; 64 in the paper.
        blocks: cascading blocks, each a stage; 3 in the paper.
    """

    def __init__(self, scale: int, channels: Positive = 64, blocks: Positive = 3) -> None:
        super().__init__(scale, channels, blocks, lambda: ResidualUnit(channels), shared=False, groups=1)


class CarnM(_Cascading):
    """CARN-M, the mobile CARN: group convolutions, and a block uses one unit three times (section 3.3).

    Parameter names are those of CARN, except `b{k}.b1.body.{0,2,4}` for the unit that is used three times.

    Args:
        scale: 2, 3, 4 or 8.
        channels: width; 64 in the paper.
        blocks: cascading blocks, each a stage; 3 in the paper.
        groups: of the 3x3 convolutions in units and enlarger; 4 in the paper. It divides `channels`.
    """

    def __init__(self, scale: int, channels: Positive = 64, blocks: Positive = 3, groups: Positive = 4) -> None:
        if channels % groups:
            raise InputError(f"carn_m: {channels} channels can't be cut into {groups} groups: write a divisor")
        super().__init__(
            scale, channels, blocks, lambda: EfficientResidualUnit(channels, groups), shared=True, groups=groups
        )
