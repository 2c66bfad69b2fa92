import os
import re
import resource
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from components.backbones import BackboneChoice
from components.backbones.backbone import Backbone
from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from components.backbones.weights import (
    describe_backbone,
    load_backbone,
    load_published,
    read_description,
    save_network,
)
from components.run.errors import InputError
from tests.closed_form import fill

ROOT = Path(__file__).parents[2]
CHOICE = BackboneChoice.model_validate({"name": "rcan", "channels": 8, "groups": 2, "blocks": 1, "reduction": 4})

SAVE = """
import sys
from pathlib import Path
from components.backbones import BackboneChoice, build_backbone
from components.backbones.weights import describe_backbone, save_network
from tests.closed_form import fill

choice = BackboneChoice.model_validate({"name": "rcan", "channels": 8, "groups": 2, "blocks": 1, "reduction": 4})
network = build_backbone(choice, 3)
fill(network)
save_network(Path(sys.argv[1]), network, describe_backbone(choice, 3))
"""


def edsr() -> Edsr:
    return Edsr(2, channels=4, blocks=1)


def official() -> dict[str, Tensor]:
    """An official EDSR state: our names, and the frozen colour shift that ours hold without parameters."""
    source = edsr()
    fill(source)
    shift = official_shift()
    return {"sub_mean.weight": shift["sub_mean.weight"], **source.state_dict(), **shift}


def official_shift() -> dict[str, Tensor]:
    return {
        f"{layer}.{name}": torch.ones(shape)
        for layer in ("sub_mean", "add_mean")
        for name, shape in (("weight", (3, 3, 1, 1)), ("bias", (3,)))
    }


def assert_same(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


def zeroed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) for name, value in state.items()}


