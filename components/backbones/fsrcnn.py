"""FSRCNN: accelerating the super-resolution convolutional neural network (Dong et al., ECCV 2016)."""

from typing import Literal

from torch import Tensor, nn

from components.backbones.backbone import State
from components.backbones.parts.luma import LumaBackbone
from components.run.params import Positive


class Fsrcnn(LumaBackbone):
    """FSRCNN(d, s, m) on luma: extraction; the stages, which are shrinking, m mappings and expanding; deconvolution.

    Parameter names as in yjn870/FSRCNN-pytorch, whose weights load: `first_part.{0,1}`, `mid_part.{0..2m+3}`,
    `last_part`. Zero padding everywhere, as there and in PISR; initial weights are torch's own, as in PISR.

    Args:
        scale: output size over input size.
        channels: d, width of extraction and expanding.
        shrunk_channels: s, width of shrinking and mapping.
        mappings: m, number of 3x3 mapping layers.
        slopes: of the PReLUs: `per_channel` (FSRCNN and yjn870, 12,809 parameters), or one `shared` by all channels
            of a layer (PISR, 12,644).
    """

    def __init__(
        self,
        scale: int,
        channels: Positive = 56,
        shrunk_channels: Positive = 12,
        mappings: Positive = 4,
        slopes: Literal["per_channel", "shared"] = "per_channel",
    ) -> None:
        super().__init__()
        self.scale = scale

        def layer(inputs: int, outputs: int, side: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2)
            return [convolution, nn.PReLU(outputs if slopes == "per_channel" else 1)]

        middle = layer(channels, shrunk_channels, 1)
        for _ in range(mappings):
            middle += layer(shrunk_channels, shrunk_channels, 3)
        middle += layer(shrunk_channels, channels, 1)
        self.first_part = nn.Sequential(*layer(1, channels, 5))
        self.mid_part = nn.Sequential(*middle)
        self.last_part = nn.ConvTranspose2d(channels, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
        self.depth = mappings + 2

    def enter_luma(self, luma: Tensor) -> State:
        """Features after the extraction; the context is empty."""
        return State(self.first_part(luma), ())

    def stage(self, index: int, state: State) -> State:
        """One convolution and its PReLU."""
        features = self.mid_part[2 * index + 1](self.mid_part[2 * index](state.features))
        return state._replace(features=features)

    def leave_luma(self, state: State) -> Tensor:
        """Deconvolve."""
        luma: Tensor = self.last_part(state.features)
        return luma
