import numpy as np
import pytest
from skimage import data

from components.tasks.derain.rain import Rain, draw_rain

CAT = data.chelsea()
GRAY = np.full((200, 240, 3), 80, np.uint8)
PLAIN = {"angle": (0, 0), "length": (30, 30), "width": (1, 1), "density": (1, 1), "brightness": (0.5, 0.5)}


def rained(image=GRAY, seed=0, **values):
    return draw_rain(image, Rain(**{**PLAIN, "depth": 1, "veil": (0, 0), **values}), np.random.default_rng(seed))


def test_rain_only_brightens_and_is_white():
    streaks = rained().astype(int) - GRAY
    assert streaks.min() == 0
    assert 0 < (streaks > 0).mean() < 0.5
    assert np.array_equal(streaks, streaks[..., :1].repeat(3, 2))
    assert streaks.max() <= np.ceil(0.5 * 255)


def test_without_streaks_or_light_nothing_changes():
    assert np.array_equal(rained(CAT, density=(0, 0)), CAT)
    assert np.array_equal(rained(CAT, brightness=(0, 0)), CAT)


@pytest.mark.parametrize("angle", [-40, -15, 0, 15, 40])
def test_streaks_fall_along_the_angle(angle):
    """By the structure tensor: gradients stand across streaks."""
    streaks = rained(angle=(angle, angle), density=(2, 2))[..., 0].astype(float)
    down, right = np.gradient(streaks)
    across = 0.5 * np.arctan2(2 * (down * right).sum(), (right**2 - down**2).sum())  # of the gradient, from the right
    assert np.degrees(across) == pytest.approx(-angle, abs=4)


def test_every_part_of_the_image_is_rained_on_alike():
    total = sum(rained(seed=seed).astype(float)[..., 0] - 80 for seed in range(60))
    blocks = total.reshape(4, 50, 4, 60).mean((1, 3))
    assert blocks.min() > 0.75 * blocks.mean()
    assert blocks.max() < 1.25 * blocks.mean()
    # Streaks reach in from outside: what begins in the image alone would leave its top and bottom half dry.
    edges = [total[:8].mean(), total[-8:].mean()]
    assert min(edges) > 0.8 * total[60:140].mean()


def test_more_longer_wider_and_nearer_rain_covers_more():
    def covered(**values):
        return np.mean([(rained(seed=seed, **values) > GRAY).mean() for seed in range(10)])

    plain = covered()
    assert covered(density=(2, 2)) == pytest.approx(2 * plain, rel=0.25)
    assert covered(length=(60, 60)) == pytest.approx(2 * plain, rel=0.3)
    assert covered(width=(3, 3)) > 1.4 * plain
    assert covered(depth=3) > 1.5 * plain


def test_the_veil_mixes_in_the_light_of_the_sky():
    veiled = rained(CAT, density=(0, 0), veil=(0.25, 0.25))
    assert np.abs(veiled - (0.75 * CAT + 0.25 * 200)).max() < 0.51


def test_a_range_is_drawn_from_anew_for_every_image():
    strengths = [rained(seed=seed, density=(0, 0), veil=(0.0, 1.0))[0, 0, 0] for seed in range(30)]
    assert len(set(strengths)) > 20


def test_equal_seeds_draw_equal_rain():
    first, again, other = (draw_rain(CAT, Rain(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_image_smaller_than_a_streak_is_rained_on_too():
    assert rained(GRAY[:5, :7], density=(100, 100)).shape == (5, 7, 3)
