"""Weights in and out of files: our own, which say what network they belong to, and published checkpoints."""

import json
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.run.errors import InputError
from components.run.files import written_whole
from components.run.params import typed

_DESCRIPTION = "description"
_WRAPPERS = ("params_ema", "params", "state_dict")
_FIXED_LAYERS = ("sub_mean.", "add_mean.")
_SHOWN = 5
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_BROKEN = (
    *(SafetensorError, OSError, RuntimeError, EOFError, ValueError, LookupError),
    *(AttributeError, TypeError, AssertionError, struct.error),
)
"""What safetensors and torch raise on damaged bytes (nothing else in 4,500 files with random damage)."""


def save_network(path: Path, network: nn.Module, description: Mapping[str, Any]) -> None:
    """Write weights as safetensors together with the description they can be rebuilt from.

    The bytes depend on the values only: one metadata key, since several would be written in no fixed order.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    metadata = {_DESCRIPTION: json.dumps(description, sort_keys=True)}
    content = save(tensors, metadata)  # `save_file` reports a full disk as an error of its own kind
    with written_whole(path) as partial:
        partial.write_bytes(content)


def read_description(path: Path) -> dict[str, Any]:
    """The description stored with weights by `save_network`.

    Raises:
        InputError: the file is not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        description: dict[str, Any] = json.loads(metadata[_DESCRIPTION])
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a network stored by this pipeline ({error}).") from None
    return description


def load_backbone(path: Path) -> Backbone:
    """Rebuild a restoration network stored by `save_network`, in evaluation mode.

    Raises:
        InputError: the file is not one of ours, or holds another kind of network.
    """
    description = read_description(path)
    if description.keys() != {"backbone", "scale"}:
        raise InputError(f"{path}: holds no restoration network but: {', '.join(description) or 'nothing'}.")
    network = build_backbone(typed(BackboneChoice, description["backbone"], str(path)), description["scale"])
    tensors = load_file(path)
    _refuse_other_architecture(path, network, tensors)
    network.load_state_dict(tensors)
    return network.eval()


def describe_backbone(choice: BackboneChoice, scale: int) -> dict[str, Any]:
    """The description that `load_backbone` needs."""
    return {"backbone": choice.model_dump(), "scale": scale}


def load_published(network: nn.Module, path: Path, *, ignore: Callable[[str], bool] = lambda _: False) -> str:
    """Load a published checkpoint into `network`, every key and shape checked.

    Reads `.safetensors` and `.pth`/`.pt`/`.ckpt`/`.bin`, unwraps `params_ema`, `params`, `state_dict` and
    `module.` prefixes, and drops the frozen colour-shift layers that our networks hold without parameters.

    Args:
        network: the network to fill.
        path: the checkpoint.
        ignore: keys of the checkpoint to leave out (a decoder that is not needed).

    Returns:
        What format it was, for the log.

    Raises:
        InputError: not a checkpoint, a pickle that would run code, or another architecture (names the first keys
            that are missing, too many or of another shape).
    """
    tensors, found = _read_tensors(path)
    tensors = {
        name: value for name, value in tensors.items() if not name.startswith(_FIXED_LAYERS) and not ignore(name)
    }
    _refuse_other_architecture(path, network, tensors)
    network.load_state_dict(tensors)
    return found


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path), "safetensors"
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such checkpoint. Is its source listed in collections.<task>.checkpoints?"
        ) from None
    except pickle.UnpicklingError as error:
        if foreign := _GLOBAL.search(str(error)):
            raise InputError(
                f"{path}: refused, since it holds more than tensors ({foreign[1]}) and loading it could run code. "
                "Save its state_dict() as .safetensors where you trust it, and name that file."
            ) from None
        raise _unreadable(path, error) from None
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    return _unwrap(path, content)


def _unreadable(path: Path, error: Exception) -> InputError:
    kind = type(error).__name__
    return InputError(f"{path}: not a readable checkpoint: damaged, cut off, or another kind of file ({kind}).")


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor], str]:
    found = "state_dict"
    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content, found = content[wrapper], wrapper
                break
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: expected tensors by name, found {type(content).__name__}.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
        found += " with module. prefix"
    return tensors, found


def _refuse_other_architecture(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    expected = network.state_dict()
    faults = [f"missing {name} {tuple(value.shape)}" for name, value in expected.items() if name not in tensors]
    faults += [f"unexpected {name} {tuple(value.shape)}" for name, value in tensors.items() if name not in expected]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise InputError(
            f"{path}: its weights do not fit {type(network).__name__} as params.yaml describes it: "
            f"{'; '.join(faults[:_SHOWN])}{more}."
        )
