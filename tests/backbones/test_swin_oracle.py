"""Residual Swin blocks against numbers from the official implementation.

`swin_oracle.npz` holds what the layers of `SwinIR` of JingyunLiang/SwinIR, commit 6545850 (`models/network_swinir.py`),
gave in float64 with closed-form weights: width 12, depths 3 and 2, 3 heads, windows of 4.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.backbones.parts.swin import ResidualSwinBlock, StochasticDepth, residual_swin_blocks
from components.backbones.parts.window_attention import WindowAttention, from_windows, shifted_regions, to_windows
from components.run.errors import InputError
from tests.closed_form import closed_form, fill

ORACLE = np.load(Path(__file__).with_name("swin_oracle.npz"))
SIZES = [(8, 12), (4, 4), (12, 4), (64, 64)]


def layers(precision: torch.dtype = torch.float64) -> nn.Sequential:
    blocks = residual_swin_blocks(12, (3, 2), heads=3, window=4, mlp_ratio=2, drop_path_rate=0.1)
    network = nn.Sequential(*blocks).to(precision).eval()
    fill(network)
    return network


def features(height: int, width: int) -> Tensor:
    return torch.from_numpy(closed_form("features", (2, 12, height, width)))


def close(ours: Tensor, name: str, rtol: float = 1e-9) -> None:
    expected = ORACLE[name]
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def thinned(values: Tensor) -> Tensor:
    return values.flatten()[:: max(1, values.numel() // 997)]


def test_parameters_have_the_official_names_and_shapes() -> None:
    official = {
        str(name): tuple(size for size in shape if size)
        for name, shape in zip(ORACLE["names"], ORACLE["shapes"].tolist(), strict=True)
    }
    assert {name: tuple(value.shape) for name, value in layers().named_parameters()} == official
    assert set(layers().state_dict()) == official.keys(), "no buffer hangs on the size of the input"


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_output_is_the_official_one_for_any_number_of_windows(height: int, width: int) -> None:
    """A single window too: rolled, it has four regions. The official masks are for 64 by 64 pixels, or recomputed."""
    close(thinned(layers()(features(height, width))), f"output_{height}x{width}")


def test_single_precision_stays_near_the_official_double() -> None:
    close(thinned(layers(torch.float32)(features(8, 12).float())), "output_8x12", rtol=1e-5)


def test_gradients_are_the_official_ones() -> None:
    network, image = layers(), features(8, 12).requires_grad_()
    (network(image) * torch.from_numpy(closed_form("cotangent", (2, 12, 8, 12)))).sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    close(image.grad.flatten()[::3], "gradient_input")
    close(network.get_parameter("0.residual_group.blocks.1.attn.relative_position_bias_table").grad, "gradient_table")  # type: ignore[arg-type]


def test_tokens_that_the_official_mask_parts_are_of_different_regions() -> None:
    regions = shifted_regions(8, 12, 4, 2)
    differ = regions[:, :, None] != regions[:, None, :]
    assert torch.equal(differ, torch.from_numpy(ORACLE["mask_8x12"] < 0))


def test_blocks_are_dropped_with_the_official_probabilities() -> None:
    network = layers()
    rates = [module.probability for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx(ORACLE["dropped"].tolist())


class TestStochasticDepth:
    RESIDUAL = torch.ones(4000, 2, 3)

    def test_drops_whole_samples_and_scales_the_others_so_that_the_mean_stays(self) -> None:
        torch.manual_seed(1)
        kept = StochasticDepth(0.3).train()(self.RESIDUAL)
        assert kept.flatten(1).std(1).max() == 0
        assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert kept.mean().item() == pytest.approx(1, abs=0.03)

    def test_does_nothing_in_evaluation_mode_or_with_probability_0(self) -> None:
        assert StochasticDepth(0.3).eval()(self.RESIDUAL) is self.RESIDUAL
        assert StochasticDepth(0.0).train()(self.RESIDUAL) is self.RESIDUAL


def test_windows_are_cut_row_by_row_and_put_together_again() -> None:
    image = torch.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    windows = to_windows(image, 2)
    assert windows.shape == (2, 6, 4, 3)
    assert torch.equal(windows[1, 4].reshape(2, 2, 3), image[1, 2:4, 2:4])
    assert torch.equal(from_windows(windows, 2, 4, 6), image)


def test_a_pixel_reaches_its_own_window_in_the_first_block_and_its_neighbours_in_the_second() -> None:
    def reached(depth: int) -> list[tuple[int, int]]:
        """Windows of 4 by 4 pixels whose values change with the pixel at 5, 5."""
        torch.manual_seed(0)
        group = ResidualSwinBlock(4, 1, 4, 2.0, (0.0,) * depth).eval().residual_group
        image = torch.rand(1, 12, 12, 4)
        changed = image.clone()
        changed[0, 5, 5, 0] += 1  # of all channels alike, the normalisation would take it out
        moved = (group(changed) - group(image)).abs().amax((0, 3)) > 0
        return [(int(row), int(column)) for row, column in moved.reshape(3, 4, 3, 4).any(3).any(1).nonzero()]

    assert reached(1) == [(1, 1)]
    assert reached(2) == [(row, column) for row in range(3) for column in range(3)]


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(InputError, match="heads: 5 can't share 12 channels"):
        WindowAttention(12, 5, 4)
