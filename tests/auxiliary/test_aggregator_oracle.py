"""MTKD's aggregator against numbers from the official implementation.

`aggregator_oracle.npz` holds what `DCTSwin` of YuxuanJJ/MTKD, commit d027a3a (`basicsr/archs/DCTSwin_arch.py`, with
torch_dct 0.1.6), gave in float64 with closed-form weights on three closed-form images, brought to [0, 1] as its
`MTKD_model.py` does it: width 12, depths 2 and 2, 2 heads; and the names and shapes of its released configuration.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from components.auxiliary.aggregator import Aggregator, FrequencyAttention, cosine_transform
from tests.closed_form import closed_form, fill

ORACLE = np.load(Path(__file__).with_name("aggregator_oracle.npz"))
CASES = [(1, 16, 24, 8), (2, 48, 32, 8), (3, 36, 60, 4), (4, 64, 96, 8), (2, 40, 36, 4)]


def aggregator(scale: int, window: int, precision: torch.dtype) -> Aggregator:
    network = Aggregator(scale, 3, channels=12, depths=(2, 2), heads=2, window=window).to(precision).eval()
    fill(network)
    with torch.no_grad():
        for name, value in network.named_parameters():
            # Closed-form norms would make one coefficient outweigh all others; the release's inner range is 0..255.
            value.mul_(0.02 if "norm" in name else 255 if "conv_last" in name else 1)
    return network


def images(height: int, width: int, precision: torch.dtype) -> tuple[Tensor, ...]:
    return torch.from_numpy(closed_form("images", (2, 9, height, width), 0, 1)).to(precision).split(3, 1)


def close(ours: Tensor, name: str, rtol: float) -> None:
    expected = ORACLE[name]
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_paper_s_configuration_has_the_official_names_and_shapes() -> None:
    official = {
        str(name): tuple(size for size in shape if size)
        for name, shape in zip(ORACLE["names"], ORACLE["shapes"].tolist(), strict=True)
    }
    with torch.device("meta"):
        network = Aggregator(4, 3)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == official
    assert sum(value.numel() for value in network.parameters()) == 1_335_603


@pytest.mark.parametrize(("scale", "height", "width", "window"), CASES)
@pytest.mark.parametrize(("precision", "rtol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_image_and_gradient_are_the_official_ones(
    scale: int, height: int, width: int, window: int, precision: torch.dtype, rtol: float
) -> None:
    """Sizes that are padded to whole windows among them, and windows of one region and of several."""
    network = aggregator(scale, window, precision)
    image = network(images(height, width, precision))
    close(image.flatten()[:: max(1, image.numel() // 997)], f"output_x{scale}_{height}x{width}", rtol)
    (image * torch.from_numpy(closed_form("cotangent", (2, 3, height, width))).to(precision)).sum().backward()  # type: ignore[no-untyped-call]
    table = network.get_parameter("layers.1.residual_group.blocks.1.attn.relative_position_bias_table")
    gradient = table.grad if window == 4 else network.conv_first.bias.grad  # type: ignore[union-attr]
    assert gradient is not None
    close(gradient, f"gradient_x{scale}_{height}x{width}", 10 * rtol)


def test_cosine_transform_is_scipys() -> None:
    window = closed_form("window", (8, 8))
    transform = cosine_transform(8)
    ours = transform @ torch.from_numpy(window) @ transform.T
    np.testing.assert_allclose(ours.numpy(), dctn(window, type=2), rtol=1e-12, atol=1e-12)


def test_what_attention_leaves_alone_comes_back_from_the_transform() -> None:
    attention = FrequencyAttention(4, 1, 8)
    tokens = torch.rand(2, 3, 64, 4)
    torch.testing.assert_close(attention.inverse @ (attention.transform @ tokens), tokens, rtol=1e-5, atol=1e-5)


def test_a_residual_aggregator_corrects_a_weighted_mean_of_its_teachers() -> None:
    network = Aggregator(2, 2, channels=8, heads=2, residual=True).eval()
    one, other = torch.rand(2, 1, 3, 32, 32)
    assert (network((one, other)) - (one + other) / 2).abs().mean() < 0.02, "at first"
    with torch.no_grad():
        for value in network.conv_last.parameters():
            value.zero_()
        network.trust.copy_(torch.tensor([0.0, 3.0]).log1p())  # type: ignore[union-attr]
    torch.testing.assert_close(network((one, other)), 0.2 * one + 0.8 * other)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network((one, other)), 0.2 * one + 0.8 * other)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 10), (34, 38)])
def test_an_image_of_any_size_keeps_its_size(height: int, width: int) -> None:
    network = aggregator(2, 8, torch.float32)
    assert network(torch.rand(3, 1, 3, height, width).unbind()).shape == (1, 3, height, width)
