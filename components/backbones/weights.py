"""Reading and writing weights: our own files, which say what network they belong to, and published checkpoints."""

import copy
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.images.matlab_files import read_numbers
from components.run.errors import InputError
from components.run.files import written_whole
from components.run.limits import BombError, allowed_bytes, refuse_costly_checkpoint, refuse_zip_bomb
from components.run.params import typed

LARGEST = 1e6
"""A magnitude that no weight of a trained network reaches: those published for these networks stay below 1000."""

_DESCRIPTION = "description"
_HEADER = 4 << 20  # bytes of names and shapes in a .safetensors; those of ten thousand tensors take one million
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_WRAPPERS = ("params_ema", "params", "state_dict", "model")
_PREFIXES = ("module.", "model.")
_FIXED_LAYERS = ("sub_mean.", "add_mean.")
_SHOWN = 5
_FOREIGN = re.compile(r"GLOBAL (\S+)|persistent_load of storage is allowed")
_BROKEN = (
    *(SafetensorError, OSError, RuntimeError, EOFError, ValueError, LookupError, OverflowError),
    *(AttributeError, TypeError, AssertionError, MemoryError, struct.error, zipfile.BadZipFile, zlib.error),
)
"""What safetensors, torch and numpy raise on damaged bytes (5,500 files with random damage raised nothing else)."""

Network = TypeVar("Network", bound=nn.Module)


def save_network(path: Path, network: nn.Module, description: Mapping[str, Any]) -> None:
    """Write weights as safetensors, together with the description from which the network can be rebuilt.

    A backbone is stored folded. The bytes depend on the values only: there is one metadata key, because several would
    have no fixed order.
    """
    if isinstance(network, Backbone):
        network = copy.deepcopy(network).fold()
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
        _refuse_long_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        description = json.loads(metadata[_DESCRIPTION])
    except (SafetensorError, KeyError, OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"{path}: not a network stored by this pipeline ({why}). Run the stage that makes it."
        ) from None
    if not isinstance(description, dict):
        raise InputError(f"{path}: not a network stored by this pipeline. Run the stage that makes it.")
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
    return load_stored(network.fold(), path)


def load_stored(network: Network, path: Path) -> Network:
    """Fill a network with the weights that `save_network` stored, and return it in evaluation mode.

    Raises:
        InputError: they are of another architecture, or no weights of a trained network.
    """
    _fill(network, _read_tensors(path, ".safetensors")[0], path)
    return network.eval()


def describe_backbone(choice: BackboneChoice, scale: int) -> dict[str, Any]:
    """The description that `load_backbone` needs."""
    return {"backbone": choice.model_dump(), "scale": scale}


def load_published(network: nn.Module, path: Path, *, ignore: Callable[[str], bool] = lambda _: False) -> str:
    """Load a published checkpoint into `network`, every key and shape checked.

    Reads `.safetensors`, `.npz`, `.mat` and `.pth`/`.pt`/`.ckpt`/`.bin`, unwraps `params_ema`, `params`, `state_dict`
    and `model`, removes the prefixes `module.` and `model.`, drops derived buffers and the frozen colour-shift layers,
    which have no parameters here, and translates the names of other releases that the network knows. A backbone is
    folded.

    Args:
        network: the network to fill.
        path: the checkpoint.
        ignore: keys of the checkpoint to leave out (a decoder that is not needed).

    Returns:
        The format of the file, for the log: `params_ema of a .pth, with module. prefix, BasicSR's names`.

    Raises:
        InputError: not a checkpoint, a pickle that would run code, or another architecture (names the first keys
            that are missing, unexpected or of another shape).
    """
    tensors, found = _read_tensors(path, path.suffix)
    if isinstance(network, Backbone):
        network.fold()
    while prefix := _shared_prefix(tensors, network):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        found += f", with {prefix} prefix"
    tensors = {
        name: value for name, value in tensors.items() if not name.startswith(_FIXED_LAYERS) and not ignore(name)
    }
    if isinstance(network, Backbone):
        tensors = {name: value for name, value in tensors.items() if not network.is_derived(name)}
        for layout in network.layouts():
            converted = layout.applied(tensors)
            if len(_faults(network, converted)) < len(_faults(network, tensors)):
                tensors, found = converted, f"{found}, {layout.name} names"
    _fill(network, tensors, path)
    return found


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors that fit the network and are finite: the one way by which weights come in."""
    _refuse_other_architecture(path, network, tensors)
    expected = network.state_dict()
    faults = [fault for name, value in tensors.items() if (fault := _unusable(name, value, expected[name]))]
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise InputError(
            f"{path}: not the weights of a trained network: {'; '.join(faults[:_SHOWN])}{more}. Its training diverged, "
            "or the file is damaged: fetch or train it again."
        )
    network.load_state_dict(tensors)


def _unusable(name: str, value: Tensor, expected: Tensor) -> str:
    """What makes a tensor of the right shape unfit as that weight; empty if nothing does."""
    if value.layout != torch.strided or value.is_meta:
        return f"{name} holds no numbers"
    if (value.dtype not in _FLOATS) if expected.is_floating_point() else (value.dtype != expected.dtype):
        return f"{name} is {value.dtype}, expected {expected.dtype}".replace("torch.", "")
    magnitudes = value.detach().float().abs()
    if not value.numel() or (magnitudes <= LARGEST).all():
        return ""
    return f"{name} holds {magnitudes.max().item():.3g}"  # NaN, if it holds any


def _shared_prefix(tensors: Mapping[str, Tensor], network: nn.Module) -> str:
    """The prefix of all names in a file, unless the network's names begin with it too."""
    for prefix in _PREFIXES:
        ours, theirs = (all(name.startswith(prefix) for name in names) for names in (network.state_dict(), tensors))
        if tensors and theirs and not ours:
            return prefix
    return ""


