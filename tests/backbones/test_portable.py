"""What lets a network leave this project: one graph for all sizes, ONNX with free height and width, half precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from components.backbones import BACKBONES
from components.backbones.backbone import Backbone
from tests.closed_form import closed_form

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]


@dataclass(frozen=True)
class Configuration:
    """A network of the table, as small as possible: tracing takes time for each layer."""

    name: str
    scale: int
    arguments: dict[str, Any]


CONFIGURATIONS = {
    "edsr": Configuration("edsr", 2, {"channels": 8, "blocks": 1}),
    "fsrcnn": Configuration("fsrcnn", 3, {"channels": 8, "shrunk_channels": 4, "mappings": 1}),
    "nafnet": Configuration("nafnet", 1, {"channels": 4, "encoder": (1,), "middle": 1, "decoder": (1,)}),
    "rcan": Configuration("rcan", 3, {"channels": 8, "groups": 1, "blocks": 1, "reduction": 2}),
    "san": Configuration("san", 2, {"channels": 8, "groups": 1, "blocks": 1, "reduction": 2}),
}

SLOW = {"san"}
TRACED = pytest.mark.parametrize(
    "configuration",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CONFIGURATIONS],
)


def built(configuration: str) -> Backbone:
    """In evaluation mode; residuals whose factors start at zero get others."""
    torch.manual_seed(0)
    chosen = CONFIGURATIONS[configuration]
    network = BACKBONES[chosen.name](chosen.scale, **chosen.arguments)
    for value in network.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.1)
    return network.eval()


def image(network: Backbone, rows: int, columns: int) -> Tensor:
    """Of so many times its size rule, but at least 4 pixels as many."""
    side = network.multiple * -(-4 // network.multiple)
    shape = (1, 3, rows * side, columns * side)
    return torch.from_numpy(closed_form("image", shape, 0, 1)).float()


@pytest.fixture(autouse=True)
def _forgetful_compiler() -> None:
    torch._dynamo.reset()


@TRACED
@torch.no_grad()
def test_one_graph_serves_all_sizes(configuration: str) -> None:
    """Or two: torch takes another convolution for tiny images, and compiles once more for others."""
    network = built(configuration)
    counter = CompileCounter()
    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend=counter)
    for size in ((3, 5), (5, 4), (8, 3), (4, 7)):
        other = image(network, *size)
        torch.testing.assert_close(compiled(other), network(other), rtol=1e-5, atol=1e-5)
    assert counter.frame_count <= 2


# SAN's graph is compared at other sizes in tests/test_export.py: each export of it takes half a minute.
@pytest.mark.parametrize("configuration", sorted(CONFIGURATIONS.keys() - SLOW))
@torch.no_grad()
def test_onnx_with_free_height_and_width_restores_the_same_image(configuration: str, tmp_path: Path) -> None:
    network = built(configuration)
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(network, (image(network, 3, 5),), dynamo=True, dynamic_shapes=[free], verbose=False)
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    for size in ((3, 5), (5, 4), (8, 3)):
        other = image(network, *size)
        (found,) = session.run(None, {entry.name: other.numpy()})
        np.testing.assert_allclose(found, network(other), rtol=0, atol=1e-4)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@torch.no_grad()
def test_bf16_costs_less_than_a_fiftieth_of_a_decibel(configuration: str) -> None:
    """Against a clean image that is 32 dB from the restored one, as in the benchmarks."""
    network = built(configuration)
    degraded = image(network, 8, 8)
    restored = network(degraded)
    errors = torch.from_numpy(closed_form("errors", tuple(restored.shape)))
    clean = restored.double() + errors / errors.square().mean().sqrt() * 10 ** (-32 / 20)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(degraded)
    assert not torch.equal(half, restored)
    assert decibels(half, clean) > decibels(restored, clean) - 0.02


def decibels(restored: Tensor, clean: Tensor) -> float:
    return -10 * (restored.double() - clean).square().mean().log10().item()
