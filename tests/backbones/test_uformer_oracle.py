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
from tests.backbones.official import PRECISIONS, Oracle

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


def test_loads_an_official_file(tmp_path):
    ORACLE.assert_loads(small(), "small", tmp_path / "official.pth", "state_dict", "module.")
