"""EDSR and RCAN against numbers from the official implementations.

`rcan_edsr_oracle.npz` holds `EDSR(255 * image) / 255` and `RCAN(255 * image) / 255` of yulunzhang/RCAN, commit f722e5d
(`RCAN_TrainCode/code/model`, whose `edsr.py` and `common.py` are those of EDSR), run in float64 with closed-form
weights; their parameter names; and their parameter counts without MeanShift. The networks of XPixelGroup/BasicSR,
commit 8d56e3a, gave the same images to 2e-7 when the weights were renamed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.backbones.backbone import Backbone
from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from tests.closed_form import closed_form, fill

ORACLE = np.load(Path(__file__).with_name("rcan_edsr_oracle.npz"))
COUNTS = dict(zip(ORACLE["count_names"].tolist(), ORACLE["counts"].tolist(), strict=True))


def restored(network: Backbone, precision: torch.dtype) -> NDArray[np.float64]:
    """Our network's image with the closed-form weights."""
    fill(network)
    image = torch.from_numpy(closed_form("image", (1, 3, 12, 10), 0, 1))
    with torch.no_grad():
        output: torch.Tensor = network.to(precision).eval()(image.to(precision))
    return output.double().numpy()


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("residual_scale", [1.0, 0.1])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_restores_the_official_image(scale: int, residual_scale: float, precision: torch.dtype) -> None:
    network = Edsr(scale, channels=8, blocks=3, residual_scale=residual_scale)
    official = ORACLE[f"edsr_x{scale}_residual_{residual_scale:g}"]
    np.testing.assert_allclose(restored(network, precision), official, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_rcan_restores_the_official_image(scale: int, precision: torch.dtype) -> None:
    network = Rcan(scale, channels=8, groups=2, blocks=3, reduction=4)
    np.testing.assert_allclose(restored(network, precision), ORACLE[f"rcan_x{scale}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parameters_have_the_official_names(scale: int) -> None:
    edsr, rcan = Edsr(scale, channels=8, blocks=3), Rcan(scale, channels=8, groups=2, blocks=3, reduction=4)
    assert list(edsr.state_dict()) == ORACLE[f"edsr_x{scale}_keys"].tolist()
    assert list(rcan.state_dict()) == ORACLE[f"rcan_x{scale}_keys"].tolist()


@pytest.mark.parametrize("configuration", COUNTS)
def test_parameter_count_is_the_official_one(configuration: str) -> None:
    kind, *numbers = configuration.split()
    channels, blocks, scale = (int(number) for number in numbers)
    with torch.device("meta"):
        network: Backbone = Edsr(scale, channels, blocks) if kind == "edsr" else Rcan(scale, channels, 10, blocks)
    assert sum(value.numel() for value in network.parameters()) == COUNTS[configuration]
