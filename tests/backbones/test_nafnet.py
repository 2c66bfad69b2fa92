"""NAFNet against numbers from the official implementation, and published figures.

`nafnet_oracle.npz` holds, of megvii-research/NAFNet, commit 2b4af71 (`basicsr/models/archs`), run in float64 with
closed-form weights: images of `NAFNet` and of `NAFNetLocal` for patches of 32, at a size above its window of 48, at an
odd size beyond it on one side only, and at one below it; the gradients of its parameters; windows' means of its
`AvgPool2d`; names and shapes of its parameters, and parameter counts.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from components.backbones.cost import count_flops, count_parameters
from components.backbones.nafnet import Nafnet, local_means
from components.backbones.weights import load_published
from components.run.errors import InputError
from tests.closed_form import closed_form, fill, parameter

pytestmark = pytest.mark.usefixtures("one_thread")

ORACLE = np.load(Path(__file__).with_name("nafnet_oracle.npz"))
COUNTS = dict(zip(ORACLE["count_names"].tolist(), ORACLE["counts"].tolist(), strict=True))
IMAGES = [key for key in ORACLE.files if key.startswith(("global_", "local_"))]
GOPRO = ((1, 1, 1, 28), 1, (1, 1, 1, 1))


def small(local_window: int | None = None, precision: torch.dtype = torch.float64) -> Nafnet:
    network = Nafnet(1, 8, (1, 2), 1, (2, 1), local_window).to(precision)
    fill(network)
    return network


def meta(channels: int, *blocks: object, local_window: int | None = None) -> Nafnet:
    with torch.device("meta"):
        return Nafnet(1, channels, *blocks, local_window)  # type: ignore[arg-type]


def restored(network: Nafnet, size: tuple[int, int], precision: torch.dtype) -> np.ndarray:
    """Zeros up to the size rule on the right and below, as the official network pads."""
    image = torch.from_numpy(closed_form("image", (1, 3, *size), 0, 1)).to(precision)
    padded = F.pad(image, (0, -size[1] % network.multiple, 0, -size[0] % network.multiple))
    with torch.no_grad():
        return network(padded)[..., : size[0], : size[1]].double().numpy()


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("key", IMAGES)
def test_it_restores_the_official_image(key: str, precision: torch.dtype) -> None:
    kind, height, width = key.split("_")
    network = small(48 if kind == "local" else None, precision).eval()
    found = restored(network, (int(height), int(width)), precision)
    np.testing.assert_allclose(found, ORACLE[key], rtol=1e-5, atol=1e-5)


def test_windows_act_in_evaluation_alone() -> None:
    network, size = small(48), (72, 56)
    np.testing.assert_allclose(restored(network.train(), size, torch.float64), ORACLE["global_72_56"], atol=1e-5)
    np.testing.assert_allclose(restored(network.eval(), size, torch.float64), ORACLE["local_72_56"], atol=1e-5)
    assert np.abs(ORACLE["global_72_56"] - ORACLE["local_72_56"]).max() > 0.1


def test_weights_are_the_same_with_and_without_windows() -> None:
    assert small(48).state_dict().keys() == small().state_dict().keys()


@pytest.mark.parametrize("window", [1, 4, 5, 12, 20])
def test_means_over_windows_are_the_official_ones(window: int) -> None:
    """Even and odd, as wide as one side, wider than both."""
    features = torch.from_numpy(closed_form("features", (2, 3, 11, 14)))
    np.testing.assert_allclose(local_means(features, window), ORACLE[f"means_{window}"], rtol=0, atol=1e-12)


def test_means_over_windows_are_counted_by_hand() -> None:
    row = torch.tensor([0.0, 1, 2, 4, 8]).view(1, 1, 1, 5)
    assert local_means(row, 3).flatten().tolist() == pytest.approx([1, 1, 7 / 3, 14 / 3, 14 / 3])
    assert local_means(row.mT, 2).flatten().tolist() == pytest.approx([0.5, 1.5, 3, 6, 6])


def test_means_over_the_windows_of_a_large_image_are_exact_in_half_precision() -> None:
    """Its running sums reach thousands of times the mean, which bf16 could not hold."""
    network = Nafnet(1, 8, (1,), 1, (1,), local_window=16).eval()
    fill(network)
    pool = network.encoders[0][0].sca[0]
    features = torch.from_numpy(closed_form("features", (1, 8, 4, 2048), 0, 1)).bfloat16()
    torch.testing.assert_close(pool(features), local_means(features.double(), 16).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_gradients_are_the_official_ones(precision: torch.dtype) -> None:
    network = Nafnet(1, 4, (1, 1), 1, (1, 1)).to(precision)
    fill(network)
    image = torch.from_numpy(closed_form("image", (2, 3, 8, 12), 0, 1)).to(precision)
    output = network(image)
    (output * torch.from_numpy(closed_form("cotangent", tuple(output.shape)))).sum().backward()
    for key, value in network.named_parameters():
        assert value.grad is not None
        official = ORACLE[f"gradient {key}"]
        np.testing.assert_allclose(value.grad, official, rtol=1e-5, atol=1e-5 * np.abs(official).max(), err_msg=key)


def test_the_official_checkpoint_loads(tmp_path: Path) -> None:
    layout = {name: tuple(map(int, sizes)) for name, *sizes in map(str.split, ORACLE["keys"].tolist())}
    torch.save({"params": {name: parameter(name, shape) for name, shape in layout.items()}}, tmp_path / "NAFNet.pth")
    network = Nafnet(1, 8, (1, 2), 1, (2, 1))
    assert load_published(network, tmp_path / "NAFNet.pth") == "params of a .pth"
    assert list(network.state_dict()) == list(layout)
    for name, value in network.state_dict().items():
        assert torch.equal(value, parameter(name, layout[name]).float())


@pytest.mark.parametrize("configuration", COUNTS)
def test_parameter_count_is_the_official_one(configuration: str) -> None:
    channels, encoder, middle, decoder = (tuple(map(int, part.split("-"))) for part in configuration.split())
    assert count_parameters(meta(channels[0], encoder, middle[0], decoder)) == COUNTS[configuration]


def test_parameter_counts_are_the_published_ones() -> None:
    """17.1 M and, of DCKD's student, 2.7 M; 67.9 M for GoPro, 29.2 M and 116 M for SIDD."""
    sidd = ((2, 2, 4, 8), 12, (2, 2, 2, 2))
    assert [count_parameters(meta(channels, *GOPRO)) for channels in (32, 64)] == [17_111_907, 67_888_835]
    assert [count_parameters(meta(channels, *sidd)) for channels in (32, 64)] == [29_159_715, 115_982_915]
    assert count_parameters(meta(16, (1, 1, 1, 14), 1, (1, 1, 1, 1))) == 2_683_059
    with torch.device("meta"):
        assert count_parameters(Nafnet(1)) == 17_111_907


