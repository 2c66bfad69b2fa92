"""The VQGAN encoder against numbers from the official implementations.

`vqgan_oracle.npz` holds what these gave in float64 with closed-form weights on a closed-form image: `get_feas`,
`encode` and the argument of the softmax in `VectorQuantizerD` of super-SSS/DCKD, commit 66fe400
(`basicsr/archs/vqgan_arch.py`); code indices from `VectorQuantizer2` and the names and shapes of the released
configuration (`imagenet_vqgan.yaml`) from CompVis/taming-transformers, commit 3ba01b2.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.auxiliary.vqgan import VqganEncoder
from tests.closed_form import closed_form, parameter

ORACLE = np.load(Path(__file__).with_name("vqgan_oracle.npz"))
LEVELS = range(5)


def image(batch: int, height: int, width: int) -> torch.Tensor:
    """A wave with texture, roughly in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    waves = [0.5 + 0.3 * np.sin(0.11 * y + 0.07 * x * (c + 1) + b + c) for b in range(batch) for c in range(3)]
    texture = closed_form("image", (batch, 3, height, width), -0.2, 0.2)
    return torch.from_numpy(np.stack(waves).reshape(batch, 3, height, width) + texture)


def official_shapes(width: str) -> dict[str, tuple[int, ...]]:
    keys, shapes = ORACLE[f"{width}_keys"], ORACLE[f"{width}_shapes"]
    return {str(key): tuple(size for size in shape if size) for key, shape in zip(keys, shapes.tolist(), strict=True)}


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def encoder() -> VqganEncoder:
    """Width 32, filled in under the official names."""
    network = VqganEncoder(channels=32, latent=12, codes=32, code_size=8).double().eval().requires_grad_(False)
    weights = {key: parameter(key, shape) for key, shape in official_shapes("small").items()}
    network.load_state_dict(weights, strict=True)
    return network


def close(ours: torch.Tensor, name: str) -> None:
    scale = np.abs(ORACLE[name]).max()
    np.testing.assert_allclose(ours.numpy(), ORACLE[name], rtol=1e-5, atol=1e-6 * scale)


def test_released_configuration_has_the_official_names_and_shapes() -> None:
    with torch.device("meta"):
        network = VqganEncoder()
    assert shapes_of(network) == official_shapes("full")
    assert len(network.state_dict()) == 147
    assert sum(value.numel() for value in network.encoder.parameters()) == 29_298_176
    assert sum(value.numel() for value in network.parameters()) == 29_626_112


@pytest.mark.parametrize("level", LEVELS)
def test_taps_are_those_of_the_official_get_feas(encoder: VqganEncoder, level: int) -> None:
    taps = encoder.taps(image(2, 64, 96))
    assert len(taps) == 5
    tap = taps[level]
    assert tap.shape == tuple(ORACLE[f"tap_{level}_shape"])
    close(tap.flatten()[:: max(1, tap.numel() // 997)], f"tap_{level}")
    close(tap.mean((2, 3)), f"tap_{level}_mean")
    close(tap.flatten(2).norm(dim=2), f"tap_{level}_norm")


def test_taps_compute_nothing_behind_the_deepest(encoder: VqganEncoder) -> None:
    """The official loop breaks there; a training step saves the middle of the network for each negative."""
    reached: list[str] = []
    behind = {name: module for name, module in encoder.named_modules() if "mid" in name or "down.4.attn" in name}
    behind |= {name: encoder.get_submodule(name) for name in ("encoder.conv_out", "encoder.down.4.block.1")}
    handles = [
        module.register_forward_hook(lambda *_, name=name: reached.append(name)) for name, module in behind.items()
    ]
    encoder.taps(image(1, 64, 64))
    without = list(reached)
    encoder.encode(image(1, 64, 64))
    for handle in handles:
        handle.remove()
    assert without == []
    assert set(reached) >= {"encoder.conv_out", "encoder.down.4.block.1", "encoder.mid.attn_1"}


def test_distances_are_those_that_the_official_quantizer_turns_into_probabilities(encoder: VqganEncoder) -> None:
    _, distances = encoder.encode(image(2, 64, 96))
    assert distances.shape == (2 * 4 * 6, 32)
    close(distances, "distances")
    close(torch.softmax(-distances, dim=1), "probabilities")
    assert distances.argmin(1).tolist() == ORACLE["indices"].tolist()


def test_encode_returns_the_taps_too(encoder: VqganEncoder) -> None:
    both, _ = encoder.encode(image(1, 64, 64))
    for first, second in zip(both, encoder.taps(image(1, 64, 64)), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("level", LEVELS)
def test_a_size_that_is_no_multiple_of_16_is_rounded_down_as_officially(encoder: VqganEncoder, level: int) -> None:
    tap = encoder.taps(image(1, 70, 101))[level]
    assert tap.shape == tuple(ORACLE[f"odd_tap_{level}_shape"])
    close(tap.flatten(2).norm(dim=2), f"odd_tap_{level}_norm")


def test_probabilities_of_such_a_size_are_the_official_ones(encoder: VqganEncoder) -> None:
    close(torch.softmax(-encoder.encode(image(1, 70, 101))[1], dim=1), "odd_probabilities")


def test_single_precision_stays_near_the_official_double(encoder: VqganEncoder) -> None:
    single = VqganEncoder(channels=32, latent=12, codes=32, code_size=8).eval()
    single.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        _, distances = single.encode(image(2, 64, 96).float())
    np.testing.assert_allclose(distances.numpy(), ORACLE["distances"], rtol=1e-4, atol=1e-5)
