import os
import resource
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    shift = {
        f"{layer}.{name}": torch.ones(shape)
        for layer in ("sub_mean", "add_mean")
        for name, shape in (("weight", (3, 3, 1, 1)), ("bias", (3,)))
    }
    return {"sub_mean.weight": shift["sub_mean.weight"], **source.state_dict(), **shift}


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


# Name of the format, what it wraps around the tensors, what the log says.
WRAPPED: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "plain": (lambda state: state, "state_dict"),
    "ordered": (OrderedDict, "state_dict"),
    "params": (lambda state: {"params": state}, "params"),
    "params_ema": (lambda state: {"params": zeroed(state), "params_ema": state}, "params_ema"),
    "state_dict": (lambda state: {"epoch": 3, "state_dict": state, "lr": 1e-4}, "state_dict"),
    "module": (
        lambda state: {f"module.{name}": value for name, value in state.items()},
        "state_dict with module. prefix",
    ),
    "both": (
        lambda state: {"params": {f"module.{name}": value for name, value in state.items()}},
        "params with module. prefix",
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
        assert load_published(network, path) == "safetensors"
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
        basicsr = {"conv_first.weight": torch.ones(4, 3, 3, 3), "conv_first.bias": torch.ones(4)}
        message = self.refused(basicsr, tmp_path / "basicsr.pt")
        assert "missing head.0.weight (4, 3, 3, 3)" in message
        only = self.refused(official() | basicsr, tmp_path / "both.pt")
        assert only.endswith("unexpected conv_first.weight (4, 3, 3, 3); unexpected conv_first.bias (4,).")

    def test_another_scale_is_named(self, tmp_path: Path) -> None:
        message = self.refused(Edsr(3, channels=4, blocks=1).state_dict(), tmp_path / "x3.pt")
        assert "tail.0.0.weight has shape (36, 4, 3, 3), expected (16, 4, 3, 3)" in message
