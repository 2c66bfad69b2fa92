"""DRSformer against numbers from the official implementation.

`drsformer_oracle.npz` (see `official.py`) is of `DRSformer` of cschenxiang/DRSformer, commit e77bbb4, with experts
(`basicsr/models/archs/DRSformer_arch.py`) and without (`DRSformer_arch_200L+SPA.py`): width 8, blocks of 1, 2, 1, 2,
heads of 1, 2, 2, 4, on two images of 16 by 24 pixels (`bias_free`: 16 by 16), or of 13 by 22 that were mirrored to
multiples of 8 as in its `test.py`.
"""

import pytest
import torch

from components.backbones.drsformer import DrsFormer, SparseAttention
from components.backbones.tiling import pad_to_multiple
from components.run.errors import InputError
from tests.backbones.official import PRECISIONS, Oracle, operations

ORACLE = Oracle("drsformer_oracle.npz")


def small(**changes) -> DrsFormer:
    return DrsFormer(1, **{"channels": 8, "blocks": (1, 2, 1, 2), "heads": (1, 2, 2, 4)} | changes)


@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("experts", [True, False])
def test_restores_the_official_image(experts, precision, tolerance):
    case = "experts" if experts else "plain"
    ORACLE.assert_restores(small(experts=experts), case, (16, 24), precision, tolerance)


def test_restores_the_official_image_with_norms_free_of_bias():
    ORACLE.assert_restores(small(norm="bias_free"), "bias_free", (16, 16), *PRECISIONS[0])


def test_restores_the_official_image_of_a_size_that_is_padded():
    def restore(network, image):
        height, width = image.shape[-2:]
        return network(pad_to_multiple(image, network.multiple))[..., :height, :width]

    ORACLE.assert_restores(small(), "experts_padded", (13, 22), *PRECISIONS[0], restore)


@pytest.mark.parametrize(("experts", "count"), [(True, 33_655_424), (False, 32_610_304)])
def test_has_the_official_parameters(experts, count):
    with torch.device("meta"):
        network = DrsFormer(1, experts=experts)
    ORACLE.assert_has_the_official_parameters(network, "experts" if experts else "plain")
    assert sum(value.numel() for value in network.parameters()) == count


def test_operations_are_the_published_ones_but_for_products_that_are_one_here():
    """242.9 G for 256x256; the four weights of an attention meet the values together, 5.6 % less."""
    with torch.device("meta"):
        network = DrsFormer(1)
    once = 65536 * sum(
        blocks * channels**2 // heads / 4**halvings
        for blocks, channels, heads, halvings in [
            (4, 48, 1, 0),
            (12, 192, 4, 2),
            (8, 384, 8, 3),
            (12, 96, 2, 1),
            (4, 96, 1, 0),
        ]
    )
    assert operations(network, 256, 256) + 3 * once == pytest.approx(242.9e9, rel=1e-3)


def test_loads_an_official_file(tmp_path):
    ORACLE.assert_loads(small(), "small", tmp_path / "official.pth", "params")


def test_without_experts_there_is_no_refinement():
    assert (small().depth, small(experts=False).depth) == (8, 7)


def test_a_channel_attends_to_the_nearest_ones_alone_each_share_with_its_weight():
    attention = SparseAttention(6, 1)
    scores = torch.tensor([[5.0, 3.0, 1.0, 4.0, 2.0, 0.0]])
    weights = attention._weights(scores.expand(1, 1, 6, 6))[0, 0, 0]
    expected = torch.zeros(6)
    for kept in (3, 4, 4, 4):  # of 6 channels 1/2, 2/3, 3/4 and 4/5, rounded down
        nearest = scores[0].exp() * (scores[0] >= 6 - kept)
        expected += 0.2 * nearest / nearest.sum()
    torch.testing.assert_close(weights, expected)


def test_channels_as_near_as_each_other_are_counted_all_the_same():
    """As of an empty image."""
    weights = SparseAttention(4, 1)._weights(torch.zeros(1, 1, 4, 4))
    assert (weights > 0).sum(-1).unique().tolist() == [3]


def test_too_many_heads_to_choose_channels_are_refused():
    with pytest.raises(InputError, match="heads: 8 leave 1 of 8 channels each"):
        SparseAttention(8, 8)
