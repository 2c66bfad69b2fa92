"""RLFN, SPAN and EFDN against numbers from the official implementations, and their published weights.

`efficient_oracle.npz` (see `official.py`), on two images of 17 by 22 pixels, is of

- `RLFN` of 12 channels on 255 times the image, over 255, and `RLFN_Prune` (`narrow`) of 10 with 12 between its
  convolutions: bytedance/RLFN, commit bccfde9 (`model`);
- `EFDN` of 12 channels before its clamp: icandle/EFDN, commit 3e7c7b4 (`models/EFDN_deploy.py`);
- `SPAN` of 8 channels, x4, in training (`span_train`, with the gradients of its parameters in the order of their names,
  in `parameters_span_train`) and in evaluation (`span_eval`): hongyuanyu/SPAN, commit c77a591
  (`basicsr/archs/span_arch.py`).

`span_folded_x4` has the names of the winner of NTIRE 2024 in Amazingren/NTIRE2026_ESR, commit 4592ce6
(`models/team00_SPAN.py`). `published_{file}` are thinned images that the official networks with the published weights
make, in float64, of the closed-form image of 21 by 24 pixels.
"""

import copy
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from components.backbones import BACKBONES
from components.backbones.cost import count_parameters
from components.backbones.efdn import Efdn
from components.backbones.rlfn import Rlfn
from components.backbones.span import FoldableConvolution, Span
from components.backbones.weights import load_backbone, load_published, save_network
from components.run.errors import InputError
from tests.backbones.official import PRECISIONS, Oracle, operations
from tests.closed_form import closed_form, fill

pytestmark = pytest.mark.usefixtures("one_thread")

ORACLE = Oracle("efficient_oracle.npz")
SIZE = (17, 22)
COUNTS = {"rlfn_x2": 526_856, "rlfn_x4": 543_740, "rlfn_ntire_x4": 317_218, "efdn_x2": 260_604, "efdn_x4": 276_192}
FOLDED = 150_688


def small_span():
    return Span(4, channels=8)


@pytest.mark.parametrize(
    ("case", "network"),
    [
        ("rlfn_x2", Rlfn(2, channels=12)),
        ("rlfn_x4", Rlfn(4, channels=12)),
        ("rlfn_narrow_x4", Rlfn(4, channels=10, blocks=4, hidden_channels=12)),
        ("efdn_x2", Efdn(2, channels=12)),
        ("efdn_x4", Efdn(4, channels=12)),
        ("span_train", small_span()),
        ("span_eval", small_span()),
    ],
)
def test_restores_the_official_image(case, network):
    """In float64 alone: these weights enlarge a difference of the image by up to half a million."""
    ORACLE.assert_restores(network, case, SIZE, *PRECISIONS[0])


@pytest.mark.parametrize("name", COUNTS)
def test_has_the_official_parameters(name):
    with torch.device("meta"):
        scale = int(name[-1])
        arguments = {"channels": 46, "blocks": 4, "hidden_channels": 48} if "ntire" in name else {}
        network = BACKBONES[name.partition("_")[0]](scale, **arguments)
    ORACLE.assert_has_the_official_parameters(network, name)
    assert count_parameters(network) == COUNTS[name]


@pytest.mark.parametrize(
    ("network", "published"),
    [(Span, 9.83e9), (Efdn, 16.7e9)],
)
def test_operations_at_x4_are_the_published_ones(network, published):
    """For an input of 256x256, in the README of NTIRE 2026 and NTIRE 2025."""
    with torch.device("meta"):
        counted = operations(network(4).fold(), 256, 256)
    assert counted == pytest.approx(published, rel=2e-3)


