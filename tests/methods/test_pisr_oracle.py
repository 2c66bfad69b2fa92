"""PISR against numbers from the official implementation, cvlab-yonsei/PISR, commit f66b979.

`pisr_oracle.npz` holds what it gave in float64 on closed-form luma and weights: `FSRCNN`, `FSRCNNTeacher` with the
encoder `lcscc`, `teacher_LR_constraint_loss` and `vid_loss` of `FSRCNNStudent` for both densities and every `vid_info`,
each with gradients; and the output of `FSRCNN` of yjn870/FSRCNN-pytorch, commit 3eaab29. Ours sees the same luma as
gray RGB, so that its reconstruction is 255/219 of theirs.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.auxiliary.privileged_teacher import PrivilegedTeacher
from components.backbones.fsrcnn import Fsrcnn
from components.backbones.parts.luma import to_gray, to_luma
from components.methods.method import Batch, Frozen, Setting
from components.methods.pisr import Pisr
from components.training.privileged import PrivilegedLearning
from tests.closed_form import closed_form, parameter

ORACLE = np.load(Path(__file__).with_name("pisr_oracle.npz"))
SCALES = (2, 3, 4)
SPREADS = {"element": "None", "channel": "C", "position": "HW", "sample": "CHW"}
CONSTANT = 56 * math.log(2 * math.pi) / 2
PRECISIONS = [torch.float32, torch.float64]

pytestmark = pytest.mark.usefixtures("one_thread")


def fill(network: nn.Module, factor: float = 1.0, convolutions: float = 1.5) -> None:
    """Closed-form weights times a factor, those of convolutions times another one; slopes are around a quarter."""

    def value(name: str, shape: tuple[int, ...]) -> Tensor:
        is_slope = len(shape) == 1 and name.endswith("weight")
        share = 0.25 if is_slope else convolutions if len(shape) == 4 else 1.0
        return factor * share * parameter(name.removeprefix("decoder."), shape)

    network.load_state_dict({name: value(name, tuple(old.shape)) for name, old in network.state_dict().items()})


def low(precision: torch.dtype) -> Tensor:
    return torch.from_numpy(closed_form("low", (2, 1, 6, 5), 16 / 255, 235 / 255)).to(precision)


def high(scale: int, precision: torch.dtype) -> Tensor:
    values = closed_form("high", (2, 1, 6 * scale, 5 * scale), 16 / 255, 235 / 255)
    return torch.from_numpy(values).to(precision)


def gray(luma: Tensor) -> Tensor:
    return to_gray(luma).expand(-1, 3, -1, -1)


def batch(scale: int, precision: torch.dtype) -> Batch:
    return Batch(gray(low(precision)), gray(high(scale, precision)), torch.arange(2), 1)


def close(ours: Any, expected: NDArray[Any] | float, tolerance: float = 1e-5) -> None:
    """Relative to the largest value of an array."""
    values = ours.detach().double().numpy() if isinstance(ours, Tensor) else ours
    np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance * float(np.abs(expected).max()))


def gradients(network: nn.Module) -> Tensor:
    """Every 97th value, in the order of the names."""
    return torch.cat([value.grad.flatten() for _, value in sorted(network.named_parameters())])[::97]  # type: ignore[union-attr]


def teacher(scale: int, precision: torch.dtype) -> PrivilegedTeacher:
    network = PrivilegedTeacher(Fsrcnn(scale, slopes="shared"))
    fill(network)
    return network.to(precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scale", SCALES)
class TestNetworks:
    def test_fsrcnn_is_the_official_one(self, scale: int, precision: torch.dtype) -> None:
        network = Fsrcnn(scale, slopes="shared")
        fill(network)
        close(network.to(precision).restore_luma(low(precision)), ORACLE[f"fsrcnn_x{scale}"])

    def test_fsrcnn_with_slopes_per_channel_is_yjn870s(self, scale: int, precision: torch.dtype) -> None:
        network = Fsrcnn(scale)
        fill(network)
        close(network.to(precision).restore_luma(low(precision)), ORACLE[f"yjn_x{scale}"])

    def test_the_privileged_teacher_is_the_official_one(self, scale: int, precision: torch.dtype) -> None:
        network, clean = teacher(scale, precision), gray(high(scale, precision))
        close(network.imitate(clean), ORACLE[f"teacher_encoder_x{scale}"])
        restored, (features,) = network.forward_tapped(clean, [1.0])
        close(features[:, ::7], ORACLE[f"teacher_expanding_x{scale}"])
        close(to_luma(restored), ORACLE[f"teacher_hr_x{scale}"])

    def test_its_losses_are_the_official_ones_with_their_gradients(self, scale: int, precision: torch.dtype) -> None:
        network = teacher(scale, precision)
        losses = PrivilegedLearning()(network, batch(scale, precision))
        total, reconstruction, imitation = ORACLE[f"step1_losses_x{scale}"]
        close(losses["reconstruction"].item() * 219 / 255, reconstruction)
        close(losses["imitation"].item() * 1e-4, imitation)
        ours = 219 / 255 * losses["reconstruction"] + 1e-4 * losses["imitation"]
        close(ours.item(), total)
        ours.backward()
        close(gradients(network), ORACLE[f"step1_gradient_x{scale}"])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
def test_the_students_losses_are_the_official_ones_with_their_gradients(
    distribution: Any, spread: Any, precision: torch.dtype
) -> None:
    student, taught = Fsrcnn(2, slopes="shared"), teacher(2, torch.float32)
    weights = {"reconstruction": 219 / 255, "variational": 1e-6}
    setting = Setting(student, frozenset(weights), 0, load_privileged=lambda: Frozen(taught))
    method = Pisr(setting, distribution=distribution, spread=spread)
    fill(student, 0.9)
    fill(method, convolutions=0.5)
    for network in (student, method, taught):
        network.to(precision)
    losses = method(student, batch(2, precision))
    official = f"step2_{distribution}_{SPREADS[spread]}_x2"
    total, reconstruction, variational = ORACLE[f"{official}_losses"]
    close(losses["reconstruction"].item() * 219 / 255, reconstruction)
    # The constant, 25 times as large as the rest, would hide what differs.
    close(losses["variational"].item(), variational / 1e-6 - CONSTANT)
    ours = torch.stack([weight * losses[name].double() for name, weight in weights.items()]).sum()
    close(ours.item(), total - 1e-6 * CONSTANT)
    ours.backward()  # type: ignore[no-untyped-call]
    close(gradients(student), ORACLE[f"{official}_gradient"])
    names = [f"heads.0.{head}.{layer}.weight" for head in ("location", "spread") for layer in (0, 1, 2)]
    found = [method.get_parameter(name).grad for name in names]
    close(torch.cat([value.flatten() for value in found if value is not None])[::97], ORACLE[f"{official}_heads"])
