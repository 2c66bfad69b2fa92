import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from components.images.bicubic import upscale
from components.images.files import read_image
from components.images.metrics import crop_border, psnr, quantise, ssim, to_luma
from components.run.errors import InputError


def pair():
    """A restored and a clean image, made by a formula so that other programs can be given the same."""
    y, x = np.mgrid[0:48, 0:64]
    clean = np.stack([(7 * x + 3 * y) % 256, (5 * y + x * x // 9) % 256, (x * y // 3) % 256], axis=-1)
    error = ((x * 31 + y * 17) % 23 - 11)[..., None] * np.array([1, -1, 2])
    return np.clip(clean + error, 0, 255).astype(np.uint8), clean.astype(np.uint8)


RESTORED, CLEAN = pair()

# (border, luma): PSNR and SSIM of `pair()` by BasicSR's calculate_psnr and calculate_ssim, whose luma is float32.
BASICSR = {
    (0, False): (28.91565484383269, 0.8818505442306735),
    (2, False): (28.833074088560103, 0.8836344791775345),
    (4, False): (28.821616365749698, 0.8861099304983919),
    (0, True): (51.83959753373904, 0.9994569791165482),
    (2, True): (52.48868705611356, 0.9994707423466852),
    (3, True): (52.468148782333955, 0.9994689252335552),
    (4, True): (52.46354264475223, 0.9994635694344167),
}


@pytest.mark.parametrize(("border", "luma"), BASICSR)
def test_scores_are_those_of_basicsr(border, luma):
    first, second = crop_border(RESTORED, border), crop_border(CLEAN, border)
    if luma:
        first, second = to_luma(first), to_luma(second)
    expected_psnr, expected_ssim = BASICSR[border, luma]
    assert psnr(first, second) == pytest.approx(expected_psnr, abs=5e-6)
    assert ssim(first, second) == pytest.approx(expected_ssim, abs=1e-9)


@pytest.mark.parametrize("luma", [True, False])
def test_scores_are_those_of_scikit_image(luma):
    first, second = (to_luma(RESTORED), to_luma(CLEAN)) if luma else (RESTORED, CLEAN)
    _, similarity = structural_similarity(
        first.astype(np.float64),
        second.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=None if luma else -1,
        full=True,
    )
    assert ssim(first, second) == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-12)
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(second, first, data_range=255), abs=1e-12)


def test_one_level_everywhere_is_48_13_db():
    assert psnr(np.full((16, 16), 7, np.uint8), np.full((16, 16), 8, np.uint8)) == pytest.approx(20 * np.log10(255))


def test_differences_do_not_wrap_around():
    assert psnr(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)) == 0


def test_identical_images_get_finite_scores_that_fit_in_json():
    scores = {"psnr": psnr(CLEAN, CLEAN), "ssim": ssim(CLEAN, CLEAN)}
    assert scores == {"psnr": 100.0, "ssim": 1.0}
    json.dumps(scores, allow_nan=False)


def test_psnr_is_limited_so_that_no_image_beats_an_identical_one():
    almost = CLEAN.astype(np.float64)
    almost[0, 0, 0] += 1e-3
    assert psnr(almost, CLEAN) == 100.0


# Corners of the colour cube in ITU-R BT.601 studio range, in 8-bit units.
@pytest.mark.parametrize(
    ("colour", "luma"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
    ],
)
def test_luma_of_the_primaries(colour, luma):
    assert to_luma(np.full((1, 1, 3), colour, np.uint8))[0, 0] == pytest.approx(luma, abs=1e-10)


def test_luma_is_that_of_scikit_image():
    np.testing.assert_allclose(to_luma(CLEAN), rgb2ycbcr(CLEAN)[..., 0], atol=1e-10)


def test_luma_is_not_rounded():
    first, second = to_luma(RESTORED), to_luma(CLEAN)
    assert abs(psnr(first, second) - psnr(np.rint(first), np.rint(second))) > 0.1


def test_luma_scores_are_not_colour_scores():
    assert abs(psnr(to_luma(RESTORED), to_luma(CLEAN)) - psnr(RESTORED, CLEAN)) > 1


def test_what_lies_in_the_border_does_not_count():
    spoilt = CLEAN.copy()
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 0, 0, 0
    assert psnr(spoilt, CLEAN) < 20
    assert psnr(crop_border(spoilt, 4), crop_border(CLEAN, 4)) == 100
    assert psnr(crop_border(spoilt, 3), crop_border(CLEAN, 3)) < 100
    assert crop_border(CLEAN, 4).shape == (40, 56, 3)
    assert crop_border(CLEAN, 0).shape == CLEAN.shape


