import math
import os
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from components.images.files import read_image
from components.images.metrics import to_luma, to_rounded_luma
from components.tasks.derain import Deraining
from components.tasks.derain.rain import Rain

CAT = data.chelsea()[60:160, 100:220]


def rgb2ycbcr(image):
    """MATLAB's Y of uint8, rounded to the nearest level by exact fractions, halves up."""
    shares = [Fraction(65481, 255000), Fraction(128553, 255000), Fraction(24966, 255000)]
    colours, places = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    exact = (sum(share * int(value) for share, value in zip(shares, colour, strict=True)) for colour in colours)
    return np.array([math.floor(luma + 16 + Fraction(1, 2)) for luma in exact])[places].reshape(image.shape[:-1])


def scores(first, second):
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, every = structural_similarity(first.astype(float), second.astype(float), full=True, **settings)
    return {
        "psnr": pytest.approx(
            peak_signal_noise_ratio(second.astype(float), first.astype(float), data_range=255), abs=1e-9
        ),
        "ssim": pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-9),
    }


def slightly_wrong():
    return (CAT.astype(int) + np.random.default_rng(0).integers(-2, 3, CAT.shape)).clip(0, 255).astype(np.uint8)


def test_rounded_luma_is_the_nearest_level_of_exact_fractions():
    colours = np.random.default_rng(0).integers(0, 256, (1, 5000, 3), dtype=np.uint8)
    extremes = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    for image in (colours, extremes, halves()):
        assert np.array_equal(to_rounded_luma(image), rgb2ycbcr(image))


def halves():
    """Colours whose luma lies exactly between two levels, one in 85,000: floats fall to either side."""
    every = np.random.default_rng(1).integers(0, 256, (1, 1_000_000, 3), dtype=np.uint8)
    found = every[(every.astype(np.int64) @ [65481, 128553, 24966] + 127500) % 255000 == 0][None]
    assert found.shape[1] > 3
    return found


def test_both_protocols_step_by_step():
    restored = slightly_wrong()
    assert Deraining().measure(restored, CAT) == scores(rgb2ycbcr(restored), rgb2ycbcr(CAT))
    assert Deraining(luma="float").measure(restored, CAT) == scores(to_luma(restored), to_luma(CAT))


def test_rounding_luma_costs_up_to_a_tenth_of_a_db_and_more_where_little_is_wrong():
    """Rounding adds noise of variance 1/12 to both images: the higher the PSNR, the more it weighs."""
    restored = slightly_wrong()
    rounded, exact = (Deraining(luma=luma).measure(restored, CAT)["psnr"] for luma in ("rounded", "float"))
    error = 255**2 / 10 ** (exact / 10)
    assert exact - rounded == pytest.approx(10 * np.log10(1 + 2 / 12 / error), abs=0.02)
    assert 0.1 < exact - rounded < 1


def test_the_protocols_are_told():
    assert Deraining().protocol == "luma Y rounded to 8 bits, of 8-bit images; no border cropped"
    assert Deraining(luma="float").protocol == "luma Y not rounded, of 8-bit images; no border cropped"


def test_rain_is_drawn_for_every_crop_and_needs_no_surroundings():
    task = Deraining(rain=Rain())
    assert not task.packed
    assert task.margin == 0


@pytest.mark.datasets
def test_the_rainy_images_of_rain100h_score_as_rain100h_does(tmp_path):
    """Half of it is available; papers give 12 to 14 dB for the whole, by either luma."""
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Rain100H_first50.tar")
    with tarfile.open(Path(os.environ["DATASETS_DIR"], "Rain100H_first50.tar")) as archive:
        archive.extractall(tmp_path, filter="data")
    found = {"rounded": [], "float": []}
    for path in sorted((tmp_path / "Rain100H_first50" / "target").glob("*.png"))[:20]:
        rainy, clean = read_image(path.parents[1] / "input" / path.name), read_image(path)
        for luma, values in found.items():
            values.append(Deraining(luma=luma).measure(rainy, clean)["psnr"])
    assert 12 < np.mean(found["rounded"]) < 15
    assert np.mean(found["float"]) == pytest.approx(np.mean(found["rounded"]), abs=0.005)
