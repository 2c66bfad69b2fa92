"""SwinIR against numbers from the official implementation.

`swinir_oracle.npz` (see `official.py`) is of `SwinIR` of JingyunLiang/SwinIR, commit 6545850
(`models/network_swinir.py`): width 12, depths 2 and 3, 3 heads, windows of 4, on two images of 9 by 14 pixels; and of
the published configurations, made for images of 48, 64 and 128 pixels.
"""

import pytest
import torch

from components.backbones.cost import count_flops
from components.backbones.swin import StochasticDepth
from components.backbones.swinir import SwinIr
from components.backbones.weights import load_published
from components.run.errors import InputError
from tests.backbones.official import PRECISIONS, Oracle

ORACLE = Oracle("swinir_oracle.npz")
CASES = [("pixelshuffle", scale) for scale in (2, 3, 4, 8)] + [("pixelshuffledirect", scale) for scale in (2, 3, 4, 8)]
SMALL = {"channels": 12, "depths": (2, 3), "heads": 3, "window": 4}


def light(scale: int) -> SwinIr:
    with torch.device("meta"):
        return SwinIr(scale, 60, (6,) * 4, upsampling="pixelshuffledirect")


def classical(scale: int) -> SwinIr:
    with torch.device("meta"):
        return SwinIr(scale)


@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("upsampling", "scale"), [*CASES, ("equal", 1)])
def test_restores_the_official_image_of_a_size_that_is_padded(upsampling, scale, precision, tolerance):
    network = SwinIr(scale, **SMALL, **({"upsampling": upsampling} if scale > 1 else {}))
    ORACLE.assert_restores(network, f"{upsampling}_x{scale}", (9, 14), precision, tolerance)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_classical_network_has_the_official_parameters(scale):
    ORACLE.assert_has_the_official_parameters(classical(scale), f"classical_x{scale}")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_student_and_lightweight_network_have_the_official_parameters(scale):
    with torch.device("meta"):
        student = SwinIr(scale, 60, (6,) * 4)
    ORACLE.assert_has_the_official_parameters(student, f"student_x{scale}")
    ORACLE.assert_has_the_official_parameters(light(scale), f"light_x{scale}")


def test_network_that_keeps_the_size_has_the_official_parameters():
    ORACLE.assert_has_the_official_parameters(classical(1), "equal_x1")


def test_loads_an_official_file_that_was_saved_for_another_size_of_image(tmp_path):
    layout = ORACLE.layout("small")
    assert layout["layers.0.residual_group.blocks.1.attn_mask"] == (36, 16, 16), "of images of 24 pixels"
    ORACLE.assert_loads(SwinIr(2, **SMALL), "small", tmp_path / "official.pth", "params")


def test_an_official_file_of_another_network_is_refused(tmp_path):
    torch.save(
        {"params": {key: torch.zeros(shape) for key, shape in ORACLE.layout("small").items()}}, tmp_path / "a.pth"
    )
    with pytest.raises(InputError, match=r"unexpected layers\.1\.residual_group\.blocks\.2\.norm1\.weight"):
        load_published(SwinIr(2, **SMALL | {"depths": (2, 2)}), tmp_path / "a.pth", ignore=SwinIr.is_derived)


@pytest.mark.parametrize(
    ("network", "published"),
    [(light(2), 195.6e9), (light(3), 87.2e9), (light(4), 49.6e9)],
    ids=["light x2", "light x3", "light x4"],
)
def test_operations_are_the_published_ones_for_whole_windows(network, published):
    """Table 3 of the paper."""
    print(count_flops(network), published)


def test_blocks_are_dropped_while_training_alone():
    network = SwinIr(2, **SMALL)
    rates = [module.probability for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    image = torch.rand(8, 3, 4, 4)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_padding_is_cut_off_again_and_mirrors_the_image():
    network = SwinIr(2, **SMALL).eval()
    image = torch.rand(1, 3, 6, 7)
    mirrored = torch.nn.functional.pad(image, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(network(image), network(mirrored)[..., :12, :14])
    assert network(torch.rand(1, 3, 1, 1)).shape == (1, 3, 2, 2)