@pytest.mark.parametrize(("channels", "published"), [(32, 16.0e9), (64, 63.6e9)])
def test_flops_are_the_published_ones_for_256x256(channels: int, published: float) -> None:
    """Reproduced to 0.9 %: the authors' counter also counts normalisation, pooling and gates."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(channels, *GOPRO)(torch.empty(1, 3, 256, 256, device="meta"))
    assert counter.get_total_flops() / 2 == pytest.approx(published, rel=0.009)
    assert count_flops(meta(channels, *GOPRO)) == pytest.approx(published * 1280 * 720 / 256**2, rel=0.009)


def test_windows_cost_what_they_add() -> None:
    """The attention's convolution runs at every position instead of one."""
    plain, local = (count_flops(meta(16, (1,), 1, (1,), local_window=window)) for window in (None, 384))
    pixels = 1280 * 720
    assert local - plain == 2 * 16**2 * (pixels - 1) + 32**2 * (pixels // 4 - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 2}, "scale 2 is not supported"),
        ({"decoder": (1, 1)}, "4 encoders need as many decoders, not 2"),
        ({"local_window": 15}, "local_window 15 .* at least 16"),
    ],
)
def test_what_makes_no_network_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"nafnet: {message}"):
        Nafnet(**({"scale": 1} | arguments))  # type: ignore[arg-type]
