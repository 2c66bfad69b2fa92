"""Networks beside the official ones: images, gradients, names and files.

Of each case an oracle holds `output_{case}` and `gradient_{case}`: every n-th value, about 997, of what the official
network in float64, with closed-form weights, made of the closed-form image, and of the gradient by that image of its
product with a closed-form cotangent. Of each configuration it holds `count_{name}`, the number of parameters, and the
entries of its state_dict, buffers among them: `names_{name}` and `shapes_{name}`, filled up with zeros.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from components.backbones.backbone import Backbone
from components.backbones.cost import count_parameters
from components.backbones.weights import load_published
from tests.closed_form import closed_form, fill, parameter

PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def operations(network: Backbone, height: int, width: int) -> float:
    """Multiply-adds of convolutions and matrix products for an input; the network has no data."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2


class Oracle:
    def __init__(self, name: str) -> None:
        self.arrays = np.load(Path(__file__).with_name(name))

    def assert_restores(
        self,
        network: Backbone,
        case: str,
        size: tuple[int, int],
        precision: torch.dtype,
        tolerance: float,
        restore=lambda network, image: network(image),
    ) -> None:
        """The image is the official one; in float64 its gradient is, too."""
        fill(network.to(precision).eval())
        image = torch.from_numpy(closed_form("image", (2, 3, *size), 0, 1)).to(precision).requires_grad_()
        restored = restore(network, image)
        self.assert_close(restored, f"output_{case}", tolerance)
        if precision == torch.float64:
            (restored * torch.from_numpy(closed_form("cotangent", tuple(restored.shape)))).sum().backward()
            self.assert_close(image.grad, f"gradient_{case}", tolerance)

    def assert_has_the_official_parameters(self, network: Backbone, name: str) -> None:
        """Count, names and shapes; what is left out is no parameter."""
        official = self.layout(name)
        loaded = {key: shape for key, shape in official.items() if not network.is_derived(key)}
        assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == loaded
        assert count_parameters(network) == self.arrays[f"count_{name}"]

    def layout(self, name: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the official state_dict."""
        shapes = self.arrays[f"shapes_{name}"].tolist()
        names = self.arrays[f"names_{name}"].tolist()
        return {key: tuple(size for size in shape if size) for key, shape in zip(names, shapes, strict=True)}

    def assert_loads(self, network: Backbone, name: str, path: Path, wrapper: str, prefix: str = "") -> None:
        """A file with the official entries fills the network, strictly, and the buffers in it change nothing."""
        tensors = {key: parameter(key, shape) for key, shape in self.layout(name).items()}
        torch.save({wrapper: {prefix + key: value for key, value in tensors.items()}, "epoch": 3}, path)
        assert load_published(network, path, ignore=network.is_derived).startswith(wrapper)
        expected = {key: value.float() for key, value in tensors.items() if not network.is_derived(key)}
        found = network.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())

    def assert_close(self, ours: Tensor, name: str, tolerance: float) -> None:
        expected = self.arrays[name]
        thinned = ours.detach().flatten()[:: max(1, ours.numel() // 997)].numpy()
        np.testing.assert_allclose(thinned, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
