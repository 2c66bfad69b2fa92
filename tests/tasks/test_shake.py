import numpy as np
import pytest
from scipy.ndimage import center_of_mass, label

from components.tasks.deblur.shake import Shake, draw_kernel

KINDS = {
    "default": Shake(),
    "small": Shake(size=5, length=(1, 30)),
    "large": Shake(size=61, length=(60, 60), tremor=(0, 0)),
    "wild": Shake(length=(200, 400), tremor=(2, 2), impulses=(30, 30)),
    "still": Shake(length=(0, 0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_is_shares_of_light_about_its_middle(kind):
    shake = KINDS[kind]
    for seed in range(40):
        kernel = draw_kernel(shake, np.random.default_rng(seed))
        assert kernel.shape == (shake.size, shake.size)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-12)
        assert center_of_mass(kernel) == pytest.approx((shake.size // 2, shake.size // 2), abs=1e-9)


def test_a_path_is_one_connected_line():
    for seed in range(40):
        _, parts = label(draw_kernel(Shake(), np.random.default_rng(seed)) > 0, structure=np.ones((3, 3)))
        assert parts == 1


def test_without_tremor_pull_and_impulses_the_path_is_a_straight_line_of_its_length():
    straight = Shake(size=61, length=(40, 40), tremor=(0, 0), pull=(0, 0), impulses=(0, 0))
    for seed in range(10):
        kernel = draw_kernel(straight, np.random.default_rng(seed))
        rows, columns = np.indices(kernel.shape) - 30
        variances = np.linalg.eigvalsh(
            np.cov(np.stack([rows.ravel(), columns.ravel()]), aweights=kernel.ravel(), ddof=0)
        )
        assert variances[1] == pytest.approx(40**2 / 12, rel=0.02)  # of a uniform distribution on 40 pixels
        assert variances[0] < 0.3


def test_directions_are_equally_likely():
    straight = Shake(size=61, length=(40, 40), tremor=(0, 0), pull=(0, 0), impulses=(0, 0))
    rows, columns = np.indices((61, 61)) - 30
    random = np.random.default_rng(0)
    angles = []
    for _ in range(200):
        kernel = draw_kernel(straight, random)
        angles.append(0.5 * np.arctan2(2 * (kernel * rows * columns).sum(), (kernel * (columns**2 - rows**2)).sum()))
    counts, _ = np.histogram(angles, 4, (-np.pi / 2, np.pi / 2))
    assert counts.min() > 30


def test_a_pull_and_impulses_keep_the_path_together():
    def extent(**values):
        shake = Shake(size=101, length=(60, 60), tremor=(0.05, 0.05), **values)
        rows, columns = np.indices((101, 101)) - 50
        random = np.random.default_rng(0)
        return np.mean([(draw_kernel(shake, random) * (rows**2 + columns**2)).sum() for _ in range(40)])

    free = extent(pull=(0, 0), impulses=(0, 0))
    assert extent(pull=(0.5, 0.5), impulses=(0, 0)) < 0.7 * free
    assert extent(pull=(0, 0), impulses=(6, 6)) < 0.7 * free


def test_equal_seeds_draw_equal_kernels():
    first, again, other = (draw_kernel(Shake(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
