import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from components.images.files import read_image
from components.run.errors import InputError
from components.run.params import typed
from components.tasks import TaskChoice, build_task
from components.tasks.sr import SuperResolution
from components.tasks.task import Image, Task

SCALES = (2, 3, 4, 8)
RANDOM = np.random.default_rng(0)


def task(scale: int) -> Task:
    return build_task(TaskChoice.model_validate({"name": "sr", "scale": scale}))


@pytest.fixture(scope="module")
def photograph() -> Image:
    """The cat, 300x451: no multiple of 2, 4 or 8 wide, nor of 8 high."""
    cat: Image = data.chelsea()
    return cat


@pytest.fixture(scope="module")
def pair(photograph: Image) -> tuple[Image, Image]:
    """A restored and a clean image: what bicubic makes of the cat at x4, and darkened borders, which the crop hides."""
    clean = task(4).crop(photograph)
    restored = task(4).baseline(task(4).degrade(clean, RANDOM)).copy()
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        restored[edge] //= 2
    return restored, clean


def luma(image: NDArray[Any]) -> NDArray[np.float64]:
    """Y of ITU-R BT.601 in studio range, as methods of the field write it down, without rounding."""
    red, green, blue = (image[..., channel].astype(np.float64) / 255 for channel in range(3))
    return np.asarray(65.481 * red + 128.553 * green + 24.966 * blue + 16)


