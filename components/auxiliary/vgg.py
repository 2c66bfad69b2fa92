"""VGG19 (Simonyan and Zisserman, ICLR 2015), up to the last layer whose features are compared."""

from torch import Tensor, nn

from components.auxiliary.feature_space import FeatureSpace

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))
_TAPS = (1, 6, 11, 20, 29)


class Vgg19(FeatureSpace):
    """The first 30 layers of VGG19, tapped after relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1.

    Parameter names are torchvision's (`features.{i}`), so that `vgg19-dcbb9e9d.pth` loads; its later layers and its
    classifier are left out. Images are not normalised: CSD's release feeds 0..255 without subtracting ImageNet's mean.
    """

    levels = len(_TAPS)
    released_names = tuple(f"features.{index}." for index in range(_TAPS[-1]))

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for block in _WIDTHS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for outputs in block:
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU()]
                width = outputs
        self.features = nn.Sequential(*layers)

    def taps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features after the first convolution of each block, `B C_l H/2^l W/2^l`."""
        taps: list[Tensor] = []
        features = image
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in _TAPS:
                taps.append(features)
        return tuple(taps)