def _read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], str]:
    try:
        if kind == ".safetensors":
            _refuse_long_header(path)
            return load_file(path), "tensors of a .safetensors"
        if kind == ".npz":
            return _read_arrays(path), "arrays of a .npz"
        if kind == ".mat":
            return _read_matlab(path), "arrays of a .mat"
        refuse_costly_checkpoint(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:  # which is a ValueError
        raise
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such checkpoint. Is its source listed in collections.<task>.checkpoints?"
        ) from None
    except BombError as error:
        raise InputError(f"{path}: refused as a bomb: {error}. Fetch it again, or choose another source.") from None
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    return _unwrap(path, content)


def _refuse_long_header(path: Path) -> None:
    with path.open("rb") as file:
        if _HEADER < int.from_bytes(file.read(8), "little") < path.stat().st_size:
            raise BombError(f"the names and shapes in it have more than {_HEADER} bytes")


def _read_arrays(path: Path) -> dict[str, Tensor]:
    """Arrays of numbers by name; anything else in the file is a pickle, which numpy refuses."""
    with zipfile.ZipFile(path) as archive:
        refuse_zip_bomb(archive, allowed_bytes(path))
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _read_matlab(path: Path) -> dict[str, Tensor]:
    arrays = read_numbers(path)
    return {name: torch.tensor(value.astype(value.dtype.newbyteorder("="))) for name, value in arrays.items()}


def _refused(path: Path, error: pickle.UnpicklingError) -> InputError:
    """Error for what torch does not unpickle; for an undamaged file, the message says what it holds."""
    if foreign := _FOREIGN.search(str(error)):
        held = foreign[1] or "a whole network"
        return InputError(
            f"{path}: refused, because it holds more than tensors ({held}) and loading it could run code. Extract its "
            f"tensors without running any: `python -m components extract_weights --checkpoint {path} --output "
            f"{path.with_suffix('.safetensors').name}`, and name that file."
        )
    return _unreadable(path, error)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"{path}: not a readable checkpoint: {error.strerror}. Fetch it again.")
    return InputError(
        f"{path}: not a readable checkpoint: damaged, cut off, or another kind of file. {how_it_begins(path)}"
    )


def how_it_begins(path: Path) -> str:
    """What to look at and do about a file of weights that can't be read: often it is a server's page."""
    with path.open("rb") as file:
        return f"It begins with {file.read(16)!r}: check its url, and fetch it again."


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
    return tensors, f"{found} of a {path.suffix}"


def _faults(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """How tensors by name differ from what the network holds."""
    expected = network.state_dict()
    faults = [f"missing {name} {tuple(value.shape)}" for name, value in expected.items() if name not in tensors]
    faults += [f"unexpected {name} {tuple(value.shape)}" for name, value in tensors.items() if name not in expected]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    return faults


def _refuse_other_architecture(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    if faults := _faults(network, tensors):
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise InputError(
            f"{path}: its weights do not fit {type(network).__name__} as params.yaml describes it: "
            f"{'; '.join(faults[:_SHOWN])}{more}."
        )