def test_outputs_are_rounded_to_the_nearest_level_and_halves_to_even():
    levels = np.array([-3, 0, 0.4, 0.5, 0.6, 1.5, 2.5, 254.4, 254.6, 300]) / 255
    np.testing.assert_array_equal(quantise(levels), [0, 0, 0, 0, 1, 2, 2, 254, 255, 255])


def test_errors_below_half_a_level_vanish_by_rounding():
    output = np.clip(CLEAN / 255 + 0.3 / 255, 0, 1)
    assert psnr(output * 255, CLEAN) < 60
    assert psnr(quantise(output), CLEAN) == 100


def test_images_of_different_shape_are_refused():
    for score in (psnr, ssim):
        with pytest.raises(InputError, match=r"\(48, 64, 3\) and \(47, 64, 3\)"):
            score(CLEAN, CLEAN[1:])


def test_an_image_under_the_window_or_the_border_is_refused():
    with pytest.raises(InputError, match="at least 11x11 pixels, found 64x10"):
        ssim(CLEAN[:10], CLEAN[:10])
    with pytest.raises(InputError, match="64x8 pixels is all border"):
        crop_border(CLEAN[:8], 4)


@pytest.fixture(scope="module")
def set5(tmp_path_factory):
    """Set5, unpacked."""
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Set5.tar")
    folder = tmp_path_factory.mktemp("set5")
    with tarfile.open(Path(os.environ["DATASETS_DIR"], "Set5.tar")) as archive:
        archive.extractall(folder, filter="data")
    return folder / "Set5"


# The bicubic rows of most papers since VDSR (Kim et al., 2016).
PUBLISHED = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}


def clean_images(set5, scale):
    for path in sorted(set5.glob("HR/*.png")):
        image = read_image(path)
        yield path.stem, image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


def bicubic_matrix(length, factor):
    """Keys' interpolation of a line as a matrix, unrounded; written apart from components.images.bicubic on purpose."""
    matrix = np.zeros((round(length * factor), length))
    stretch = max(1, 1 / factor)
    for output, row in enumerate(matrix):
        centre = (output + 0.5) / factor - 0.5
        for position in range(int(centre - 3 * stretch), int(centre + 3 * stretch) + 1):
            x = abs(centre - position) / stretch
            weight = 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0
            row[max(-position - 1, position) if position < length else 2 * length - 1 - position] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.datasets
@pytest.mark.parametrize("scale", PUBLISHED)
def test_published_bicubic_scores_of_set5_to_the_last_digit(set5, scale):
    """By the protocol of those tables (SRCNN's script): 8-bit luma, shrunk without rounding, enlarged, rounded."""
    scores = []
    for _, clean in clean_images(set5, scale):
        luma = np.rint(to_luma(clean))
        down = [bicubic_matrix(side, 1 / scale) for side in luma.shape]
        up = [bicubic_matrix(side // scale, scale) for side in luma.shape]
        restored = np.rint(np.clip(up[0] @ down[0] @ luma @ down[1].T @ up[1].T, 0, 255))
        first, second = (crop_border(image, scale) for image in (restored, luma))
        scores.append((psnr(first, second), ssim(first, second)))
    assert (
        tuple(np.round(np.mean(scores, axis=0), decimals)[i] for i, decimals in enumerate((2, 4))) == PUBLISHED[scale]
    )


@pytest.mark.datasets
@pytest.mark.parametrize("scale", PUBLISHED)
def test_bicubic_from_the_8_bit_files_stays_close_to_the_published_scores(set5, scale):
    """Networks start from the 8-bit colour files, on which bicubic is 0.01 dB better than in those tables."""
    scores = []
    for name, clean in clean_images(set5, scale):
        degraded = read_image(set5 / "LR_bicubic" / f"X{scale}" / f"{name}x{scale}.png")
        images = (upscale(degraded, scale), clean)
        first, second = (to_luma(crop_border(image, scale)) for image in images)
        scores.append((psnr(first, second), ssim(first, second)))
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(PUBLISHED[scale][0], abs=0.02)
    assert mean_ssim == pytest.approx(PUBLISHED[scale][1], abs=0.001)
