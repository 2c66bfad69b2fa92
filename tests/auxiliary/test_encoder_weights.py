from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components.auxiliary.encoder_weights import load_encoder, load_released_encoder
from components.auxiliary.vqgan import VqganEncoder
from components.backbones import BackboneChoice
from components.backbones.edsr import Edsr
from components.backbones.weights import describe_backbone, save_network
from components.run.errors import InputError
from tests.closed_form import fill

ENCODER: dict[str, Any] = {
    "channels": 4,
    "multipliers": (1, 2),
    "blocks": 1,
    "latent": 4,
    "codes": 8,
    "code_size": 4,
    "groups": 2,
}


def small_encoder() -> VqganEncoder:
    return VqganEncoder(**ENCODER)


def assert_same(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_an_encoder_comes_back_as_it_was(tmp_path: Path) -> None:
    encoder = small_encoder()
    fill(encoder)
    save_network(tmp_path / "encoder.safetensors", encoder, {"encoder": ENCODER})
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert_same(loaded, encoder)
    assert not loaded.training


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Two flags of a command line mixed up."""
    choice = BackboneChoice.model_validate({"name": "edsr", "channels": 4, "blocks": 1})
    save_network(tmp_path / "student", Edsr(2, channels=4, blocks=1), describe_backbone(choice, 2))
    with pytest.raises(InputError, match=r"student: holds no encoder but: backbone, scale\."):
        load_encoder(tmp_path / "student")


class TestReleasedEncoder:
    """A VQGAN checkpoint as training wrote it: autoencoder, discriminator and more in one `state_dict`."""

    def checkpoint(self) -> dict[str, Any]:
        source = small_encoder()
        fill(source)
        rest = ("decoder.conv_in.weight", "loss.discriminator.main.0.weight", "post_quant_conv.weight", "quantize.used")
        return {
            "epoch": 53,
            "global_step": 12,
            "state_dict": {**source.state_dict(), **{name: torch.ones(2) for name in rest}},
        }

    def test_encoder_and_codebook_are_taken_and_all_else_left(self, tmp_path: Path) -> None:
        torch.save(self.checkpoint(), tmp_path / "last.ckpt")
        network, expected = small_encoder(), small_encoder()
        fill(expected)
        assert load_released_encoder(network, tmp_path / "last.ckpt") == "state_dict of a .ckpt"
        assert_same(network, expected)

    @pytest.mark.parametrize("name", ["encoder.conv_in.weight", "quant_conv.bias", "quantize.embedding.weight"])
    def test_a_part_that_is_needed_may_not_be_missing(self, name: str, tmp_path: Path) -> None:
        content = self.checkpoint()
        del content["state_dict"][name]
        torch.save(content, tmp_path / "last.ckpt")
        with pytest.raises(InputError, match=f"do not fit VqganEncoder .*: missing {name}"):
            load_released_encoder(small_encoder(), tmp_path / "last.ckpt")

    def test_a_part_of_the_encoder_too_many_is_refused(self, tmp_path: Path) -> None:
        content = self.checkpoint()
        content["state_dict"]["encoder.down.7.block.0.conv1.weight"] = torch.ones(1)
        torch.save(content, tmp_path / "last.ckpt")
        with pytest.raises(InputError, match=r"unexpected encoder\.down\.7\.block\.0\.conv1\.weight \(1,\)"):
            load_released_encoder(small_encoder(), tmp_path / "last.ckpt")
