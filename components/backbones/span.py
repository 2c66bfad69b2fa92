"""SPAN: swift parameter-free attention network for efficient super-resolution (Wan et al., CVPRW 2024)."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import ColourShift, direct_upsampler
from components.backbones.parts.layouts import Layout, Tensors
from components.backbones.parts.precision import at_least_float32, full_precision
from components.run.params import Positive

_GAIN = 2
"""How many times wider the chain of a convolution is inside."""

_BRANCHES = ("sk", "conv.0", "conv.1", "conv.2")


def merged(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Weight `o i 3 3` and bias `o` of the one convolution that does what all branches do together.

    Args:
        weights: of the 1x1 shortcut, and of the chain's 1x1, 3x3 and 1x1 convolutions.
        biases: of the same.
    """
    shortcut, first, middle, last = weights
    chain = torch.einsum("om,mnyx,ni->oiyx", last[:, :, 0, 0], middle, first[:, :, 0, 0])
    inside = torch.mv(middle.sum((2, 3)), biases[1]) + biases[2]
    return chain + F.pad(shortcut, (1, 1, 1, 1)), torch.mv(last[:, :, 0, 0], inside) + biases[3] + biases[0]


class FoldableConvolution(nn.Module):
    """A 3x3 convolution that trains as a chain of 1x1, 3x3 and 1x1 convolutions beside a 1x1 shortcut (`Conv3XC`).

    The branches are linear and the input of the chain is padded with zeros, so their sum is one 3x3 convolution
    everywhere. `forward` merges the kernels and runs that one, which gives the branches the gradients that they have
    when run one by one, in a fraction of the time.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, _GAIN * inputs, 1),
            nn.Conv2d(_GAIN * inputs, _GAIN * outputs, 3),
            nn.Conv2d(_GAIN * outputs, outputs, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`B inputs h w` -> `B outputs h w`."""
        branches = [self.sk, *self.conv]
        with full_precision(features):
            weight, bias = merged([branch.weight for branch in branches], [branch.bias for branch in branches])
        return F.conv2d(features, weight, bias, padding=1)

    def folded(self) -> nn.Module:
        """The one convolution, under the release's name."""
        weight, bias = _merged_of(self.state_dict(), "")
        convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1).to(self.sk.weight)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        return nn.Sequential(OrderedDict(eval_conv=convolution))


def _merged_of(tensors: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    """Weight and bias merged from the branches' tensors by name."""
    kinds = ([tensors[f"{prefix}{branch}.{kind}"].double() for branch in _BRANCHES] for kind in ("weight", "bias"))
    return merged(*kinds)


class ParameterFreeAttentionBlock(nn.Module):
    """Three convolutions with SiLU, added to the input and weighed by their own odd sigmoid (figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (FoldableConvolution(channels, channels) for _ in range(3))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`B C h w` -> the same, and the activated result of the first convolution."""
        first = F.silu(self.c1_r(features))
        residual = self.c3_r(F.silu(self.c2_r(first)))
        # The sigmoid minus a half, which half precision would round to few values.
        return (residual + features) * torch.tanh(residual / 2) / 2, first


class Span(Backbone):
    """SPAN; official parameter names (`conv_1.*`, `block_{k}.{c1_r,c2_r,c3_r}.*`, `conv_cat`, `conv_2.*`, ...).

    Its 3x3 convolutions train with three branches (`sk`, `conv.{0,1,2}`) and are stored, loaded, counted and exported
    folded (`eval_conv`), see `fold`. Published files of both kinds load; what a file with branches holds as `eval_conv`
    is older than they are, and is made anew. A stage is a block; the last joins its result, the first features, the
    first block's result and the last block's first activation, which the release's in-place SiLU put there.

    Args:
        scale: output size over input size.
        channels: width; 28 in the winner of NTIRE 2024, whose folded x4 has 150,688 parameters; 48 in the paper.
        blocks: blocks; 6 in the paper.
    """

    def __init__(self, scale: int, channels: Positive = 28, blocks: Positive = 6) -> None:
        super().__init__()
        self.scale, self.depth = scale, blocks
        self.shift = ColourShift()
        self.conv_1 = FoldableConvolution(3, channels)
        for index in range(1, blocks + 1):
            self.add_module(f"block_{index}", ParameterFreeAttentionBlock(channels))
        self.conv_cat = nn.Conv2d(4 * channels, channels, 1)
        self.conv_2 = FoldableConvolution(channels, channels)
        self.upsampler = direct_upsampler(scale, channels)

    def enter(self, image: Tensor) -> State:
        """Features after the first convolution, which the context begins with.

        First and last convolution run in full precision even under autocast: bf16 there costs another 0.02 dB.
        """
        with full_precision(image):
            features: Tensor = self.conv_1(self.shift.inward(image))
        return State(features, (features,))

    def stage(self, index: int, state: State) -> State:
        """One block; the last stage joins what comes before the upsampling, the first one's result among it."""
        features, activated = self.get_submodule(f"block_{index + 1}")(state.features)
        context = state.context if index else (*state.context, features)
        if index == self.depth - 1:
            shallow, first = context
            features = self.conv_cat(torch.cat([shallow, self.conv_2(features), first, activated], dim=1))
        return State(features, context)

    def leave(self, state: State) -> Tensor:
        """Upsample, to [0, 1] at once."""
        with full_precision(state.features):
            image: Tensor = self.upsampler(at_least_float32(state.features))
        return image

    def fold(self) -> Self:
        """Turn the branches of each convolution into one, in place."""
        for parent in list(self.modules()):
            for name, child in parent.named_children():
                if isinstance(child, FoldableConvolution):
                    setattr(parent, name, child.folded())
        return self

    def layouts(self) -> tuple[Layout, ...]:
        """The release's files with branches."""
        return (Layout("branches folded, the training's", _folded),)


def _folded(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors with branches -> tensors with folded convolutions; those that lack a branch stay."""
    found: Tensors = {}
    branches = [f"{branch}.{kind}" for branch in _BRANCHES for kind in ("weight", "bias")]
    prefixes = [name.removesuffix("sk.weight") for name in tensors if name.endswith(".sk.weight")]
    prefixes = [prefix for prefix in prefixes if all(prefix + branch in tensors for branch in branches)]
    for prefix in prefixes:
        weight, bias = _merged_of(tensors, prefix)
        found |= {f"{prefix}eval_conv.weight": weight, f"{prefix}eval_conv.bias": bias}
    return found | {name: value for name, value in tensors.items() if not name.startswith(tuple(prefixes))}
