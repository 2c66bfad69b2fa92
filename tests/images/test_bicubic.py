import hashlib
import os
import tarfile
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest

from components.images.bicubic import downscale, resize, upscale
from components.images.files import read_image

RANDOM = np.random.default_rng(0)
SCALES = (2, 3, 4)


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    """Set5 and Set14, unpacked."""
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Set5.tar and Set14.tar")
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("Set5", "Set14"):
        with tarfile.open(Path(os.environ["DATASETS_DIR"], f"{name}.tar")) as archive:
            archive.extractall(folder, filter="data")
    return folder


def cropped(image, scale):
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


def exact_kernel(x):
    """Keys 1981, equation 15 with a = -1/2."""
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)


def exact_line(line, scale):
    """MATLAB's documented resampling of one line in rational arithmetic, straight from the definition."""
    shrink = min(scale, Fraction(1))
    result = []
    for output in range(ceil(len(line) * scale)):
        centre = (output + Fraction(1, 2)) / scale - Fraction(1, 2)
        reach = range(floor(centre - 2 / shrink), ceil(centre + 2 / shrink) + 1)
        weights = [exact_kernel(shrink * (centre - position)) for position in reach]
        mirrored = [position % (2 * len(line)) for position in reach]
        values = [int(line[p if p < len(line) else 2 * len(line) - 1 - p]) for p in mirrored]
        value = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        result.append(min(255, max(0, floor(value + Fraction(1, 2)))))
    return result


def exact_resize(image, scale):
    tall = np.apply_along_axis(exact_line, 0, image, scale)
    return np.apply_along_axis(exact_line, 1, tall, scale).astype(np.uint8)


@pytest.mark.parametrize("content", ["noise", "extremes", "halves"])
@pytest.mark.parametrize(
    "scale", [Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), Fraction(1, 8), *map(Fraction, (2, 3, 4, 8))]
)
def test_every_byte_is_that_of_exact_rational_arithmetic(scale, content):
    """No tie can fall otherwise: at 2, 4 and 8 float64 is exact, at 3 every exact value is a multiple of 1/81."""
    size = (27, 25, 2) if scale < 1 else (6, 5, 2)
    image = {
        "noise": RANDOM.integers(0, 256, size),
        "extremes": RANDOM.choice([0, 255], size),
        "halves": np.arange(np.prod(size)).reshape(size) % 2 + 7,
    }[content].astype(np.uint8)
    np.testing.assert_array_equal(resize(image, scale), exact_resize(image, scale))


def test_sizes_round_up():
    image = np.zeros((7, 10, 3), dtype=np.uint8)
    assert downscale(image, 2).shape == (4, 5, 3)
    assert downscale(image, 3).shape == (3, 4, 3)
    assert upscale(image, 3).shape == (21, 30, 3)


def test_a_flat_image_stays_flat():
    for value in (0, 1, 254, 255):
        image = np.full((12, 12, 3), value, dtype=np.uint8)
        assert (downscale(image, 3) == value).all()
        assert (upscale(image, 4) == value).all()


def test_shrinking_does_not_alias():
    stripes = np.zeros((48, 48, 1), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(downscale(stripes, 4)[:, 2:-2].astype(int) - 128).max() <= 1


def test_rows_and_columns_are_not_interchangeable_and_the_height_comes_first():
    """The rounding between the passes makes the order visible, so it has to be MATLAB's."""
    image = RANDOM.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    other_order = downscale(image.swapaxes(0, 1), 2).swapaxes(0, 1)
    assert (downscale(image, 2) != other_order).any()
    np.testing.assert_array_equal(downscale(image, 2), exact_resize(image, Fraction(1, 2)))


def test_a_scale_of_nothing_is_refused():
    with pytest.raises(ValueError, match="scale must be above 0"):
        resize(np.zeros((4, 4, 3), dtype=np.uint8), Fraction(0))


@pytest.mark.datasets
def test_every_low_resolution_file_of_set5_and_set14_is_reproduced_byte_for_byte(benchmarks):
    compared = differing = 0
    for scale in SCALES:
        for path in sorted(benchmarks.glob("Set*/HR/*.png")):
            published = read_image(path.parents[1] / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png")
            ours = downscale(cropped(read_image(path), scale), scale)
            assert ours.shape == published.shape
            compared += ours.size
            differing += int((ours != published).sum())
    assert (compared, differing) == (4_808_136, 0)


# SHA-256 of the pixels of the five Set5 images that MATLAB shrank and enlarged, ordered by name, as published
# in the repository twtygqyy/pytorch-vdsr (Set5/*_GT_scale_{2,3,4}.bmp).
ENLARGED_BY_MATLAB = {
    2: "bcfdfc5560772da71202b49ab0ddc4710be94aecfec706066636ac62c52c5c54",
    3: "9668d650b3b30d0b0c2530a6299faf00cafc72e308f9805af9f072492371e1bf",
    4: "655410913b2f374ab353a13c0698e65dae6a7cfb92aabc39e101d590670b76cf",
}


@pytest.mark.datasets
@pytest.mark.parametrize("scale", SCALES)
def test_set5_enlarged_again_is_what_matlab_made_byte_for_byte(benchmarks, scale):
    digest = hashlib.sha256()
    for path in sorted(benchmarks.glob("Set5/HR/*.png")):
        digest.update(upscale(downscale(cropped(read_image(path), scale), scale), scale).tobytes())
    assert digest.hexdigest() == ENLARGED_BY_MATLAB[scale]
