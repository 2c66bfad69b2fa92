"""VDSR: accurate image super-resolution using very deep convolutional networks (Kim et al., CVPR 2016)."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import State
from components.backbones.parts.luma import LumaBackbone
from components.backbones.parts.precision import full_precision
from components.run.params import Positive


class ActivatedConvolution(nn.Module):
    """3x3 convolution and ReLU; twtygqyy's name for the first is `conv`."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """`B C H W` -> `B C H W`."""
        return F.relu(self.conv(features))


class Vdsr(LumaBackbone):
    """VDSR on luma: its convolutions compute a residual from MATLAB's bicubic enlargement and add it to that.

    The enlargement is not rounded to 8 bits; neither are the published test images. Nothing in the network depends on
    the scale, so one file of weights serves all scales. Its features have the enlarged size, `B C h*scale w*scale`: a
    method that compares them pixel by pixel needs a second network that works at that size too.

    Parameter names as in twtygqyy/pytorch-vdsr, whose weights load: `input`, `residual_layer.{i}.conv`, `output`;
    initial weights by He's rule, as there.

    Args:
        scale: output size over input size.
        channels: width.
        layers: convolutions in all; 20 in the paper. All but the first and the last are stages.
        bias: the paper's convolutions have one (665,921 parameters), the published weights' none (664,704).
    """

    def __init__(
        self, scale: int, channels: Positive = 64, layers: Annotated[int, Field(gt=2)] = 20, bias: bool = False
    ) -> None:
        super().__init__()
        self.scale, self.depth = scale, layers - 2
        self.residual_layer = nn.Sequential(*(ActivatedConvolution(channels, bias) for _ in range(self.depth)))
        self.input = nn.Conv2d(1, channels, 3, padding=1, bias=bias)
        self.output = nn.Conv2d(channels, 1, 3, padding=1, bias=bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def enter_luma(self, luma: Tensor) -> State:
        """Features of the enlarged luma, which is the context.

        The first convolution runs in full precision even under autocast: luma in bf16's 8 bits costs 0.1 dB.
        """
        enlarged = self.enlarge(luma)
        with full_precision(luma):
            features: Tensor = self.input(enlarged)
        return State(F.relu(features), (enlarged,))

    def stage(self, index: int, state: State) -> State:
        """One convolution and its ReLU."""
        features: Tensor = self.residual_layer[index](state.features)
        return state._replace(features=features)

    def leave_luma(self, state: State) -> Tensor:
        """Add the residual to the enlarged luma."""
        residual: Tensor = self.output(state.features)
        return residual + state.context[0]
