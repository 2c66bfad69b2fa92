import io

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from components.images.files import write_png
from components.reporting.comparison import compare
from components.reporting.places import Place, read_clean
from tests.reporting.findings import entry, findings

ENTRY = entry("only", "image", 48, 52)
NAMES = ["bicubic", "scratch", "teacher"]


@pytest.fixture
def raw(tmp_path):
    write_png(tmp_path / "raw/only/image.png", np.random.default_rng(1).integers(256, size=(48, 52, 3), dtype=np.uint8))
    return tmp_path / "raw"


@pytest.fixture
def found(tmp_path, raw):
    """The baseline is far from the clean image, scratch is less, the teacher is it."""
    made = findings({"bicubic": 30.0, "scratch": 31.0, "teacher": 32.0}, root=tmp_path, entries=[ENTRY])
    _, clean = read_clean(made, ENTRY, raw)
    for name, share in zip(NAMES, (0.3, 0.1, 0.0), strict=True):
        image = np.rint(clean * (1 - share) + 128 * share).astype(np.uint8)
        write_png(tmp_path / name / "only/image.png", image)
    return made


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))


def test_panels_show_the_same_place_of_degraded_baseline_students_teacher_and_clean(found, raw):
    side = compare(found, [Place(ENTRY, 8, 12, 32, 36, 0.0)], raw)
    panels = side.comparisons[0].panels
    assert [panel.name for panel in panels] == ["degraded", *NAMES, "clean"]
    degraded, clean = read_clean(found, ENTRY, raw)
    np.testing.assert_array_equal(pixels(panels[0].picture)[::2, ::2], degraded[4:20, 6:24])
    np.testing.assert_array_equal(pixels(panels[0].picture)[1::2, 1::2], degraded[4:20, 6:24])
    np.testing.assert_array_equal(pixels(panels[-1].picture), clean[8:40, 12:48])
    np.testing.assert_array_equal(pixels(panels[-2].picture), clean[8:40, 12:48])
    assert all("rows 8 to 40, columns 12 to 48" in panel.picture.alt for panel in panels)


def test_the_psnr_of_a_place_is_that_of_its_luma_inside_the_border(found, raw):
    side = compare(found, [Place(ENTRY, 8, 12, 32, 36, 0.0)], raw)
    below = {panel.name: panel.below for panel in side.comparisons[0].panels}
    restored = {panel.name: pixels(panel.picture) for panel in side.comparisons[0].panels}
    for name in NAMES[:2]:
        lumas = [rgb2ycbcr(image[2:-2, 2:-2])[..., 0] for image in (restored["clean"], restored[name])]
        assert below[name] == f"{peak_signal_noise_ratio(*lumas, data_range=255):.2f} dB"
    assert below["teacher"] == "100.00 dB"


def test_error_maps_share_one_scale_that_ends_at_the_99th_percentile_rounded_up_to_five(found, raw):
    side = compare(found, [Place(ENTRY, 0, 0, 48, 52, 0.0)], raw)
    panels = {panel.name: panel for panel in side.comparisons[0].panels}
    clean = rgb2ycbcr(pixels(panels["clean"].picture))[..., 0]
    errors = {name: np.abs(rgb2ycbcr(pixels(panels[name].picture))[..., 0] - clean) for name in NAMES}
    highest = np.percentile(np.stack(list(errors.values())), 99)
    assert side.largest == np.ceil(highest / 5) * 5
    colours = pixels(side.scale)[0]
    for name, error in errors.items():
        expected = colours[np.rint(np.clip(error / side.largest, 0, 1) * 255).astype(int)]
        shown = pixels(panels[name].under)
        assert np.mean(np.any(shown != expected, axis=-1)) < 0.01, "but for ties in rounding"
    assert not np.array_equal(pixels(panels["bicubic"].under), pixels(panels["scratch"].under))
    assert (pixels(panels["teacher"].under) == colours[0]).all()
    assert panels["clean"].under is None


def test_the_scale_runs_from_black_to_light_without_a_step_back(found, raw):
    side = compare(found, [Place(ENTRY, 0, 0, 32, 32, 0.0)], raw)
    light = pixels(side.scale)[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert light[0] < 5
    assert light[-1] > 230
    assert (np.diff(light) > -1.5).all()
    assert len(np.unique(pixels(side.scale)[0], axis=0)) > 200


def test_the_overview_frames_the_place(found, raw):
    side = compare(found, [Place(ENTRY, 8, 12, 32, 36, 0.0)], raw)
    overview = pixels(side.comparisons[0].panels[0].under)
    _, clean = read_clean(found, ENTRY, raw)
    assert overview.shape == clean.shape
    assert (overview[8, 12:48] == 255).all()
    assert (overview[8:40, 12] == 255).all()
    np.testing.assert_array_equal(overview[20:30, 20:40], clean[20:30, 20:40])
