"""A restoration network as an ONNX graph that takes an image of any size (SAN's: at least two pixels a side)."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from components.backbones.backbone import Backbone
from components.backbones.tiling import run_padded
from components.exporting.session import INPUT, OUTPUT, SMALLEST, OnnxNetwork
from components.run.errors import InputError

OPSET = 17
_OPSET_OF_PROGRAMS = 18
"""The oldest opset that torch's other exporter writes."""
TOLERANCE = 1e-4
"""Largest difference allowed between graph and network, for values in [0, 1]: a fortieth of an 8-bit level."""

_TRACED = (17, 23)
_CHECKED = ((17, 23), (64, 64), (40, 31), (5, 70), (8, 3), (1, 1))
"""Sizes at which graph and network are compared: the traced one, then larger, smaller, narrow and tiny ones."""


class AnySize(nn.Module):
    """A network that includes its size rule: does what `run_padded` does, with shapes that follow the input's."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """`1 3 h w` of any size -> `1 3 h*scale w*scale`."""
        height, width = image.shape[-2:]
        scale, multiple = self.network.scale, self.network.multiple
        if multiple > 1:
            mirrored, repeated = zip(*(_padded(side, multiple, image) for side in (height, width)), strict=True)
            few = (mirrored[0].min() < 0) | (mirrored[1].min() < 0)
            for axis in (0, 1):
                image = image.index_select(axis + 2, torch.where(few, repeated[axis], mirrored[axis]))
        restored: Tensor = self.network(image)
        return restored[..., : height * scale, : width * scale] if multiple > 1 else restored


def _padded(side: int, multiple: int, image: Tensor) -> tuple[Tensor, Tensor]:
    """Indices along an axis, extended to a multiple: mirrored (negative if too few), and with the last one repeated."""
    whole = (side + multiple - 1) // multiple * multiple
    positions = torch.arange(whole, device=image.device)
    return (side - 1) - (positions - (side - 1)).abs(), positions.clamp(max=side - 1)


def to_onnx(network: Backbone, facts: Mapping[str, str]) -> onnx.ModelProto:
    """Turn a network, folded, into an ONNX graph of any height and width, and verify at several sizes that both agree.

    It is traced, with the exporter of torch's two that takes a tenth of the time. What a trace would get wrong, a
    choice that depends on the input's size, shows in the comparison. What can't be traced, such as SAN's crop of the
    middle, is exported as a program by the other exporter.

    Args:
        network: in evaluation mode, on the CPU.
        facts: what the file says about itself, `metadata_props`.

    Raises:
        InputError: the network does something that ONNX can't express, or the graph's result differs from the
            network's at one of the sizes.
    """
    network = copy.deepcopy(network).fold()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the tracing exporter, and every `int` of a shape
        try:
            model = _traced(network)
        except _NO_GRAPH as error:
            try:
                model = _program(network)
            except _NO_GRAPH:  # this error says less about the reason
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise InputError(f"{type(network).__name__}: has no ONNX graph: {reason}") from None
    least = network.smallest_in_onnx
    rule = {SMALLEST: str(least), "size": f"at least {least} pixels a side"} if least > 1 else {}
    onnx.helper.set_model_props(model, dict(sorted({**facts, **rule}.items())))
    onnx.checker.check_model(model, full_check=True)
    _refuse_another(model, network)
    return model


_NO_GRAPH = (torch.onnx.errors.OnnxExporterError, AssertionError, RuntimeError, TypeError)
"""The last three are what torch raises if it can't trace an operation."""


def _traced(network: Backbone) -> onnx.ModelProto:
    with TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder, "graph.onnx")
        torch.onnx.export(
            AnySize(network).eval(),
            (torch.zeros(1, 3, *_TRACED),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {2: "height", 3: "width"}, OUTPUT: {2: "restored_height", 3: "restored_width"}},
        )
        return onnx.load(path)


def _program(network: Backbone) -> onnx.ModelProto:
    """The graph of the other exporter, without what it writes about this machine: stack traces with their paths."""
    free = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.onnx.export(
            AnySize(network).eval(),
            (torch.zeros(1, 3, *_TRACED),),
            dynamo=True,
            opset_version=_OPSET_OF_PROGRAMS,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=[{2: free, 3: free}],
            verbose=False,
        )
    model: onnx.ModelProto = cast("torch.onnx.ONNXProgram", program).model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    if b"stack_trace" in to_bytes(model):
        raise TypeError("its graph has nested parts, which hold this machine's paths")
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The bytes of an ONNX file, equal for equal graphs."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def largest_difference(session: OnnxNetwork, network: Backbone, size: tuple[int, int]) -> float:
    """Largest difference between graph and network on an image of a size, relative to the largest value if above 1."""
    random = np.random.default_rng(0)
    image = torch.from_numpy(random.random((1, 3, *size), dtype=np.float32))
    with torch.inference_mode():
        expected = run_padded(network, image)
        return float((session(image) - expected).abs().max() / expected.abs().max().clamp(min=1))


def _refuse_another(model: onnx.ModelProto, network: Backbone) -> None:
    session = OnnxNetwork(to_bytes(model))
    for size in _CHECKED:
        if min(size) < network.smallest_in_onnx:
            continue
        difference = largest_difference(session, network, size)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{type(network).__name__}: its ONNX graph differs from it by {difference:.2g} of 1 on "
                f"{size[1]}x{size[0]} pixels, {TOLERANCE:g} is allowed. A trace fixes what Python decides or computes "
                "from the input's size: let the network's forward do it with tensors."
            )
