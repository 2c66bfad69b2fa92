"""MTKD's wavelet transform and loss against PyWavelets and the official implementation.

`mtkd_oracle.npz` holds what `dwtLoss` of YuxuanJJ/MTKD, commit d027a3a (`basicsr/losses/basic_loss.py`, with
pytorch_wavelets 1.3.0), gave in float64 on closed-form images: its sub-bands, its value and its gradient.
"""

from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from components.methods.parts.wavelets import haar, wavelet_distance
from tests.closed_form import closed_form

ORACLE = np.load(Path(__file__).with_name("mtkd_oracle.npz"))
LEVELS = (1, 2, 3, 4)


def image(name: str, height: int = 32, width: int = 48) -> Tensor:
    return torch.from_numpy(closed_form(name, (5, 3, height, width), 0, 1))


def other_image() -> Tensor:
    """Squared, since the difference of two closed-form images has two values only."""
    return image("label") ** 2


def close(ours: Tensor, expected: np.ndarray, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(ours.detach().double().numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(("height", "width"), [(32, 48), (7, 10), (5, 3), (1, 1)])
def test_sub_bands_are_those_of_pywavelets(height: int, width: int) -> None:
    images = image("student", height, width)
    approximation, details = haar(images)
    expected, expected_details = pywt.dwt2(images.numpy(), "haar", mode="zero")
    close(approximation, expected)
    for ours, theirs in zip(details, expected_details, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("levels", LEVELS)
def test_sub_bands_of_every_level_are_the_official_ones(levels: int) -> None:
    approximation = image("student")
    for level in range(levels):
        approximation, details = haar(approximation)
        close(details.permute(1, 2, 0, 3, 4).flatten()[::23], ORACLE[f"high_{levels}_{level}"])
    close(approximation.flatten()[::11], ORACLE[f"low_{levels}"])


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("precision", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_distance_adds_up_every_band_of_pywavelets(levels: int, precision: torch.dtype, rtol: float) -> None:
    student, label = image("student"), other_image()
    ours, theirs = (pywt.wavedec2(one.numpy(), "haar", mode="zero", level=levels) for one in (student, label))
    expected = np.abs(ours[0] - theirs[0]).mean()
    for mine, others in zip(ours[1:], theirs[1:], strict=True):
        expected += sum(np.abs(one - other).mean() for one, other in zip(mine, others, strict=True))
    distance = wavelet_distance(student.to(precision), label.to(precision), levels)
    assert distance.item() == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize("levels", LEVELS)
def test_released_loss_is_of_the_same_bands_but_for_what_we_say_of_it(levels: int) -> None:
    """It takes the mean over a level's details, and the approximation of the sample with the last level's number."""
    student = image("student").requires_grad_()
    approximation = student - other_image()
    released = torch.zeros((), dtype=torch.float64)
    for _ in range(levels):
        approximation, details = haar(approximation)
        released = released + details.abs().mean()
    released = released + approximation[levels - 1].abs().mean()
    released.backward()  # type: ignore[no-untyped-call]
    assert released.item() == pytest.approx(ORACLE[f"released_{levels}"].item(), rel=1e-12)
    assert student.grad is not None
    close(student.grad.flatten()[::97], ORACLE[f"gradient_{levels}"])
