"""Distances between images against those of the official code.

`distances_oracle.npz` holds what `PSNRLoss` of megvii-research/NAFNet, commit 2b4af71e
(`basicsr/models/losses/losses.py`), and `CharbonnierLoss` of ZhendongWang6/Uformer, commit 65fc970a (`losses.py`),
gave on four pairs of images, one of them nearly and one exactly equal: values and gradients, float32.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from components.images.distances import DISTANCES, psnr_loss
from components.images.metrics import psnr
from components.methods import METHODS, build_method
from components.methods.method import Frozen, Setting
from tests.training import tiny

ORACLE = np.load(Path(__file__).with_name("distances_oracle.npz"))
RESTORED, TARGET = (torch.from_numpy(ORACLE[name]) for name in ("restored", "target"))


@pytest.mark.parametrize("name", ["psnr", "charbonnier"])
def test_values_and_gradients_are_those_of_the_official_code(name):
    restored = RESTORED.clone().requires_grad_()
    value = DISTANCES[name](restored, TARGET)
    value.backward()
    np.testing.assert_allclose(value.item(), ORACLE[name], rtol=1e-6)
    expected = ORACLE[f"{name}_gradient"]
    np.testing.assert_allclose(restored.grad.numpy(), expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_the_psnr_loss_is_the_mean_psnr_with_its_sign_turned():
    images = np.random.default_rng(0).integers(256, size=(2, 3, 9, 8, 3), dtype=np.uint8)
    expected = [psnr(one, other) for one, other in zip(*images, strict=True)]
    first, second = torch.from_numpy(images).permute(0, 1, 4, 2, 3).double().div(255)
    assert psnr_loss(first, second).item() == pytest.approx(-np.mean(expected), abs=1e-5)


def test_l1_is_torchs():
    assert DISTANCES["l1"] is F.l1_loss


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", METHODS)
def test_every_reconstruction_and_logits_loss_is_the_distance_that_is_asked_for(name):
    """And no other loss changes."""
    picked = tiny.choice(name)
    batch = tiny.batch()

    def losses(**distances):
        student = tiny.edsr()
        setting = replace(tiny.setting(student, picked.weights), **distances)
        torch.manual_seed(4)
        method = build_method(picked, setting)
        return {
            term: loss
            for part in range(method.parts)
            for term, loss in method(student, batch._replace(part=part)).items()
        }

    before = losses()
    after = losses(to_clean=lambda *_: torch.tensor(1.25), to_teacher=lambda *_: torch.tensor(2.5))
    expected = {"reconstruction": 1.25, "wide_reconstruction": 1.25, "logits": 2.5}
    for term, loss in before.items():
        assert after[term].item() == pytest.approx(expected.get(term, loss.item()), rel=1e-6), term


@pytest.mark.usefixtures("one_thread")
def test_each_is_between_the_images_that_its_name_says():
    student, batch = tiny.edsr(), tiny.batch()
    teacher = Frozen(tiny.edsr(seed=2, blocks=2))
    method = METHODS["logits"](
        Setting(student, frozenset({"reconstruction", "logits"}), 5, teacher, to_clean=psnr_loss, to_teacher=F.mse_loss)
    )
    losses, restored = method(student, batch), student(batch.degraded)
    assert torch.equal(losses["reconstruction"], psnr_loss(restored, batch.clean))
    assert torch.equal(losses["logits"], F.mse_loss(restored, teacher.network(batch.degraded)))
