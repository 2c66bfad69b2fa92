"""SwinIR against numbers from the official implementation.

`swinir_oracle.npz` (see `official.py`) is of `SwinIR` of JingyunLiang/SwinIR, commit 6545850
(`models/network_swinir.py`): width 12, depths 2 and 3, 3 heads, windows of 4, on two images of 9 by 14 pixels; and of
the published configurations, made for images of 48, 64 and 128 pixels.
"""

import pytest
import torch

from components.backbones.cost import count_flops
from components.backbones.parts.swin import StochasticDepth
from components.backbones.swinir import SwinIr
from components.backbones.weights import load_published
from components.run.errors import InputError
from tests.backbones.official import PRECISIONS, Oracle, operations

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


class TestOperations:
    """Multiply-adds of convolutions and matrix products."""

    @pytest.mark.parametrize(("scale", "published"), [(2, 195.6e9), (3, 87.2e9), (4, 49.6e9)])
    def test_of_the_lightweight_network_are_the_paper_s_but_for_what_its_formula_leaves_out(self, scale, published):
        """Table 3: for 1024x720 and one more window along each axis, by the `flops` of the official network.

        That counts a third of the convolution after the body, one colour image of the upsampler's scale**2, and one
        operation for each value that a normalisation of a block, and the first, takes: 2 % less at x2.
        """
        height, width = (((side // scale) // 8 + 1) * 8 for side in (1024, 720))
        per_pixel = 6 * 60 * 60 + 27 * 60 * (scale**2 - 1) - (2 * 4 * 6 + 1) * 60
        assert operations(light(scale), height, width) - per_pixel * height * width == pytest.approx(
            published, rel=1e-3
        )

    @pytest.mark.parametrize(("scale", "published"), [(2, 244.2e9), (3, 110.8e9), (4, 63.6e9)])
    def test_of_the_lightweight_network_are_those_counted_by_its_successors(self, scale, published):
        """For 1280x720, in the tables of HiT-SR and others, with five operations a normalised value, as fvcore has it.

        Without these it is 1.4 % less.
        """
        step, (height, width) = 8, (-(-side // scale) for side in (720, 1280))
        pixels = (-(-height // step) * step) * (-(-width // step) * step)
        normalised = pixels * 60 * (2 * 4 * 6 + 2)
        assert count_flops(light(scale)) + 5 * normalised == pytest.approx(published, rel=2e-3)

    def test_of_the_classical_network_are_the_published_ones(self):
        """215.3 G for an output of 512x512 at x4, in the tables of CAT and DAT; reproduced to 0.5 %."""
        assert operations(classical(4), 128, 128) == pytest.approx(215.3e9, rel=0.006)


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
