# ruff: noqa: NPY002 - the published noise comes from the legacy generator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from components.backbones.backbone import Backbone
from components.images.files import write_png
from components.images.manifest import Entry
from components.images.patches import TrainingPatches
from components.images.store import Pair, Store, StoreWriter
from components.reporting.places import read_clean
from components.run.files import sha256_of
from components.tasks.denoise import Denoising
from components.tasks.evaluation import evaluate_images, network_restorer, read_pair
from components.training.outcome import validation_on

CAT = data.chelsea()
BLACK = np.zeros((300, 400, 3), np.uint8)
WHITE = np.full((300, 400, 3), 255, np.uint8)


def published(image, sigma):
    """The lines of Restormer's `test_gaussian_color_denoising.py`, the gray ones with `H W 1`."""
    state = np.random.get_state()
    degraded = np.float32(image) / 255.0
    np.random.seed(seed=0)
    degraded += np.random.normal(0, sigma / 255.0, degraded.shape)
    np.random.set_state(state)
    return degraded


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_test_noise_is_the_published_one_bit_for_bit(sigma):
    degraded = Denoising(sigma).degrade_for_test(CAT, np.random.default_rng(7))
    assert degraded.dtype == np.float32
    assert np.array_equal(degraded, published(CAT, sigma))
    assert degraded.min() < 0
    assert degraded.max() > 1


def test_gray_noise_is_the_published_one_on_three_equal_planes():
    task = Denoising(25, gray=True)
    gray = task.crop(CAT)
    assert np.array_equal(gray, gray[..., :1].repeat(3, 2))
    exact = CAT @ [0.299, 0.587, 0.114]
    assert np.abs(gray[..., 0] - exact).max() < 0.51
    assert np.array_equal(task.degrade_for_test(gray, None), published(gray[..., :1], 25).repeat(3, 2))
    drawn = task.degrade(gray, np.random.default_rng(0))
    assert np.array_equal(drawn, drawn[..., :1].repeat(3, 2))


def test_noise_of_every_image_begins_anew_and_no_other_random_number_is_touched(tmp_path):
    task = Denoising(25)
    entries = []
    for name in ("one", "two"):
        height = 60 if name == "one" else 80
        write_png(tmp_path / f"{name}.png", CAT[:height, :70])
        sha256 = sha256_of(tmp_path / f"{name}.png")
        entries.append(Entry("test", "set", name, f"{name}.png", "", height, 70, sha256, "0" * 16))
    before = np.random.get_state()[1].copy()
    for entry in reversed(entries):
        degraded, clean = read_pair(entry, tmp_path, task)
        assert np.array_equal(degraded, published(clean, 25))
    assert np.array_equal(before, np.random.get_state()[1])
    pictured, _ = read_clean(SimpleNamespace(task=task), entries[0], tmp_path)  # the report shows what can be saved
    assert np.array_equal(pictured, task.baseline(published(CAT[:60, :70], 25)))
    found = evaluate_images("input", task.baseline, entries, tmp_path, task, tmp_path / "restored")
    rounded = np.clip(np.round(published(CAT[:60, :70], 25) * 255.0), 0, 255)
    assert found.scores[0].psnr == pytest.approx(
        peak_signal_noise_ratio(CAT[:60, :70].astype(float), rounded, data_range=255), abs=1e-3
    )


def test_training_noise_is_white_gaussian_of_the_given_strength_neither_clipped_nor_rounded():
    for clean in (BLACK, WHITE):
        noise = (Denoising(25).degrade(clean, np.random.default_rng(0)) - clean / 255) * 255
        assert abs(noise.mean()) < 5 * 25 / np.sqrt(noise.size)
        assert noise.std() == pytest.approx(25, rel=0.005)
        assert stats.kstest(noise.ravel()[::7] / 25, "norm").pvalue > 0.001
        assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.015
        assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.01
        assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.01
        assert 0.49 < (noise < 0).mean() < 0.51


def test_a_blind_network_sees_every_strength_of_the_range_equally_often_and_is_tested_at_one():
    task = Denoising((10, 50), test_sigma=25)
    random = np.random.default_rng(0)
    strengths = [float(task.degrade(BLACK[:64, :64], random).std() * 255) for _ in range(400)]
    assert stats.kstest(strengths, stats.uniform(10, 40).cdf).pvalue > 0.001
    assert np.array_equal(task.degrade_for_test(CAT, None), published(CAT, 25))


