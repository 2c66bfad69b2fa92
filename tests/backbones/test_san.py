"""SAN against numbers from the official implementation, and published figures.

`san_oracle.npz` holds, of daitao/SAN, commit 7c1e61f (`TrainCode/model`), run in float64 with closed-form weights:
`SAN(255 * image) / 255` for every scale, at even sizes and at sizes whose quarters differ; the gradients of its
parameters; root and gradient of its `MPNCOV` layers; the channel weights of its `SOCA` above and below 1000 rows or
columns; names and shapes of its parameters; and parameter counts without MeanShift. `fakd`, the gradients and the
counts that end with 4 are of Vincent-Hoo/Knowledge-Distillation-for-Super-resolution, commit 589d35f, whose non-local
attention is twice as wide and which is otherwise the same network.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.backbones.backbone import stage_at
from components.backbones.cost import count_flops, count_parameters
from components.backbones.san import San, SecondOrderAttention, covariance, matrix_root
from components.backbones.weights import load_published
from components.run.errors import InputError
from tests.closed_form import closed_form, fill, parameter

pytestmark = pytest.mark.usefixtures("one_thread")

ORACLE = np.load(Path(__file__).with_name("san_oracle.npz"))
COUNTS = dict(zip(ORACLE["count_names"].tolist(), ORACLE["counts"].tolist(), strict=True))
IMAGES = [key for key in ORACLE.files if key[0] == "x" and "keys" not in key]
FIXED = ("sub_mean.", "add_mean.")


def small(scale: int, precision: torch.dtype = torch.float64, **changes: int) -> San:
    arguments = {"channels": 16, "groups": 2, "blocks": 2, "reduction": 4, "non_local_reduction": 8}
    network = San(scale, **(arguments | changes)).to(precision)
    fill(network)
    return network


def meta(scale: int, groups: int, non_local_reduction: int = 4) -> San:
    with torch.device("meta"):
        return San(scale, groups=groups, non_local_reduction=non_local_reduction)


def restored(network: San, shape: tuple[int, ...], precision: torch.dtype) -> np.ndarray:
    image = torch.from_numpy(closed_form("image", shape, 0, 1)).to(precision)
    with torch.no_grad():
        return network(image).double().numpy()


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("key", IMAGES)
def test_it_restores_the_official_image(key: str, precision: torch.dtype) -> None:
    scale, height, width = (int(number) for number in key[1:].split("_"))
    official = ORACLE[key]
    found = restored(small(scale, precision), (len(official), 3, height, width), precision)
    np.testing.assert_allclose(found, official, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_it_restores_the_image_of_fakds_network(precision: torch.dtype) -> None:
    found = restored(small(2, precision, non_local_reduction=4), (2, 3, 7, 9), precision)
    np.testing.assert_allclose(found, ORACLE["fakd"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_root_of_the_covariance_and_its_gradient_are_the_official_ones(precision: torch.dtype) -> None:
    features = torch.from_numpy(closed_form("features", (2, 6, 5, 7), 0, 9)).to(precision).requires_grad_()
    found = covariance(features)
    root = matrix_root(found)
    (root * torch.from_numpy(closed_form("cotangent", (2, 6, 6)))).sum().backward()
    assert features.grad is not None
    for ours, name in ((found, "covariance"), (root, "root"), (features.grad, "root_gradient")):
        official = ORACLE[name]
        np.testing.assert_allclose(ours.detach(), official, rtol=1e-5, atol=1e-5 * np.abs(official).max())


def test_root_is_near_that_of_the_eigenvalues() -> None:
    """Five steps are enough where no eigenvalue is far below the others."""
    basis, _ = torch.linalg.qr(torch.from_numpy(closed_form("basis", (4, 4))))
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    expected = basis @ torch.diag(values.sqrt()) @ basis.T
    torch.testing.assert_close(
        matrix_root((basis @ torch.diag(values) @ basis.T)[None])[0], expected, rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_gradients_of_all_that_is_trained_are_the_official_ones(precision: torch.dtype) -> None:
    """What is not trained is never used there and has none, or, of the keys' bias, has one of rounding errors."""
    network = small(2, precision, channels=8, blocks=1, reduction=2, non_local_reduction=4)
    fill(network, 0.15)
    image = torch.from_numpy(closed_form("image", (2, 3, 7, 9), 0, 1)).to(precision)
    output = network(image)
    (output * torch.from_numpy(closed_form("cotangent", tuple(output.shape)))).sum().backward()
    trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
    cancelled = "non_local.non_local.phi.0.bias"
    assert trained.keys() == set(ORACLE["trained"].tolist()) - {cancelled}
    assert np.abs(ORACLE[f"gradient {cancelled}"]).max() < 1e-14
    for key, value in trained.items():
        assert value.grad is not None
        official = ORACLE[f"gradient {key}"]
        np.testing.assert_allclose(value.grad, official, rtol=1e-5, atol=1e-5 * np.abs(official).max(), err_msg=key)


