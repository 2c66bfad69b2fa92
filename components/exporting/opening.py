"""A stored network, ready to restore images of any size, whatever its file format."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from components.backbones.tiling import run_padded
from components.backbones.weights import load_backbone
from components.exporting.session import OnnxNetwork
from components.run.errors import InputError


class Restorer(Protocol):
    """Restores one image, `1 3 h w` in [0, 1] -> `1 3 h*scale w*scale`, not clamped."""

    scale: int

    def __call__(self, image: Tensor) -> Tensor:
        """Restore an image of any size, on the network's device."""
        ...


class TorchNetwork:
    """A network of `components.backbones` with its weights.

    Args:
        path: file that `distill` or `train_teacher` stored.
        device: to compute on.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._network = load_backbone(path).to(device)
        self.scale = self._network.scale

    def __call__(self, image: Tensor) -> Tensor:
        """Restore one image of any size."""
        with torch.inference_mode():
            return run_padded(self._network, image)


def open_network(path: Path, device: str = "cpu", threads: int = 0) -> Restorer:
    """Open a network by its file's ending: `.safetensors` (torch) or `.onnx` (ONNX Runtime).

    Args:
        path: file that `distill`, `train_teacher` or `export` stored.
        device: `cpu` or `cuda`.
        threads: of ONNX Runtime; 0 for one per core.

    Raises:
        InputError: there is no such file, it is of another kind or damaged, or there is no such device.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. A network is stored by `dvc repro distill` or `dvc repro export`.")
    if path.suffix == ".onnx":
        return OnnxNetwork(path, threads, gpu=device == "cuda")
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a network's file ends with .safetensors or .onnx.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use: write --device cpu.")
    return TorchNetwork(path, torch.device(device))
