"""Small networks with published weights beyond torch's eager mode: compiled, as ONNX, in half precision."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from skimage import data
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from components.backbones import BACKBONES, BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from tests.closed_form import fill

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = [
    ("vdsr", 3, {"channels": 8, "layers": 5}),
    ("idn", 2, {"channels": 16, "blocks": 2}),
    ("carn", 3, {"channels": 8, "blocks": 2}),
    ("carn_m", 4, {"channels": 8, "blocks": 2}),
    ("dncnn", 1, {"channels": 8, "layers": 5}),
    ("rlfn", 2, {"channels": 8, "blocks": 1}),
    ("span", 4, {"channels": 8, "blocks": 1}),
    ("efdn", 3, {"channels": 8, "blocks": 2}),
]
SIZES = ((12, 10), (7, 19))


def network_of(name: str, scale: int, arguments: dict[str, int]) -> Backbone:
    network = build_backbone(BackboneChoice.model_validate({"name": name} | arguments), scale)
    fill(network)
    return network.eval()


def photograph(height: int, width: int) -> Tensor:
    image = data.chelsea()[100 : 100 + height, 200 : 200 + width]  # type: ignore[no-untyped-call]
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def of(cases: list[tuple[str, int, dict[str, int]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "scale", "arguments"), cases, ids=[case[0] for case in cases])


class TestPortable:
    @of(CASES)
    def test_is_one_graph_for_open_sizes(self, name: str, scale: int, arguments: dict[str, int]) -> None:
        network = network_of(name, scale, arguments)
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        compiled = torch.compile(network, backend=counter, fullgraph=True, dynamic=True)
        for size in SIZES:
            image = photograph(*size)
            torch.testing.assert_close(compiled(image), network(image), rtol=1e-5, atol=1e-5)
        assert counter.frame_count == 1

    @of(CASES[:5])  # tests/test_export.py has all, by the exporter that takes a tenth of the time
    def test_is_the_same_in_onnxruntime_at_another_size(
        self, name: str, scale: int, arguments: dict[str, int], tmp_path: Path
    ) -> None:
        network = network_of(name, scale, arguments).requires_grad_(False)
        free = {2: torch.export.Dim("height", min=2, max=4096), 3: torch.export.Dim("width", min=2, max=4096)}
        torch.onnx.export(
            network,
            (photograph(*SIZES[0]),),
            tmp_path / "network.onnx",
            dynamo=True,
            dynamic_shapes=(free,),
            verbose=False,
        )
        session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
        for size in SIZES:
            image = photograph(*size)
            (restored,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
            np.testing.assert_allclose(restored, network(image).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[6]], ids=["idn", "carn_m", "span"])
def test_trains_compiled(case: tuple[str, int, dict[str, int]]) -> None:
    """Ahead-of-time autograd: the gradient is that of eager mode."""
    network, image = network_of(*case), photograph(*SIZES[0])
    torch._dynamo.reset()
    gradients = []
    for run in (network, torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=True)):
        network.zero_grad()
        run(image).square().mean().backward()
        gradients.append([value.grad.clone() for value in network.parameters() if value.grad is not None])
    assert len(gradients[0]) == len(list(network.parameters()))
    for eager, traced in zip(*gradients, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-4, atol=1e-5)


def test_every_network_here_is_of_the_table() -> None:
    assert {name for name, _, _ in CASES} <= BACKBONES.keys()
