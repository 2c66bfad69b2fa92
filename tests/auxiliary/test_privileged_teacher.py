"""PISR's teacher: its counts, what it sees, and its file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from components.auxiliary.privileged_teacher import (
    PrivilegedTeacher,
    build_privileged_teacher,
    describe_privileged_teacher,
    load_privileged_teacher,
)
from components.backbones import BackboneChoice
from components.backbones.cost import count_parameters
from components.backbones.edsr import Edsr
from components.backbones.fsrcnn import Fsrcnn
from components.backbones.parts.luma import to_luma
from components.backbones.tiling import restore_tiled
from components.backbones.weights import load_backbone, save_network
from components.run.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = {"channels": 8, "shrunk_channels": 4}
FSRCNN = {"name": "fsrcnn", "channels": 8, "shrunk_channels": 4, "mappings": 2}
EDSR = {"name": "edsr", "channels": 8, "blocks": 1}


def teacher(decoder=EDSR, scale=2):
    torch.manual_seed(0)
    return build_privileged_teacher(BackboneChoice(**decoder), scale, WIDTHS)


def test_has_the_released_number_of_parameters():
    whole = PrivilegedTeacher(Fsrcnn(2, slopes="shared"))
    assert count_parameters(whole.encoder) == 86_084
    assert count_parameters(whole) == 98_728


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("decoder", "channels"), [(EDSR, 3), (FSRCNN, 1)])
def test_imitates_a_degraded_image_and_restores_the_clean_one(decoder, channels, scale):
    network, clean = teacher(decoder, scale), torch.rand(2, 3, 24, 36)
    assert network.imitate(clean).shape == (2, channels, 24 // scale, 36 // scale)
    assert network(clean).shape == clean.shape
    assert (network.scale, network.multiple) == (1, scale)


@pytest.mark.parametrize("decoder", [EDSR, FSRCNN])
class TestTaps:
    def test_are_the_decoders_on_the_imitated_image(self, decoder):
        network, clean = teacher(decoder), torch.rand(2, 3, 16, 16)
        imitated = network.imitate(clean)
        if imitated.shape[1] == 1:
            level = (imitated * 255 - 16) / 219
            imitated = level.expand(-1, 3, -1, -1)
        _, expected = network.decoder.forward_tapped(imitated, [0.5, 1.0])
        _, found = network.forward_tapped(clean, [0.5, 1.0])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)

    def test_gradient_reaches_every_parameter(self, decoder):
        network = teacher(decoder)
        (network(torch.rand(2, 3, 16, 16)) ** 2).mean().backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in network.parameters())

    def test_whole_images_of_any_size_can_be_restored(self, decoder):
        network, clean = teacher(decoder).eval(), torch.rand(1, 3, 33, 47)
        restored = restore_tiled(network, clean)
        assert restored.shape == clean.shape
        with torch.no_grad():
            torch.testing.assert_close(restored[..., :16, :16], network(clean[..., :32, :46])[..., :16, :16])


def test_a_network_of_luma_sees_luma_alone_and_leaves_the_colour():
    network, clean = teacher(FSRCNN).double(), torch.rand(1, 3, 16, 16, dtype=torch.float64)
    gray = ((to_luma(clean) * 255 - 16) / 219).expand(-1, 3, -1, -1)
    torch.testing.assert_close(network.imitate(clean), network.imitate(gray))
    torch.testing.assert_close(to_luma(network(clean)), to_luma(network(gray)))
    torch.testing.assert_close(network(clean) - network(gray), clean - gray)


class TestFile:
    def test_gives_the_network_back(self, tmp_path):
        network = teacher(FSRCNN, 3)
        description = describe_privileged_teacher(BackboneChoice(**FSRCNN), 3, WIDTHS)
        save_network(tmp_path / "teacher.safetensors", network, description)
        loaded = load_privileged_teacher(tmp_path / "teacher.safetensors")
        assert not loaded.training
        clean = torch.rand(1, 3, 12, 12)
        assert torch.equal(loaded(clean), network(clean))
        with pytest.raises(InputError, match="holds no restoration network but: privileged_teacher"):
            load_backbone(tmp_path / "teacher.safetensors")

    def test_of_another_network_is_refused(self, tmp_path):
        metadata = {"description": json.dumps({"backbone": EDSR, "scale": 2})}
        save_file(Edsr(2, 8, 1).state_dict(), tmp_path / "one.safetensors", metadata)
        with pytest.raises(InputError, match="holds no privileged teacher but: backbone, scale"):
            load_privileged_teacher(tmp_path / "one.safetensors")

    def test_an_unknown_argument_of_the_encoder_is_refused_by_its_key(self):
        with pytest.raises(InputError, match=r"privileged_teachers\.encoder.*'chanels'.*'channels'"):
            build_privileged_teacher(BackboneChoice(**EDSR), 2, {"chanels": 8})
