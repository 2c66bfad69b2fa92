"""Checkpoints that are none, that are damaged, that would run code, or that no training can have made."""

import contextlib
import math
import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.backbones.edsr import Edsr
from components.backbones.weights import load_published
from components.extract_weights import extract_weights, main
from components.run import limits
from components.run.errors import InputError
from components.use import pickled_modules
from tests.bounded import Ended, bounded


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


UNUSABLE = {
    "NaN": (lambda value: value * math.nan, "head.0.weight holds nan"),
    "infinity": (lambda value: value / 0, "head.0.weight holds (inf|nan)"),
    "1e30": (lambda value: value.fill_(-1e30), "head.0.weight holds 1e[+]30"),
    "1e300": (lambda value: value.double().fill_(1e300), "head.0.weight holds inf"),
    "infinity in half precision": (lambda value: value.half().fill_(1) / 0, "head.0.weight holds inf"),
    "whole numbers": (lambda value: value.long(), "head.0.weight is int64, expected float32"),
    "bytes": (lambda value: value.byte(), "head.0.weight is uint8, expected float32"),
    "truth values": (lambda value: value.bool(), "head.0.weight is bool, expected float32"),
    "complex numbers": (lambda value: value.cfloat(), "head.0.weight is complex64, expected float32"),
    "nothing": (lambda value: value.to_sparse(), "head.0.weight holds no numbers"),
    "no place": (lambda value: value.to("meta"), "head.0.weight holds no numbers"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_weights_that_no_training_can_have_made_are_refused(kind: str, tmp_path: Path) -> None:
    change, reason = UNUSABLE[kind]
    state = official()
    torch.save(state | {"head.0.weight": change(state["head.0.weight"].clone())}, tmp_path / "edsr.pt")
    with pytest.raises(InputError, match=rf"edsr\.pt: not the weights of a trained network: {reason}"):
        load_published(edsr(), tmp_path / "edsr.pt")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_every_form_of_checkpoint_is_looked_through(suffix: str, tmp_path: Path) -> None:
    state = official()
    state["tail.0.0.bias"][3] = math.nan
    path = tmp_path / f"edsr.{suffix}"
    if suffix == "npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        save_file(state, path)
    with pytest.raises(InputError, match=r"trained network: tail\.0\.0\.bias holds nan\. .*fetch or train it again"):
        load_published(edsr(), path)


def test_half_precision_is_read(tmp_path: Path) -> None:
    torch.save({name: value.bfloat16() for name, value in official().items()}, tmp_path / "edsr.pt")
    assert load_published(edsr(), tmp_path / "edsr.pt") == "state_dict of a .pt"


def torch_zip(path: Path, pickled: bytes, numbers: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3")
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", numbers)


def bzip2_in_a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def tar_with_a_large_header(path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))


def dicts_in_dicts(path: Path) -> None:
    held: dict[str, Any] = {"x": 1}
    for _ in range(40):
        held = {"a": held, "b": held}
    torch.save(held, path)


def many_tensors_of_one(path: Path) -> None:
    one = torch.zeros(1 << 18)
    torch.save({f"t{index}": one for index in range(1000)}, path)


def classes(path: Path) -> None:
    torch_zip(path, b"(" + b"".join(b"cm\nk%d\n0" % index for index in range(101)) + b"t.")


REMEMBERED = b"\x80\x02Nr\xff\xff\xff\x0f."
BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "numbers of a zip": (lambda path: torch_zip(path, pickle.dumps({}), bytes(80 << 20)), "unpacked, it has more than"),
    "pickle of a zip": (lambda path: torch_zip(path, bytes(80 << 20)), "unpacked, it has more than 100 times its size"),
    "bzip2 in a zip": (bzip2_in_a_zip, "unpacked, it has more than 100 times its size"),
    "ten bytes": (lambda path: path.write_bytes(REMEMBERED), "its pickle has, or asks for, more than 20000 objects"),
    "ten bytes in a zip": (lambda path: torch_zip(path, REMEMBERED), "its pickle has, or asks for, more than 20000"),
    "empty sets": (lambda path: torch_zip(path, b"\x80\x04(" + b"\x8f" * 21_000 + b"t."), "its pickle has, or asks"),
    "a tar": (tar_with_a_large_header, "damaged, cut off, or another kind of file. It begins with b'pax"),
}
OF_EXTRACTION: dict[str, tuple[Callable[[Path], None], str]] = BOMBS | {
    "dicts in dicts": (dicts_in_dicts, "its dicts lead to more than 20000 objects"),
    "many tensors of one": (many_tensors_of_one, "many of its tensors are made of the same numbers"),
    "classes": (classes, "it names more than 100 classes"),
}


@pytest.fixture
def _low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are reached soon; a fork has them too."""
    monkeypatch.setattr(limits, "OPERATIONS", 20_000)
    monkeypatch.setattr(pickled_modules, "OPERATIONS", 20_000)
    monkeypatch.setattr(pickled_modules, "_KINDS", 100)


def assert_cheaply_refused(ended: Ended, reason: str) -> None:
    assert isinstance(ended.error, InputError), ended
    assert re.search(rf"net\.\w+: .*{reason}", str(ended.error))
    assert ended.seconds < 60
    assert ended.memory < 500 << 20


@pytest.mark.usefixtures("_low_limits")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    write, reason = BOMBS[kind]
    write(tmp_path / "net.pth")
    assert_cheaply_refused(bounded(load_published, edsr(), tmp_path / "net.pth"), reason)


def test_a_bomb_of_arrays_or_of_names_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "net.npz", zeros=np.zeros(80 << 20, np.uint8))
    assert_cheaply_refused(
        bounded(load_published, edsr(), tmp_path / "net.npz"), "unpacked, it has more than 100 times"
    )
    header = b"{" + b" " * (5 << 20) + b"}"
    (tmp_path / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    ended = bounded(load_published, edsr(), tmp_path / "net.safetensors")
    assert_cheaply_refused(ended, "the names and shapes in it have more than 4194304 bytes")


@pytest.mark.usefixtures("_low_limits")
@pytest.mark.parametrize("kind", OF_EXTRACTION)
def test_the_command_that_extracts_refuses_a_bomb_and_writes_nothing(kind: str, tmp_path: Path) -> None:
    write, reason = OF_EXTRACTION[kind]
    write(tmp_path / "net.pth")
    assert_cheaply_refused(bounded(extract_weights, tmp_path / "net.pth", tmp_path / "out.safetensors"), reason)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def test_the_command_that_extracts_ends_with_2_and_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.pth").write_text("<!DOCTYPE html>")
    with pytest.raises(SystemExit) as ended:
        main(["--checkpoint", str(tmp_path / "net.pth"), "--output", str(tmp_path / "out.safetensors")])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'net.pth'}: not readable as a file of torch.save: damaged, cut off, or another kind of "
        "file. It begins with b'<!DOCTYPE html>': check its url, and fetch it again.\n"
    )
