"""Checkpoints that are none, that are damaged, or that would run code."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.backbones.edsr import Edsr
from components.backbones.weights import load_published
from components.run.errors import InputError


def edsr() -> Edsr:
    return Edsr(2, channels=4, blocks=1)


def official() -> dict[str, Tensor]:
    state: dict[str, Tensor] = edsr().state_dict()
    return state


class Harmful:
    """Runs code where it is unpickled: creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class TestUnsafeAndBroken:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        """What unpickling would create; here it is shown that it really would."""
        target = tmp_path / "created"
        pickle.loads(pickle.dumps(Harmful(target)))  # noqa: S301 - our own
        assert target.exists()
        target.unlink()
        return target

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("beside", [True, False], ids=["beside tensors", "alone"])
    def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
        self, beside: bool, zipped: bool, target: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "edsr.pt"
        content = {"state_dict": official(), "epoch": Harmful(target)} if beside else Harmful(target)
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError) as caught:
            load_published(edsr(), path)
        assert not target.exists()
        assert str(caught.value) == (
            f"{path}: refused, because it holds more than tensors (posix.system) and loading it could run code. "
            f"Extract its tensors without running any: `python -m components extract_weights --checkpoint {path} "
            "--output edsr.safetensors`, and name that file."
        )

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
    def test_a_bare_pickle_is_refused_and_does_not_run(self, protocol: int, target: Path, tmp_path: Path) -> None:
        (tmp_path / "edsr.pt").write_bytes(pickle.dumps(Harmful(target), protocol))
        with pytest.raises(InputError, match=r"edsr\.pt: "):
            load_published(edsr(), tmp_path / "edsr.pt")
        assert not target.exists()

    def test_a_whole_pickled_network_is_refused_with_its_class(self, tmp_path: Path) -> None:
        torch.save(edsr(), tmp_path / "edsr.pt")
        with pytest.raises(InputError, match=r"more than tensors \(components\.backbones\.edsr\.Edsr\)"):
            load_published(edsr(), tmp_path / "edsr.pt")

    @pytest.mark.parametrize("form", ["zip.pt", "legacy.pt", "edsr.safetensors", "edsr.npz"])
    def test_a_file_cut_off_anywhere_is_refused(self, form: str, tmp_path: Path) -> None:
        """A cut through the name of a class leaves the name of another, which is refused as such."""
        path = tmp_path / form
        if path.suffix == ".safetensors":
            save_file(official(), path)
        elif path.suffix == ".npz":
            np.savez(path, **{name: value.numpy() for name, value in official().items()})
        else:
            torch.save(official(), path, _use_new_zipfile_serialization=form == "zip.pt")
        whole = path.read_bytes()
        for length in [0, 1, 2, 8, 100, *range(200, len(whole), 97), len(whole) - 300, len(whole) - 1]:
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=f"{form}: (not a readable checkpoint: damaged, cut off|refused)"):
                load_published(edsr(), path)

    @pytest.mark.parametrize("text", ["<!DOCTYPE html>\n", "hello, this is no checkpoint\n", "no\n", ".", "{}"])
    @pytest.mark.parametrize("suffix", ["pt", "safetensors", "npz"])
    def test_a_text_is_refused_as_no_checkpoint(self, suffix: str, text: str, tmp_path: Path) -> None:
        (tmp_path / f"edsr.{suffix}").write_text(text)
        with pytest.raises(InputError, match=f"edsr.{suffix}: not a readable checkpoint: damaged, cut off, or another"):
            load_published(edsr(), tmp_path / f"edsr.{suffix}")

    @pytest.mark.parametrize("suffix", ["pt", "safetensors", "npz"])
    def test_a_missing_file_says_where_it_would_be_listed(self, suffix: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=f"edsr.{suffix}: no such checkpoint. Is its source listed in collections"):
            load_published(edsr(), tmp_path / f"edsr.{suffix}")

    @pytest.mark.parametrize("suffix", ["pt", "safetensors", "npz"])
    def test_a_folder_is_refused(self, suffix: str, tmp_path: Path) -> None:
        (tmp_path / f"edsr.{suffix}").mkdir()
        with pytest.raises(InputError, match=f"edsr.{suffix}: not a readable checkpoint"):
            load_published(edsr(), tmp_path / f"edsr.{suffix}")

    @pytest.mark.parametrize(("content", "found"), [([torch.ones(3)], "list"), (torch.ones(3), "Tensor"), ({}, "dict")])
    def test_what_holds_no_tensors_by_name_is_refused(self, content: object, found: str, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "edsr.pt")
        with pytest.raises(InputError, match=f"edsr.pt: expected tensors by name, found {found}"):
            load_published(edsr(), tmp_path / "edsr.pt")

    @pytest.mark.parametrize("compressed", [True, False])
    def test_arrays_changed_anywhere_are_refused_or_another_architecture(
        self, compressed: bool, tmp_path: Path
    ) -> None:
        path = tmp_path / "edsr.npz"
        (np.savez_compressed if compressed else np.savez)(path, **{k: v.numpy() for k, v in official().items()})
        whole = path.read_bytes()
        for place in range(0, len(whole), 41):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            with contextlib.suppress(InputError):  # a changed date of a member changes nothing
                load_published(edsr(), path)

    def test_arrays_of_objects_are_refused_and_do_not_run(self, target: Path, tmp_path: Path) -> None:
        path = tmp_path / "edsr.npz"
        np.savez(path, harm=np.array([Harmful(target)], dtype=object))
        with pytest.raises(InputError, match=r"edsr\.npz: not a readable checkpoint"):
            load_published(edsr(), path)
        assert not target.exists()

    def test_one_array_alone_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "edsr.npz").open("wb") as file:
            np.save(file, np.ones(3))
        with pytest.raises(InputError, match=r"edsr\.npz: not a readable checkpoint"):
            load_published(edsr(), tmp_path / "edsr.npz")

    def test_arrays_of_words_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "edsr.npz", names=np.array(["head"]))
        with pytest.raises(InputError, match=r"edsr\.npz: not a readable checkpoint"):
            load_published(edsr(), tmp_path / "edsr.npz")