def test_training_crops_carry_the_float_noise_on(tmp_path):
    """Clipped or rounded to 8 bits on the way, it would no longer be white near black and white."""
    with StoreWriter(tmp_path / "lmdb", 1, 0) as writer:
        writer.add("training", "set/one", Pair(None, BLACK[:200, :200]), [((0, 0), (200, 200))])
    patches = TrainingPatches(Store(tmp_path / "lmdb"), Denoising(25), patch=128, seed=0, augment=True)
    first, again, other = patches[5], patches[5], patches[6]
    assert first["degraded"].dtype == torch.float32
    assert torch.equal(first["degraded"], again["degraded"])
    assert not torch.equal(first["degraded"], other["degraded"])
    noise = (first["degraded"] - first["clean"]) * 255
    assert float(noise.mean()) == pytest.approx(0, abs=0.5)
    assert float(noise.std()) == pytest.approx(25, rel=0.02)
    assert noise.unique().numel() > 40000


class Identity(Backbone):
    """Keeps what it was given."""

    scale, depth = 1, 0

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def enter(self, image):
        self.seen.append(image)
        return image

    def stage(self, index, state):
        raise AssertionError

    def leave(self, state):
        return state


def test_networks_see_the_noise_unclipped_when_measured_and_when_validated(tmp_path):
    network, task = Identity(), Denoising((0, 50), test_sigma=25)
    degraded = task.degrade_for_test(CAT[:40, :50], None)
    restored = network_restorer(network)(degraded)
    assert np.array_equal(network.seen[0][0].permute(1, 2, 0).numpy(), degraded)
    assert np.array_equal(restored, task.baseline(degraded))
    with StoreWriter(tmp_path / "lmdb", 1, 0) as writer:
        writer.add("validation", "set/one", Pair(None, CAT[:40, :50]), [((0, 0), (40, 50))])
    row = validation_on(Store(tmp_path / "lmdb"), task)(network)
    assert np.array_equal(network.seen[1], network.seen[0])
    assert row == task.measure(task.baseline(degraded), CAT[:40, :50])


def test_gaussian_scores_are_scikit_images_and_the_mean_over_channels():
    noisy = Denoising(25).baseline(published(CAT, 25))
    measured = Denoising(25).measure(noisy, CAT)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, every = structural_similarity(noisy.astype(float), CAT.astype(float), full=True, channel_axis=-1, **settings)
    assert measured["psnr"] == pytest.approx(peak_signal_noise_ratio(CAT, noisy), abs=1e-9)
    assert measured["ssim"] == pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-9)


def test_gray_scores_are_those_of_one_plane():
    task = Denoising(25, gray=True)
    gray = task.crop(CAT)
    noisy = task.baseline(task.degrade_for_test(gray, None))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, every = structural_similarity(noisy[..., 0].astype(float), gray[..., 0].astype(float), full=True, **settings)
    measured = task.measure(noisy, gray)
    assert measured["psnr"] == pytest.approx(peak_signal_noise_ratio(gray[..., 0], noisy[..., 0]), abs=1e-9)
    assert measured["ssim"] == pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-9)


def test_the_protocols_are_told():
    assert Denoising(25).protocol == "RGB, 8 bits, noise of sigma 25, not clipped; SSIM averaged over channels"
    assert Denoising((0, 50), test_sigma=15).protocol.startswith("RGB, 8 bits, noise of sigma 15,")
    assert Denoising(50, gray=True).protocol.startswith("gray, 8 bits, noise of sigma 50,")
    assert Denoising().protocol == "RGB, 8 bits, real noise; SSIM of the volume"


def test_real_noise_is_measured_by_the_volume_as_sidds_tables_are():
    noisy = Denoising(25).baseline(published(CAT, 25))
    gaussian, real = Denoising(25).measure(noisy, CAT), Denoising().measure(noisy, CAT)
    assert real["psnr"] == gaussian["psnr"]
    assert real["ssim"] > gaussian["ssim"] + 0.1
