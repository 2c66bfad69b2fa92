import dataclasses
import math

import numpy as np
import pytest
from scipy import signal

from components.images.files import write_png
from components.images.metrics import to_luma
from components.reporting.places import read_restored
from components.reporting.shortfall import band_table, spectrum_charts
from components.reporting.spectrum import BANDS, RINGS, radial, spectra
from tests.reporting.findings import entry, findings

ENTRY = entry("only", "image", 48, 60)
SCORES = {"bicubic": 30.0, "scratch": 31.0, "dckd": 31.5, "teacher": 32.0}


def stripes(frequency, height=48, width=60, amplitude=1.0, along=1):
    """Waves of so many cycles a pixel along one axis."""
    rows, columns = np.mgrid[:height, :width]
    return amplitude * np.cos(2 * np.pi * frequency * (columns if along else rows))


@pytest.mark.parametrize("shape", [(48, 60), (31, 17)])
def test_the_bands_add_up_to_the_mean_squared_error(shape):
    difference = np.random.default_rng(0).normal(size=shape) * 3
    bands, _ = radial(difference)
    assert bands.sum() == pytest.approx(np.mean(difference**2), rel=1e-12)


@pytest.mark.parametrize(
    ("frequency", "along", "band"), [(2 / 60, 1, 0), (5 / 60, 1, 1), (10 / 60, 1, 2), (20 / 60, 1, 3), (4 / 48, 0, 1)]
)
def test_stripes_lie_in_the_band_and_the_ring_of_their_frequency(frequency, along, band):
    bands, rings = radial(stripes(frequency, amplitude=4.0, along=along))
    assert bands[band] == pytest.approx(8.0), "half the squared amplitude"
    assert np.delete(bands, band) == pytest.approx(0)
    assert np.argmax(rings) == int(frequency * 2 * RINGS)


def test_a_flat_difference_is_in_the_coarsest_band():
    assert radial(np.full((20, 30), -3.0))[0] == pytest.approx([9, 0, 0, 0])


def test_white_noise_is_as_strong_in_every_ring_whatever_the_size():
    for shape in ((256, 256), (96, 160)):
        noise = np.random.default_rng(1).normal(size=shape) * 2
        _, rings = radial(noise)
        assert rings[2:] == pytest.approx(4.0, rel=0.25)
        # By Welch, along rows: density times the width of the two-sided spectrum is the same level.
        _, density = signal.welch(noise, axis=1, nperseg=32, return_onesided=False, detrend=False)
        assert rings[2:].mean() == pytest.approx(density.mean(), rel=0.1)


@pytest.fixture
def found(tmp_path):
    """Scratch errs in fine stripes, dckd in coarse ones, the teacher in both and less."""
    made = findings(SCORES, root=tmp_path, entries=[ENTRY])
    clean = np.full((48, 60), 128.0)
    errors = {
        "bicubic": stripes(20 / 60, amplitude=40),
        "scratch": stripes(20 / 60, amplitude=20) + stripes(2 / 60, amplitude=5),
        "dckd": stripes(20 / 60, amplitude=10) + stripes(2 / 60, amplitude=20),
        "teacher": stripes(20 / 60, amplitude=10) + stripes(2 / 60, amplitude=5),
    }
    for name, error in errors.items():
        image = np.rint(clean + error).astype(np.uint8)
        write_png(tmp_path / name / "only/image.png", np.repeat(image[..., np.newaxis], 3, axis=2))
    return made, np.full((48, 60, 3), 128, np.uint8)


def test_what_a_student_lost_is_told_by_band(found):
    made, clean = found
    table = band_table(made, spectra(made, [ENTRY], lambda _: clean))
    rows = {row[0].text: row[1:] for row in table.rows}
    assert float(rows["scratch"][3].text) == pytest.approx(20 * math.log10(10 / 20), abs=0.1)
    assert float(rows["scratch"][0].text) == pytest.approx(0, abs=0.1)
    assert rows["scratch"][3].tone == "down"
    assert float(rows["dckd"][0].text) == pytest.approx(20 * math.log10(5 / 20), abs=0.3)  # pixels are rounded
    assert float(rows["dckd"][3].text) == pytest.approx(0, abs=0.1)
    # Luma has 219 levels for 255 of gray; the root of half the squared amplitude.
    assert float(rows["scratch"][7].text) == pytest.approx(20 / math.sqrt(2) * 219 / 255, rel=0.02)
    assert float(rows["dckd"][8].text) == pytest.approx(15 / math.sqrt(2) * 219 / 255, rel=0.02)
    assert [cell.text for cell in rows["teacher"][8:12]] == ["0.000"] * 4


def test_bands_are_means_over_the_images(found, tmp_path):
    made, clean = found
    other = entry("only", "other", 48, 60)
    for one in made.contenders:
        write_png(one.restored / "only/other.png", clean)
    both = spectra(made, [ENTRY, other], lambda _: clean)
    alone = spectra(made, [ENTRY], lambda _: clean)
    assert both["scratch"].bands == pytest.approx([value / 2 for value in alone["scratch"].bands])
    mse = np.mean((to_luma(read_restored(made.base, ENTRY)) - to_luma(clean)) ** 2)
    assert sum(alone["scratch"].bands) == pytest.approx(mse)
    assert len(alone["scratch"].bands) == len(BANDS) - 1


def test_networks_that_do_not_differ_have_no_curve_and_no_quotient(found):
    made, clean = found
    same = dataclasses.replace(
        made, contenders=tuple(dataclasses.replace(one, restored=made.teacher.restored) for one in made.contenders)
    )
    table = band_table(same, spectra(same, [ENTRY], lambda _: clean))
    assert [cell.text for cell in table.rows[0][9:13]] == ["0.000"] * 4
    assert [file for file, _ in spectrum_charts(same, spectra(same, [ENTRY], lambda _: clean))] == [
        "Students against the teacher: below 0 is lost"
    ]
    perfect = spectra(same, [ENTRY], lambda _: read_restored(made.teacher, ENTRY))
    assert [cell.text for cell in band_table(same, perfect).rows[0][1:5]] == ["\N{EN DASH}"] * 4
    assert spectrum_charts(same, perfect) == ()
