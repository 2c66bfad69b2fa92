import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from components.images.files import read_image, write_png
from components.reporting.comparison import compare
from components.reporting.findings import Quality
from components.reporting.gallery import Limits, make_gallery
from components.reporting.places import Place, read_clean
from components.tasks.denoise import Denoising
from tests.reporting.findings import entry, findings

SCORES = {"bicubic": 30.0, "scratch": 31.0, "dckd": 31.5, "teacher": 32.0}
ENTRIES = [entry("only", "a", 48, 64), entry("only", "b", 52, 40), entry("only", "large", 120, 200)]


@pytest.fixture
def raw(tmp_path):
    for number, one in enumerate(ENTRIES):
        pixels = np.random.default_rng(number).integers(256, size=(one.height, one.width, 3), dtype=np.uint8)
        write_png(tmp_path / "raw" / one.clean, pixels)
    return tmp_path / "raw"


@pytest.fixture
def found(tmp_path, raw):
    """Networks that darken; the students lost most on b, and differ in the lower right corner of the large image."""
    made = findings(SCORES, root=tmp_path, entries=ENTRIES)
    for one in ENTRIES:
        _, clean = read_clean(made, one, raw)
        for number, contender in enumerate(made.contenders):
            image = (clean * (0.7 + number / 20)).astype(np.uint8)
            if one.name == "large" and contender.name == "dckd":
                image[70:, 140:] = 255
            write_png(contender.restored / one.dataset / f"{one.name}.png", image)
    made.teacher.images["only/b"] = Quality(40.0, 0.99)
    return made


def pixels(view):
    return np.asarray(Image.open(io.BytesIO(view.picture.data)).convert("RGB"))


def test_pictures_hold_the_very_pixels(found, raw):
    gallery = make_gallery(found, Limits(9, 64, 9.0), raw)
    shot = next(one for one in gallery.shots if one.key == "only/a")
    degraded, clean = read_clean(found, ENTRIES[0], raw)
    assert [view.name for view in shot.views] == ["degraded", "bicubic", "scratch", "dckd", "teacher", "clean"]
    np.testing.assert_array_equal(pixels(shot.views[0]), degraded)
    np.testing.assert_array_equal(pixels(shot.views[1]), (clean * 0.7).astype(np.uint8))
    np.testing.assert_array_equal(pixels(shot.views[-1]), clean)
    assert (shot.width, shot.height, shot.part) == (64, 48, "")
    assert (shot.views[2].psnr, shot.views[2].ssim, shot.views[0].psnr) == ("31.00", "0.9000", "")


def test_all_images_are_there_if_they_fit_the_worst_first(found, raw):
    gallery = make_gallery(found, Limits(9, 768, 9.0), raw)
    assert [shot.key for shot in gallery.shots] == ["only/b", "only/a", "only/large"]
    assert gallery.rule.startswith("All 3 test images. ")


def test_limits_leave_out_the_best_and_the_rule_says_so(found, raw):
    gallery = make_gallery(found, Limits(2, 768, 9.0), raw)
    assert [shot.key for shot in gallery.shots] == ["only/b", "only/a"]
    assert gallery.rule.startswith("2 of 3 test images, those on which the students lost most against the teacher")
    first = sum(len(view.picture.data) for view in gallery.shots[0].views) * 4 / 3 / 1e6
    for megabytes in (first * 1.01, first / 9):
        assert [shot.key for shot in make_gallery(found, Limits(9, 768, megabytes), raw).shots] == ["only/b"]


def test_of_a_large_image_the_part_is_shown_in_which_the_networks_differ_most(found, raw):
    gallery = make_gallery(found, Limits(9, 64, 9.0), raw)
    shot = next(one for one in gallery.shots if one.key == "only/large")
    assert shot.part == "rows 56 to 120, columns 136 to 200"
    assert "cut to where the networks differ" in gallery.rule
    degraded, clean = read_clean(found, ENTRIES[2], raw)
    np.testing.assert_array_equal(pixels(shot.views[-1]), clean[56:120, 136:200])
    np.testing.assert_array_equal(pixels(shot.views[0]), degraded[28:60, 68:100])


def test_a_task_of_equal_size_with_noise_in_floating_point_is_shown_as_it_would_be_saved(found, raw):
    noisy = dataclasses.replace(found, task=Denoising(sigma=60))
    clean = read_image(raw / ENTRIES[0].clean)
    degraded = noisy.task.degrade_for_test(clean, np.random.default_rng(0))
    assert degraded.min() < 0
    assert degraded.max() > 1
    saved = np.clip(np.rint(degraded * 255), 0, 255)
    gallery = make_gallery(noisy, Limits(9, 64, 9.0), raw)
    shot = next(one for one in gallery.shots if one.key == "only/a")
    np.testing.assert_array_equal(pixels(shot.views[0]), saved)
    (comparison,) = compare(noisy, [Place(ENTRIES[0], 3, 5, 33, 35, 0.0)], raw).comparisons
    shown = np.asarray(Image.open(io.BytesIO(comparison.panels[0].picture.data)))
    np.testing.assert_array_equal(shown, saved[3:36, 5:40])
    assert comparison.panels[0].below == "input"
