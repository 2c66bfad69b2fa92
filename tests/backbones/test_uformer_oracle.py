"""Uformer against numbers from the official implementation.

`uformer_oracle.npz` (see `official.py`) is of `Uformer` of ZhendongWang6/Uformer, commit 65fc970 (`model.py`, with
`DropPath`, `trunc_normal_` of timm's definition): width 8, blocks of 1, 2, 1, 2, 2, 2 heads at first, windows of 2 or
4, made for images of 64 pixels (every bottleneck block of theirs is shifted where images are larger than 16 windows)
or of 32, on two images of 64 by 64 pixels; `unmodulated` of 32 by 32. `wide`, of 32 by 64, is of the same code with its
square roots of the number of pixels written anew for images twice as wide as high.
"""

import pytest
import torch

from components.backbones.uformer import Uformer
from tests.backbones.official import PRECISIONS, Oracle, operations

ORACLE = Oracle("uformer_oracle.npz")
CASES = {
    "everywhere": ({"shifted": "everywhere"}, (64, 64)),
    "above_bottleneck": ({}, (64, 64)),
    "nowhere": ({"shifted": "nowhere"}, (64, 64)),
    "unmodulated": ({"modulated": False}, (32, 32)),
    "wide": ({"shifted": "everywhere"}, (32, 64)),
    "window_4": ({"window": 4}, (64, 64)),
}


def small(**changes) -> Uformer:
    return Uformer(1, **{"channels": 8, "blocks": (1, 2, 1, 2, 2), "heads": 2, "window": 2} | changes)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
def test_restores_the_official_image(case, precision, tolerance):
    arguments, size = CASES[case]
    ORACLE.assert_restores(small(**arguments), case, size, precision, tolerance)


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("b", {}, 50_880_946),
        ("s", {"blocks": (2,) * 5}, 20_751_197),
        ("t", {"blocks": (2,) * 5, "channels": 16}, 5_291_853),
    ],
)
def test_has_the_official_parameters(name, arguments, count):
    with torch.device("meta"):
        network = Uformer(1, **arguments)
    ORACLE.assert_has_the_official_parameters(network, name)
    assert sum(value.numel() for value in network.parameters()) == count


@pytest.mark.parametrize(("arguments", "count"), [({}, 20_628_317), ({"channels": 16}, 5_230_413)])
def test_the_paper_counts_its_smaller_networks_without_modulators(arguments, count):
    """Table 1: 20.63 and 5.23 million for Uformer-S and Uformer-T."""
    with torch.device("meta"):
        network = Uformer(1, blocks=(2,) * 5, modulated=False, **arguments)
    assert sum(value.numel() for value in network.parameters()) == count


@pytest.mark.parametrize(
    ("arguments", "published"),
    [({}, 89.46e9), ({"blocks": (2,) * 5}, 43.86e9), ({"blocks": (2,) * 5, "channels": 16}, 12.00e9)],
)
def test_operations_are_the_published_ones_but_for_the_transposed_convolutions(arguments, published):
    """For 256x256. The official `flops` counts those four times, and one operation for each normalised value."""
    with torch.device("meta"):
        network = Uformer(1, **arguments)
    widths = [network.input_proj.proj[0].out_channels * 2**halvings for halvings in range(4)]
    pixels = [65536 / 4**halvings for halvings in range(4)]
    incoming = [2 * widths[1], 2 * widths[2], 2 * widths[3], 2 * widths[3]]
    transposed = sum(width * wide * count for width, wide, count in zip(widths, incoming, pixels, strict=True))
    normalised = 0
    for halvings, name in [
        *((k, f"encoderlayer_{k}") for k in range(4)),
        (4, "conv"),
        *((3 - k, f"decoderlayer_{k}") for k in range(4)),
    ]:
        blocks = network.get_submodule(name).blocks
        normalised += 2 * len(blocks) * blocks[0].norm1.weight.numel() * 65536 / 4**halvings
    assert operations(network, 256, 256) + 3 * transposed + normalised == pytest.approx(published, rel=1e-3)


def test_loads_an_official_file(tmp_path):
    ORACLE.assert_loads(small(), "small", tmp_path / "official.pth", "state_dict", "module.")
