"""Tensors out of pickled networks: all of them, and nothing that such a file names is run."""

import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from components.backbones.rcan import Rcan
from components.backbones.weights import load_published
from components.extract_weights import extract_weights
from components.run.errors import InputError
from components.use.pickled_modules import pickled_tensors
from tests.backbones.test_broken_weights import Harmful
from tests.closed_form import fill

ROOT = Path(__file__).parents[2]


def rcan() -> Rcan:
    network = Rcan(2, channels=8, groups=2, blocks=1, reduction=4)
    fill(network)
    return network


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
class TestTensors:
    def save(self, content: Any, path: Path, zipped: bool) -> Path:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        return path

    def test_of_a_whole_network_are_those_of_its_state_dict(self, zipped: bool, tmp_path: Path) -> None:
        """Buffers that are not stored (the colour shift) are left out as there."""
        network = rcan()
        assert_same(pickled_tensors(self.save(network, tmp_path / "rcan.pt", zipped)), network.state_dict())

    def test_of_every_kind_come_back_as_they_are(self, zipped: bool, tmp_path: Path) -> None:
        normalised = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU()).double()
        normalised[0].weight.data = normalised[0].weight.data.half().to(memory_format=torch.channels_last)
        normalised.register_buffer("view", torch.arange(24)[4:].view(4, 5)[1:3, ::2].T)
        path = self.save({"epoch": 3, "nets": {"g": normalised}}, tmp_path / "nets.pt", zipped)
        expected = {f"nets.g.{name}": value for name, value in normalised.state_dict().items()}
        found = pickled_tensors(path)
        assert {name: (value.dtype, value.shape) for name, value in found.items()} == {
            name: (value.dtype, value.shape) for name, value in expected.items()
        }
        assert all(torch.equal(found[name], value) for name, value in expected.items())

    def test_of_dicts_are_found_beside_foreign_objects(self, zipped: bool, tmp_path: Path) -> None:
        state = OrderedDict(rcan().state_dict())
        content = {"state_dict": state, "arguments": Path("of a foreign class"), "losses": [torch.ones(2)]}
        found = pickled_tensors(self.save(content, tmp_path / "rcan.pt", zipped))
        assert_same(found, {f"state_dict.{name}": value for name, value in state.items()})

    def test_what_it_names_does_not_run(self, zipped: bool, tmp_path: Path) -> None:
        network, target = rcan(), tmp_path / "created"
        path = self.save(
            {"net": network, "harm": Harmful(target), "more": [Harmful(target)]}, tmp_path / "x.pt", zipped
        )
        assert len(pickled_tensors(path)) == len(network.state_dict())
        assert not target.exists()
        torch.load(path, weights_only=False)
        assert target.exists(), "it would have"

    def test_a_file_cut_off_or_changed_anywhere_is_refused_or_read(self, zipped: bool, tmp_path: Path) -> None:
        whole = self.save(rcan(), tmp_path / "rcan.pt", zipped).read_bytes()
        path = tmp_path / "broken.pt"
        for length in [0, 1, 8, 100, *range(200, len(whole) - 1, 997)]:
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=r"broken\.pt: not readable as a file of torch\.save"):
                pickled_tensors(path)
        for place in range(0, min(len(whole), 12000), 97):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            try:
                pickled_tensors(path)
            except InputError as error:
                assert "broken.pt: " in str(error)  # noqa: PT017 - a file may be read all the same


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    target, path = tmp_path / "created", tmp_path / "rcan.pt"
    path.write_bytes(pickle.dumps(Harmful(target), protocol))
    with pytest.raises(InputError, match="not readable as a file of torch"):
        pickled_tensors(path)
    assert not target.exists()


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    """Larger than what is stored: reading on would show the process's own memory."""
    path, changed = tmp_path / "net.pt", tmp_path / "changed.pt"
    torch.save({"weight": torch.ones(7, 9), "foreign": Path()}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(changed, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            copy.writestr(name, content.replace(b"K\x07K\x09", b"K\x77K\x09") if name.endswith("data.pkl") else content)
    with pytest.raises(InputError, match="not readable as a file of torch"):
        pickled_tensors(changed)


def test_what_holds_no_tensors_by_name_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list\.pt: holds no tensors by name"):
        pickled_tensors(tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"none\.pt: no such checkpoint"):
        pickled_tensors(tmp_path / "none.pt")


def test_the_command_that_a_refusal_names_makes_a_file_that_loads(tmp_path: Path) -> None:
    network, other, path = rcan(), Rcan(2, channels=8, groups=2, blocks=1, reduction=4), tmp_path / "rcan.pt"
    torch.save({"epoch": 3, "model": nn.DataParallel(network)}, path)
    with pytest.raises(InputError, match="holds more than tensors") as refused:
        load_published(other, path)
    command = str(refused.value).split("`")[1].split()
    assert command[:4] == ["python", "-m", "components", "extract_weights"]
    arguments = dict(zip(command[4::2], command[5::2], strict=True))
    extract_weights(Path(arguments["--checkpoint"]), tmp_path / arguments["--output"])
    told = load_published(other, tmp_path / "rcan.safetensors")
    assert told == "tensors of a .safetensors, with model. prefix, with module. prefix"
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


def test_the_command_runs_from_the_projects_folder(tmp_path: Path) -> None:
    torch.save(rcan(), tmp_path / "rcan.pt")
    words = ["--checkpoint", str(tmp_path / "rcan.pt"), "--output", str(tmp_path / "rcan.safetensors")]
    told = subprocess.run(
        [sys.executable, "-m", "components", "extract_weights", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert f"wrote {len(rcan().state_dict())} tensors to {tmp_path / 'rcan.safetensors'}" in told
    assert load_file(tmp_path / "rcan.safetensors").keys() == rcan().state_dict().keys()