@pytest.mark.parametrize("size", [(3, 999), (3, 1007), (1006, 2)])
def test_weights_of_channels_are_the_official_ones_above_1000_rows_or_columns(size: tuple[int, int]) -> None:
    attention = SecondOrderAttention(8, 2).double()
    fill(attention)
    features = torch.from_numpy(closed_form("features", (1, 8, *size), -1, 2))
    features = features * torch.linspace(0.1, 3, size[0] * size[1], dtype=torch.float64).view(size)
    with torch.no_grad():
        weights = (attention(features) / features).mean((2, 3))
    np.testing.assert_allclose(weights, ORACLE[f"weights_{size[0]}_{size[1]}"], rtol=1e-7)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 3), (3, 1)])
def test_images_too_small_for_the_official_network_are_restored(size: tuple[int, int]) -> None:
    """There a quarter has no position, or none after the pooling; a single position has no covariance."""
    network = small(2, torch.float32)
    image = torch.from_numpy(closed_form("image", (1, 3, *size), 0, 1)).float()
    restored = network(image)
    restored.sum().backward()
    assert restored.isfinite().all()
    assert all(value.grad is None or value.grad.isfinite().all() for value in network.parameters())


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_official_checkpoint_loads(scale: int, tmp_path: Path) -> None:
    layout = {name: tuple(map(int, sizes)) for name, *sizes in map(str.split, ORACLE[f"x{scale}_keys"].tolist())}
    torch.save({name: parameter(name, shape) for name, shape in layout.items()}, tmp_path / "SAN.pt")
    network = San(scale, 16, 2, 2, 4, 8)
    assert load_published(network, tmp_path / "SAN.pt") == "state_dict of a .pt"
    assert list(network.state_dict()) == [name for name in layout if not name.startswith(FIXED)]
    for name, value in network.state_dict().items():
        assert torch.equal(value, parameter(name, layout[name]).float())


@pytest.mark.parametrize("configuration", COUNTS)
def test_parameter_count_is_the_official_one(configuration: str) -> None:
    scale, groups, non_local_reduction = map(int, configuration.split())
    assert count_parameters(meta(scale, groups, non_local_reduction)) == COUNTS[configuration]


def test_parameter_counts_are_the_published_ones() -> None:
    """Of FAKD's teacher and student; its figure has 15.86 M and 5.0 M at x4."""
    assert [count_parameters(meta(scale, 20)) for scale in (2, 3, 4)] == [15_714_848, 15_899_488, 15_862_560]
    assert [count_parameters(meta(scale, 6)) for scale in (2, 3, 4)] == [4_849_882, 5_034_522, 4_997_594]
    with torch.device("meta"):
        assert count_parameters(San(4)) == 15_862_560


@pytest.mark.parametrize(("groups", "published"), [(20, 37.55e9), (6, 12.52e9)])
def test_flops_are_those_of_fakd(groups: int, published: float) -> None:
    """For an input of 36x64. Ours are 0.5 % more: the products inside covariance and attention count, too."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(4, groups)(torch.empty(1, 3, 36, 64, device="meta"))
    assert counter.get_total_flops() / 2 == pytest.approx(published, rel=0.006)
    assert count_flops(meta(4, groups)) == pytest.approx(25 * published, rel=0.05)  # attention grows quadratically


def test_fakds_taps_are_where_it_has_them() -> None:
    """After the groups 6 and 13 of 20, 1 and 3 of 6 (from 0), and the last non-local attention."""
    assert [stage_at(depth, 20) for depth in (0.35, 0.7, 1)] == [6, 13, 19]
    assert [stage_at(depth, 6) for depth in (0.35, 0.7, 1)] == [1, 3, 5]
    network = small(2)
    image = torch.from_numpy(closed_form("image", (1, 3, 8, 8), 0, 1))
    seen: list[torch.Tensor] = []
    network.non_local.register_forward_hook(lambda _, __, output: seen.append(output))
    _, (tap,) = network.forward_tapped(image, [1.0])
    assert torch.equal(tap, seen[-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 4}, "channels 4 are too few: write at least 8"),
        ({"channels": 8}, "reduction 16 leaves none of 8 channels: write less"),
        ({"non_local_reduction": 65}, "non_local_reduction 65 leaves none of 64 channels: write less"),
    ],
)
def test_widths_that_leave_no_channel_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"san: {message}"):
        San(2, groups=1, **changes)