def similarity(first: NDArray[Any], second: NDArray[Any], **options: Any) -> float:
    """SSIM by scikit-image, with Wang's window, where that lies inside of the image."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, every = structural_similarity(first, second, full=True, **settings, **options)
    return float(every[5:-5, 5:-5].mean())


def reference(first: NDArray[Any], second: NDArray[Any], **options: Any) -> dict[str, float]:
    return {
        "psnr": float(peak_signal_noise_ratio(second, first, data_range=255)),
        "ssim": similarity(first, second, **options),
    }


def test_scores_are_those_of_scikit_image_step_by_step(pair: tuple[Image, Image]) -> None:
    restored, clean = (luma(image[4:-4, 4:-4]) for image in pair)
    expected = reference(restored, clean)
    measured = task(4).measure(*pair)
    assert measured.keys() == expected.keys()
    assert measured["psnr"] == pytest.approx(expected["psnr"], abs=1e-9)
    assert measured["ssim"] == pytest.approx(expected["ssim"], abs=1e-9)


class TestEveryStepOfTheProtocolMatters:
    """The scores without each step differ by far more than those above agree."""

    def test_the_border(self, pair: tuple[Image, Image]) -> None:
        without = reference(*map(luma, pair))
        self.differs(without, pair, psnr=1, ssim=0.01)

    @pytest.mark.parametrize("border", [2, 3, 5])
    def test_its_width_is_the_scale(self, border: int, pair: tuple[Image, Image]) -> None:
        other = reference(*(luma(image[border:-border, border:-border]) for image in pair))
        self.differs(other, pair, psnr=0.001, ssim=0.00001)

    def test_luma(self, pair: tuple[Image, Image]) -> None:
        without = reference(*(image[4:-4, 4:-4].astype(float) for image in pair), channel_axis=-1)
        self.differs(without, pair, psnr=1, ssim=0.005)

    def test_luma_is_not_the_mean_of_the_channels(self, pair: tuple[Image, Image]) -> None:
        other = reference(*(image[4:-4, 4:-4].mean(-1) for image in pair))
        self.differs(other, pair, psnr=0.5, ssim=0.001)

    def test_luma_has_studio_range(self, pair: tuple[Image, Image]) -> None:
        other = reference(*((luma(image[4:-4, 4:-4]) - 16) * 255 / 219 for image in pair))
        self.differs(other, pair, psnr=1, ssim=0.001)

    def test_luma_is_not_rounded(self, pair: tuple[Image, Image]) -> None:
        other = reference(*(luma(image[4:-4, 4:-4]).round() for image in pair))
        self.differs(other, pair, psnr=0.001, ssim=0.0001)

    def test_channels_are_red_green_blue(self, pair: tuple[Image, Image]) -> None:
        other = reference(*(luma(image[4:-4, 4:-4, ::-1]) for image in pair))
        self.differs(other, pair, psnr=0.01, ssim=0.0001)

    @staticmethod
    def differs(other: dict[str, float], pair: tuple[Image, Image], psnr: float, ssim: float) -> None:
        measured = task(4).measure(*pair)
        assert abs(other["psnr"] - measured["psnr"]) > psnr
        assert abs(other["ssim"] - measured["ssim"]) > ssim


def test_the_protocol_is_told() -> None:
    assert task(3).protocol == "luma Y, 8 bits, 3 pixels cropped from each side"


def test_gray_changes_neither_degradation_nor_scores(photograph: Image, pair: tuple[Image, Image]) -> None:
    """It is about training crops alone."""
    gray = SuperResolution(4, gray=True)
    assert (gray.gray, task(4).gray) == (True, False)
    clean = gray.crop(photograph)
    assert np.array_equal(gray.degrade(clean, RANDOM), task(4).degrade(clean, RANDOM))
    assert gray.measure(*pair) == task(4).measure(*pair)


def test_identical_images_get_100_db(photograph: Image) -> None:
    assert task(2).measure(photograph, photograph) == {"psnr": 100.0, "ssim": pytest.approx(1.0)}


def test_a_clean_image_that_is_no_multiple_is_measured_where_the_restored_one_lies(photograph: Image) -> None:
    """As in the field: ground truth is cropped, top left, to the size of the degraded image times the scale."""
    restored = np.roll(photograph[:296, :448], 1, axis=1)
    assert task(8).measure(restored, photograph) == task(8).measure(restored, photograph[:296, :448])


def test_a_clean_image_smaller_than_the_restored_one_is_refused(photograph: Image) -> None:
    with pytest.raises(InputError, match="different shape"):
        task(2).measure(photograph, photograph[:200, :200])


def test_an_image_that_is_all_border_is_refused(photograph: Image) -> None:
    with pytest.raises(InputError, match="all border"):
        task(8).measure(photograph[:16, :40], photograph[:16, :40])


@pytest.mark.parametrize("scale", SCALES)
class TestSizes:
    def test_clean_images_are_cut_to_a_multiple_top_left(self, scale: int, photograph: Image) -> None:
        cut = task(scale).crop(photograph)
        height, width = cut.shape[:2]
        assert height % scale == width % scale == 0
        assert 0 <= 300 - height < scale
        assert 0 <= 451 - width < scale
        assert np.array_equal(cut, photograph[:height, :width])
        assert np.array_equal(task(scale).crop(cut), cut)

    def test_degrading_and_the_baseline_change_the_size_by_the_scale(self, scale: int, photograph: Image) -> None:
        clean = task(scale).crop(photograph)
        degraded = task(scale).degrade(clean, RANDOM)
        assert degraded.shape == (clean.shape[0] // scale, clean.shape[1] // scale, 3)
        assert task(scale).baseline(degraded).shape == clean.shape
        assert degraded.dtype == task(scale).baseline(degraded).dtype == np.uint8

    def test_degrading_draws_nothing(self, scale: int, photograph: Image) -> None:
        clean = task(scale).crop(photograph)
        random = np.random.default_rng(3)
        before = random.bit_generator.state
        first = task(scale).degrade(clean, random)
        assert random.bit_generator.state == before
        assert np.array_equal(first, task(scale).degrade(clean, np.random.default_rng(4)))
        assert task(scale).packed

    def test_the_task_tells_its_scale(self, scale: int, photograph: Image) -> None:
        assert task(scale).scale == scale


@pytest.mark.parametrize("scale", [0, 1, 5, 16, -2, "two", 2.5, None])
def test_another_scale_is_refused_in_params_with_those_there_are(scale: object) -> None:
    with pytest.raises(InputError) as caught:
        typed(TaskChoice, {"name": "sr", "scale": scale}, "params.yaml: tasks.sr")
    message = str(caught.value)
    assert message.startswith("params.yaml: tasks.sr.scale: ")
    assert "2, 3, 4 or 8" in message or "missing" in message


def test_another_scale_is_refused_in_code() -> None:
    with pytest.raises(InputError, match="super-resolution by 5 is not supported: write scale 2, 3, 4 or 8"):
        SuperResolution(5)  # type: ignore[arg-type]


# Mean PSNR of MATLAB's bicubic on Set5, of nearly every table of the field.
PUBLISHED = {2: 33.66, 3: 30.39, 4: 28.42}


@pytest.fixture(scope="module")
def set5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR is not set: name the folder with Set5.tar")
    folder = tmp_path_factory.mktemp("set5")
    with tarfile.open(Path(os.environ["DATASETS_DIR"]) / "Set5.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "Set5" / "HR"


@pytest.mark.datasets
@pytest.mark.parametrize(("scale", "published"), PUBLISHED.items())
def test_bicubic_on_set5_reaches_the_published_score(scale: int, published: float, set5: Path) -> None:
    scores = []
    for path in sorted(set5.glob("*.png")):
        clean = task(scale).crop(read_image(path))
        scores.append(task(scale).measure(task(scale).baseline(task(scale).degrade(clean, RANDOM)), clean)["psnr"])
    assert len(scores) == 5
    assert np.mean(scores) == pytest.approx(published, abs=0.02)
