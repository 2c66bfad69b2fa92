"""Transformers leave torch's eager mode: compiled, as ONNX of any height and width, and in bf16."""

import io

import onnxruntime
import pytest
import torch
from torch import Tensor

from components.backbones.backbone import Backbone
from components.backbones.drsformer import DrsFormer
from components.backbones.restormer import Restormer
from components.backbones.swinir import SwinIr
from components.backbones.uformer import Uformer

NETWORKS = {
    "swinir": lambda: SwinIr(2, 8, depths=(2,), heads=2, window=4),
    "restormer": lambda: Restormer(1, 4, (1, 1, 1, 1), 1, heads=(1, 1, 1, 1), norm="bias_free"),
    "drsformer": lambda: DrsFormer(1, 4, (1, 1, 1, 1), heads=(1, 1, 1, 1)),
    "uformer": lambda: Uformer(1, 4, (1, 1, 1, 1, 1), window=2),
}
LAST = {
    "restormer": lambda network: network.output,
    "drsformer": lambda network: network.output,
    "uformer": lambda network: network.output_proj,
}
DECIBELS = 30

# With several threads torch has another convolution for large images on the CPU, and compiles anew.
pytestmark = pytest.mark.usefixtures("one_thread")


def built(name: str) -> Backbone:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def images(network: Backbone, *sizes: tuple[int, int]) -> list[Tensor]:
    """Of heights and widths in multiples of the size rule."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(1, 3, *(side * network.multiple for side in size)) for size in sizes]
    return [torch.rand(shape, generator=generator) for shape in shapes]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swinir", "restormer"])  # the others share their parts
@torch.no_grad()
def test_compiled_it_is_one_graph_for_images_of_any_size(name):
    network = built(name)
    first, wider, higher = images(network, (4, 3), (3, 5), (5, 4))
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager", dynamic=True)
    compiled(first)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for image in (wider, higher):
            torch.testing.assert_close(compiled(image), network(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_as_onnx_it_restores_images_of_any_size(name):
    network = built(name)
    first, wider, higher = images(network, (4, 3), (3, 5), (5, 4))
    height, width = (torch.export.Dim(axis, min=2, max=512) for axis in ("height", "width"))
    sides = {2: network.multiple * height, 3: network.multiple * width}
    program = torch.onnx.export(
        network, (first,), dynamo=True, dynamic_shapes={"image": sides}, optimize=False, verbose=False
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    for image in (wider, higher):
        (restored,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        torch.testing.assert_close(torch.from_numpy(restored), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_bf16_costs_less_than_two_hundredths_of_a_decibel(name):
    """Of an image that is 30 dB away from what should be, by a network that changes it as little as a trained one."""
    network = built(name)
    if network.scale == 1:
        for value in LAST[name](network).parameters():
            value.mul_(0.2)
    (image,) = images(network, (4, 4))
    single = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(image).float()
    generator = torch.Generator().manual_seed(2)
    clean = single + 10 ** (-DECIBELS / 20) * torch.randn(single.shape, generator=generator)
    lost = psnr(single, clean) - psnr(half, clean)
    assert psnr(single, clean) == pytest.approx(DECIBELS, abs=0.3)
    assert abs(lost) < 0.02


def psnr(restored: Tensor, clean: Tensor) -> float:
    return -10 * float((restored - clean).square().mean().log10())
