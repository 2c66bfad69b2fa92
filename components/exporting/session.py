"""An ONNX file, run by ONNX Runtime as if it were the network."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from components.run.errors import InputError

INPUT, OUTPUT = "degraded", "restored"
"""Names of the graph's input and output: `1 3 h w` and `1 3 h*scale w*scale`, RGB in [0, 1]."""
SMALLEST = "smallest_side"
"""The fact that says how many pixels a side must have, in a graph that does not take a single pixel."""


class OnnxNetwork:
    """A restoration network in an ONNX file of ours: `1 3 h w` in [0, 1] -> `1 3 h*scale w*scale`, not clamped.

    Attributes:
        facts: what the file says about itself (`components.exporting.facts`).
        scale: output size over input size.

    Args:
        model: the file, or its bytes.
        threads: of one operation; 0 for one per core.
        gpu: whether to compute on a GPU, which needs an ONNX Runtime that can.

    Raises:
        InputError: the file is not an ONNX graph, or not one of ours; or there is no GPU to compute on.
    """

    def __init__(self, model: Path | bytes, threads: int = 0, *, gpu: bool = False) -> None:
        name = model if isinstance(model, Path) else "graph"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if gpu:
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise InputError("this ONNX Runtime has no GPU: install onnxruntime-gpu, or compute on the CPU.")
            providers.insert(0, "CUDAExecutionProvider")
        try:
            content = model.read_bytes() if isinstance(model, Path) else model
            self._session = onnxruntime.InferenceSession(content, options, providers=providers)
        except _broken() as error:
            raise InputError(f"{name}: not a readable ONNX graph ({str(error).splitlines()[0]}).") from None
        self.facts = dict(self._session.get_modelmeta().custom_metadata_map)
        found = [node.name for node in (*self._session.get_inputs(), *self._session.get_outputs())]
        if found != [INPUT, OUTPUT] or not self.facts.get("scale", "").isdecimal():
            raise InputError(f"{name}: an ONNX graph, but not one that this project's `export` wrote.")
        self.scale = int(self.facts["scale"])
        smallest = self.facts.get(SMALLEST, "1")
        self._smallest = int(smallest) if smallest.isdecimal() else 1

    def __call__(self, image: Tensor) -> Tensor:
        """Restore one image of any size.

        Raises:
            InputError: the image is smaller than what the graph takes, according to its facts.
        """
        height, width = image.shape[-2:]
        if min(height, width) < self._smallest:
            raise InputError(f"{width}x{height} pixels: this graph needs at least {self._smallest} a side.")
        values = np.ascontiguousarray(image.cpu().numpy())
        (restored,) = self._session.run([OUTPUT], {INPUT: values})
        return torch.from_numpy(restored).to(image)


def _broken() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises on files that it can't load; the classes share no base but Exception."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