class TestOwnFiles:
    """What `save_network` writes."""

    @pytest.fixture
    def network(self) -> Rcan:
        network = Rcan(3, channels=8, groups=2, blocks=1, reduction=4)
        fill(network)
        return network

    def test_a_network_comes_back_as_it_was(self, network: Rcan, tmp_path: Path) -> None:
        save_network(tmp_path / "student.safetensors", network, describe_backbone(CHOICE, 3))
        loaded = load_backbone(tmp_path / "student.safetensors")
        assert isinstance(loaded, Rcan)
        assert (loaded.scale, loaded.depth) == (3, 2)
        assert_same(loaded, network)
        assert not loaded.training
        image = torch.rand(1, 3, 6, 7)
        assert torch.equal(loaded(image), network.eval()(image))

    def test_bytes_are_the_same_in_every_process(self, network: Rcan, tmp_path: Path) -> None:
        for seed in ("1", "2"):
            subprocess.run(
                [sys.executable, "-c", SAVE, str(tmp_path / seed)],
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": seed},
                check=True,
            )
        save_network(tmp_path / "here", network, describe_backbone(CHOICE, 3))
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "here").read_bytes()

    def test_bytes_depend_on_no_order_of_the_description(self, tmp_path: Path) -> None:
        network = edsr()
        save_network(tmp_path / "one", network, {"a": 1, "b": {"c": 2, "d": 3}})
        save_network(tmp_path / "two", network, {"b": {"d": 3, "c": 2}, "a": 1})
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()

    def test_a_network_of_another_kind_is_refused(self, network: Rcan, tmp_path: Path) -> None:
        """Two flags of a command line mixed up."""
        save_network(tmp_path / "encoder", network, {"encoder": {"channels": 8}})
        with pytest.raises(InputError, match=r"encoder: holds no restoration network but: encoder\."):
            load_backbone(tmp_path / "encoder")

    def test_weights_that_do_not_fit_their_description_are_refused(self, network: Rcan, tmp_path: Path) -> None:
        save_network(tmp_path / "student", network, describe_backbone(CHOICE, 2))
        with pytest.raises(InputError, match=r"weights do not fit Rcan .*tail\.0\.0\.weight has shape \(72,"):
            load_backbone(tmp_path / "student")

    def test_a_published_file_is_none_of_ours(self, tmp_path: Path) -> None:
        save_file(official(), tmp_path / "bare.safetensors")
        save_file(official(), tmp_path / "told.safetensors", {"description": "EDSR, downloaded"})
        for name in ("bare", "told"):
            with pytest.raises(InputError, match=f"{name}.safetensors: not a network stored by this pipeline"):
                read_description(tmp_path / f"{name}.safetensors")

    @pytest.mark.parametrize("content", [b"", b"text\n" * 20, None], ids=["empty", "text", "missing"])
    def test_what_is_no_file_of_weights_is_refused(self, content: bytes | None, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "student").write_bytes(content)
        with pytest.raises(InputError, match="student: not a network stored by this pipeline"):
            load_backbone(tmp_path / "student")

    def test_a_full_disk_is_an_error_of_the_disk_and_nothing_stays(self, network: Rcan, tmp_path: Path) -> None:
        """So that a step ends with a message and 2: safetensors itself reports it as an error of the format."""
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                save_network(tmp_path / "student", network, describe_backbone(CHOICE, 3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert caught.value.filename == str(tmp_path / "student")
        assert list(tmp_path.iterdir()) == []


BASICSR: dict[str, tuple[Callable[[int], Backbone], list[str]]] = {
    "edsr": (
        lambda scale: Edsr(scale, channels=4, blocks=2),
        ["body.0.conv1", "body.0.conv2", "body.1.conv1", "body.1.conv2"],
    ),
    "rcan": (
        lambda scale: Rcan(scale, channels=8, groups=2, blocks=2, reduction=4),
        [
            f"body.{group}.{layer}"
            for group in (0, 1)
            for layer in (
                *(
                    f"residual_group.{block}.rcab.{inside}"
                    for block in (0, 1)
                    for inside in ("0", "2", "3.attention.1", "3.attention.3")
                ),
                "conv",
            )
        ],
    ),
}
"""Networks, and the names of their bodies in XPixelGroup/BasicSR, commit 8d56e3a (`edsr_arch.py`, `rcan_arch.py`)."""


def basicsr_names(name: str, scale: int) -> list[str]:
    """BasicSR's names in its order, which is ours."""
    upsampling = ["upsample.0", "upsample.2"] if scale == 4 else ["upsample.0"]
    layers = ["conv_first", *BASICSR[name][1], "conv_after_body", *upsampling, "conv_last"]
    return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def fakd_edsr(key: str, blocks: int) -> str:
    """The three parts of FAKD's body end after `int(n/3)`, `int(2*n/3)` and all blocks."""
    if not key.startswith("body."):
        return key
    place, rest = key.removeprefix("body.").split(".", 1)
    part = sum(int(place) >= end for end in (int(blocks / 3), int(2 * blocks / 3)))
    return f"body{part + 1}.{int(place) - (0, int(blocks / 3), int(2 * blocks / 3))[part]}.{rest}"


def fakd_rcan(key: str, groups: int) -> str:
    return (
        key.replace(f"body.{groups}.", "body_tail.", 1)
        if key.startswith(f"body.{groups}.")
        else re.sub(r"^body\.(\d+)\.", r"body_group\1.", key)
    )


FAKD: dict[str, tuple[Callable[[int], Backbone], Callable[[str, int], str]]] = {
    "edsr": (lambda blocks: Edsr(2, channels=4, blocks=blocks), fakd_edsr),
    "rcan": (lambda groups: Rcan(2, channels=8, groups=groups, blocks=2, reduction=4), fakd_rcan),
}
"""Networks of so many blocks or groups, and their names in Vincent-Hoo/Knowledge-Distillation-for-Super-resolution,
commit 589d35f (`code/models`)."""


# Name of the format, what it wraps around the tensors, what the log says.
WRAPPED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "plain": (lambda state: state, "state_dict of a .pt"),
    "ordered": (OrderedDict, "state_dict of a .pt"),
    "params": (lambda state: {"params": state}, "params of a .pt"),
    "params_ema": (lambda state: {"params": zeroed(state), "params_ema": state}, "params_ema of a .pt"),
    "state_dict": (lambda state: {"epoch": 3, "state_dict": state, "lr": 1e-4}, "state_dict of a .pt"),
    "model": (lambda state: {"model": state, "optimizer": {"state": {}}}, "model of a .pt"),
    "module": (
        lambda state: {f"module.{name}": value for name, value in state.items()},
        "state_dict of a .pt, with module. prefix",
    ),
    "both": (
        lambda state: {"params": {f"module.{name}": value for name, value in state.items()}},
        "params of a .pt, with module. prefix",
    ),
}


class TestPublishedFiles:
    """Official formats, under the official names."""

    @pytest.fixture
    def expected(self) -> Backbone:
        network = edsr()
        fill(network)
        return network

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
    @pytest.mark.parametrize("form", WRAPPED)
    def test_every_wrapping_is_undone(self, form: str, zipped: bool, expected: Backbone, tmp_path: Path) -> None:
        wrap, told = WRAPPED[form]
        network, path = edsr(), tmp_path / "edsr.pt"
        torch.save(wrap(official()), path, _use_new_zipfile_serialization=zipped)
        assert load_published(network, path) == told
        assert_same(network, expected)

    @pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt", "bin"])
    def test_the_name_of_a_torch_file_does_not_matter(self, suffix: str, expected: Backbone, tmp_path: Path) -> None:
        network, path = edsr(), tmp_path / f"edsr.{suffix}"
        torch.save(official(), path)
        load_published(network, path)
        assert_same(network, expected)

    def test_safetensors(self, expected: Backbone, tmp_path: Path) -> None:
        network, path = edsr(), tmp_path / "edsr.safetensors"
        save_file(official(), path)
        assert load_published(network, path) == "tensors of a .safetensors"
        assert_same(network, expected)

    @pytest.mark.parametrize("prefix", ["", "model.", "module."])
    def test_npz(self, prefix: str, expected: Backbone, tmp_path: Path) -> None:
        network, path = edsr(), tmp_path / "edsr.npz"
        np.savez(path, **{f"{prefix}{name}": value.numpy() for name, value in official().items()})
        assert load_published(network, path) == f"arrays of a .npz{f', with {prefix} prefix' if prefix else ''}"
        assert_same(network, expected)

    @pytest.mark.parametrize("scale", [2, 3, 4])
    @pytest.mark.parametrize("name", BASICSR)
    def test_basicsrs_names(self, name: str, scale: int, tmp_path: Path) -> None:
        network, expected = BASICSR[name][0](scale), BASICSR[name][0](scale)
        fill(expected)
        ours = expected.state_dict()
        theirs = {basicsr: ours[own] for own, basicsr in zip(ours, basicsr_names(name, scale), strict=True)}
        torch.save({"params": zeroed(theirs), "params_ema": prefixed(theirs)}, tmp_path / "net_g.pth")
        told = load_published(network, tmp_path / "net_g.pth")
        assert told == "params_ema of a .pth, with module. prefix, BasicSR's names"
        assert_same(network, expected)

    @pytest.mark.parametrize("blocks", [1, 2, 4])
    @pytest.mark.parametrize("name", FAKD)
    def test_names_of_fakds_students(self, name: str, blocks: int, tmp_path: Path) -> None:
        network, expected = FAKD[name][0](blocks), FAKD[name][0](blocks)
        fill(expected)
        theirs = {
            FAKD[name][1](key, blocks): value for key, value in (official_shift() | expected.state_dict()).items()
        }
        torch.save(theirs, tmp_path / "model_best.pt")
        assert load_published(network, tmp_path / "model_best.pt") == "state_dict of a .pt, FAKD's names"
        assert_same(network, expected)

    def test_what_a_network_calls_derived_is_left_out(self, expected: Backbone, tmp_path: Path) -> None:
        class Windowed(Edsr):
            @classmethod
            def is_derived(cls, name: str) -> bool:
                return name.endswith(".attn_mask")

        network = Windowed(2, channels=4, blocks=1)
        torch.save(official() | {"body.0.attn_mask": torch.ones(2)}, tmp_path / "edsr.pt")
        load_published(network, tmp_path / "edsr.pt")
        assert_same(network, expected)

    def test_a_file_without_the_colour_shift(self, expected: Backbone, tmp_path: Path) -> None:
        network = edsr()
        torch.save(expected.state_dict(), tmp_path / "edsr.pt")
        load_published(network, tmp_path / "edsr.pt")
        assert_same(network, expected)

    def test_tensors_of_a_gpu_or_of_half_precision_become_the_networks_own(self, tmp_path: Path) -> None:
        network = edsr()
        torch.save({name: value.half() for name, value in official().items()}, tmp_path / "edsr.pt")
        load_published(network, tmp_path / "edsr.pt")
        assert {value.dtype for value in network.parameters()} == {torch.float32}


class TestAnotherArchitecture:
    def refused(self, state: dict[str, Tensor], path: Path) -> str:
        network = edsr()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        torch.save(state, path)
        with pytest.raises(InputError) as caught:
            load_published(network, path)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "half loaded"
        return str(caught.value)

    def test_first_differing_shapes_are_named(self, tmp_path: Path) -> None:
        message = self.refused(Edsr(2, channels=6, blocks=1).state_dict(), tmp_path / "wide.pt")
        assert message.startswith(f"{tmp_path / 'wide.pt'}: its weights do not fit Edsr as params.yaml describes it: ")
        assert "head.0.weight has shape (6, 3, 3, 3), expected (4, 3, 3, 3); " in message
        assert message.endswith(", and 6 more.")

    def test_missing_keys_are_named(self, tmp_path: Path) -> None:
        state = official()
        del state["body.0.body.2.bias"], state["tail.1.weight"]
        message = self.refused(state, tmp_path / "short.pt")
        assert message.endswith("describes it: missing body.0.body.2.bias (4,); missing tail.1.weight (3, 4, 3, 3).")

    def test_keys_too_many_are_named(self, tmp_path: Path) -> None:
        message = self.refused(Edsr(2, channels=4, blocks=3).state_dict(), tmp_path / "deep.pt")
        assert "unexpected body.1.body.0.weight (4, 4, 3, 3); " in message

    def test_another_family_is_named_by_both_sides(self, tmp_path: Path) -> None:
        family = {"features.0.weight": torch.ones(4, 3, 3, 3), "features.0.bias": torch.ones(4)}
        message = self.refused(family, tmp_path / "family.pt")
        assert "missing head.0.weight (4, 3, 3, 3)" in message
        only = self.refused(official() | family, tmp_path / "both.pt")
        assert only.endswith("unexpected features.0.weight (4, 3, 3, 3); unexpected features.0.bias (4,).")

    def test_another_releases_names_are_told_apart_from_another_size(self, tmp_path: Path) -> None:
        """Only what still differs under the names that are nearest."""
        network = Edsr(2, channels=4, blocks=2)
        names = basicsr_names("edsr", 2)
        theirs = dict(zip(names, network.state_dict().values(), strict=True))
        message = self.refused(theirs, tmp_path / "deep.pt")
        assert "unexpected body.1.body.0.weight (4, 4, 3, 3)" in message
        assert "conv_first" not in message

    def test_another_scale_is_named(self, tmp_path: Path) -> None:
        message = self.refused(Edsr(3, channels=4, blocks=1).state_dict(), tmp_path / "x3.pt")
        assert "tail.0.0.weight has shape (36, 4, 3, 3), expected (16, 4, 3, 3)" in message
