"""Restormer against numbers from the official implementation.

`restormer_oracle.npz` (see `official.py`) is of `Restormer` of swz30/Restormer, commit df766d5
(`basicsr/models/archs/restormer_arch.py`): width 8, blocks of 1, 2, 1, 2, refinement of 2, heads of 1, 2, 4, 8, on two
images of 16 by 24 pixels, or of 13 by 22 that were mirrored to multiples of 8 as in its `Deraining/test.py`.
"""

import pytest
import torch

from components.backbones.parts.transposed_attention import TransposedAttention
from components.backbones.restormer import Restormer
from components.backbones.tiling import pad_to_multiple
from components.run.errors import InputError
from tests.backbones.official import PRECISIONS, Oracle, operations

ORACLE = Oracle("restormer_oracle.npz")


def small(**changes) -> Restormer:
    return Restormer(1, **{"channels": 8, "blocks": (1, 2, 1, 2), "refinement": 2} | changes)


def published(**arguments) -> Restormer:
    with torch.device("meta"):
        return Restormer(1, **arguments)


@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("norm", ["with_bias", "bias_free"])
def test_restores_the_official_image(norm, precision, tolerance):
    ORACLE.assert_restores(small(norm=norm), norm, (16, 24), precision, tolerance)


def test_restores_the_official_image_of_a_size_that_is_padded():
    def restore(network, image):
        height, width = image.shape[-2:]
        return network(pad_to_multiple(image, network.multiple))[..., :height, :width]

    ORACLE.assert_restores(small(), "with_bias_padded", (13, 22), *PRECISIONS[0], restore)


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("with_bias", {}, 26_126_644),
        ("bias_free", {"norm": "bias_free"}, 26_111_668),
        ("student", {"channels": 24, "blocks": (2, 3, 3, 4), "refinement": 2}, 3_813_230),
    ],
)
def test_has_the_official_parameters(name, arguments, count):
    network = published(**arguments)
    ORACLE.assert_has_the_official_parameters(network, name)
    assert sum(value.numel() for value in network.parameters()) == count


def test_operations_are_the_published_ones():
    """For 256x256: about 155 G; of the convolutions alone, as other papers count, 140.99 G."""
    counted = operations(published(), 256, 256)
    assert counted == pytest.approx(154.88e9, rel=1e-4)
    products = (
        2
        * 65536
        * sum(
            blocks * channels**2 // heads / 4**halvings
            for blocks, channels, heads, halvings in [
                (4, 48, 1, 0),
                (12, 192, 4, 2),
                (8, 384, 8, 3),
                (6, 96, 2, 1),
                (6, 96, 2, 1),
                (4 + 4, 96, 1, 0),
            ]
        )
    )
    assert counted - products == pytest.approx(140.99e9, rel=1e-4)


def test_loads_an_official_file(tmp_path):
    ORACLE.assert_loads(small(), "small", tmp_path / "official.pth", "params")


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(InputError, match="heads: 3 can't share 8 channels"):
        TransposedAttention(8, 3)


def test_a_width_that_cannot_be_halved_is_refused():
    with pytest.raises(InputError, match="channels: 7 can't be halved"):
        small(channels=7)