class TestFolding:
    """SPAN trains with three branches and is used folded."""

    def test_has_the_official_branches_and_folds_into_the_official_convolutions(self):
        with torch.device("meta"):
            network = Span(4)
        official = ORACLE.layout("span_x4")
        branches = {name: shape for name, shape in official.items() if "eval_conv" not in name}
        assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == branches
        assert count_parameters(network) == FOLDED
        ORACLE.assert_has_the_official_parameters(network.fold(), "span_folded_x4")

    def test_gradients_of_the_branches_are_the_official_ones(self):
        network = small_span().double()
        fill(network)
        restored = network(torch.from_numpy(closed_form("image", (2, 3, *SIZE), 0, 1)))
        (restored * torch.from_numpy(closed_form("cotangent", tuple(restored.shape)))).sum().backward()
        gradients = torch.cat([value.grad.flatten() for _, value in sorted(network.named_parameters())])
        ORACLE.assert_close(gradients, "parameters_span_train", 1e-9)

    def test_gives_the_same_image(self):
        network = small_span().double()
        fill(network)
        folded = copy.deepcopy(network).fold()
        assert not any(isinstance(module, FoldableConvolution) for module in folded.modules())
        image = torch.from_numpy(closed_form("image", (1, 3, 5, 9), 0, 1))
        torch.testing.assert_close(folded(image), network(image), rtol=1e-10, atol=1e-10)

    def test_is_what_is_stored_and_the_network_in_training_keeps_its_branches(self, tmp_path):
        network = small_span()
        fill(network, 0.5)
        description = {"backbone": {"name": "span", "channels": 8}, "scale": 4}
        save_network(tmp_path / "span.safetensors", network, description)
        assert isinstance(network.conv_1, FoldableConvolution)
        loaded = load_backbone(tmp_path / "span.safetensors")
        assert sum(value.numel() for value in loaded.parameters()) == count_parameters(network)
        image = torch.rand(1, 3, 6, 7)
        torch.testing.assert_close(loaded(image), network(image), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("folded", ["older", "missing"])
    def test_a_file_with_branches_is_folded_anew(self, folded, tmp_path):
        expected = small_span()
        fill(expected)
        state = expected.state_dict()
        expected.fold()
        if folded == "older":
            state |= {name: torch.zeros_like(value) for name, value in expected.state_dict().items() if "eval" in name}
        torch.save({"params": state}, tmp_path / "span.pth")
        network = small_span()
        told = load_published(network, tmp_path / "span.pth")
        assert told == "params of a .pth, branches folded, the training's names"
        torch.testing.assert_close(network.state_dict(), expected.state_dict(), rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("channels", "message"),
        [
            (0, r"describes it: missing block_2\.c1_r\.eval_conv\.weight .*; unexpected block_2\.c1_r\.sk\.weight"),
            (5, r"describes it: missing conv_1\.eval_conv\.weight"),
        ],
    )
    def test_a_file_with_fewer_branches_or_channels_is_refused(self, channels, message, tmp_path):
        state = small_span().state_dict()
        whole = state.pop("block_2.c1_r.conv.1.weight")
        if channels:
            state["block_2.c1_r.conv.1.weight"] = whole[:, :channels]
        torch.save(state, tmp_path / "span.pth")
        with pytest.raises(InputError, match=message):
            load_published(small_span(), tmp_path / "span.pth")


@pytest.mark.datasets
@pytest.mark.parametrize("file", ["rlfn_x2", "rlfn_x4", "efdn_x4", "span_x4"])
def test_with_the_published_weights_too(file):
    if "CHECKPOINTS_DIR" not in os.environ:
        pytest.skip("CHECKPOINTS_DIR does not name the folder of rlfn_x2.pth and its kin")
    name, _, scale = file.partition("_x")
    network = BACKBONES[name](int(scale))
    load_published(network, Path(os.environ["CHECKPOINTS_DIR"], f"{file}.pth"))
    image = torch.from_numpy(closed_form("image", (1, 3, 21, 24), 0, 1))
    with torch.no_grad():
        ORACLE.assert_close(network.double().eval()(image), f"published_{file}", 1e-9)
        ORACLE.assert_close(network.float()(image.float()), f"published_{file}", 1e-5)


@pytest.mark.parametrize("make", [Rlfn, Efdn])
def test_small_images_see_their_last_pixels_repeated(make):
    """The official networks refuse less than 15 pixels a side; at 15 both meet."""
    network = make(2, channels=12, blocks=1).double()
    fill(network)
    attention = next(module for module in network.modules() if hasattr(module, "conv_f"))
    features = torch.from_numpy(closed_form("features", (1, 12, 9, 15)))
    with torch.no_grad():
        seen = attention(features)
        repeated = nn.functional.pad(features, (0, 0, 0, 6), mode="replicate")
        wide = attention.coarse(nn.functional.max_pool2d(attention.conv2(attention.conv1(repeated)), 7, 3))
        weights = torch.sigmoid(attention.conv4(wide + attention.conv_f(attention.conv1(features))))
    torch.testing.assert_close(seen, features * weights, rtol=0, atol=1e-12)
