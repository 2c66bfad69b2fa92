"""Deblurring; `nafnet_oracle.npz` holds pairs of parts of scikit-image's photographs (and one of random pixels), and
their PSNR and SSIM by `basicsr/metrics/psnr_ssim.py` of megvii-research/NAFNet at 2b4af71e, run on the CPU: its
`calculate_psnr` and `calculate_ssim`, border 0, in the default `ssim3d=True`.
"""

import itertools
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat
from scipy.ndimage import convolve
from skimage import data

from components.build_lmdb import Packing, pack
from components.fetch import fetch
from components.images.datasets import Collection, Dataset, Source
from components.images.files import read_image, write_png
from components.images.manifest import Entry
from components.images.metrics import ssim, volume_ssim
from components.images.patches import TrainingPatches
from components.images.store import Pair, Store, StoreWriter
from components.run.errors import InputError
from components.run.files import sha256_of
from components.run.params import typed
from components.tasks import TaskChoice, build_task
from components.tasks.deblur import Deblurring
from components.tasks.deblur.kernels import blur, read_kernels
from components.tasks.deblur.shake import Shake
from components.tasks.evaluation import read_pair

ORACLE = np.load(Path(__file__).parent / "nafnet_oracle.npz")
CAT = data.chelsea()
KERNELS = [np.random.default_rng(n).random((5 + n, 9 - n)) for n in range(5)]


@pytest.mark.parametrize("name", ["gauss", "noise", "motion", "random"])
def test_scores_are_nafnets(name):
    restored, clean = ORACLE[f"{name}_restored"], ORACLE[f"{name}_clean"]
    psnr, similarity = ORACLE[f"{name}_scores"]
    measured = Deblurring().measure(restored, clean)
    assert measured["psnr"] == pytest.approx(psnr, abs=1e-9)
    assert measured["ssim"] == pytest.approx(similarity, abs=5e-6)  # NAFNet computes in float32


def test_ssim_of_the_volume_is_its_definition_summed_window_by_window():
    first, second = ORACLE["random_restored"].astype(float), ORACLE["random_clean"].astype(float)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.einsum("i,j,k->ijk", line, line, line)
    window /= window.sum()
    a, b = (np.pad(volume, 5, mode="edge") for volume in (first, second))
    found = []
    for y, x, z in itertools.product(range(32), range(32), range(3)):
        one, two = (volume[y : y + 11, x : x + 11, z : z + 11] for volume in (a, b))
        mean_a, mean_b = (window * one).sum(), (window * two).sum()
        variance = (window * (one - mean_a) ** 2).sum() + (window * (two - mean_b) ** 2).sum()
        covariance = (window * (one - mean_a) * (two - mean_b)).sum()
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        found.append(
            (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variance + c2))
        )
    assert volume_ssim(first, second) == pytest.approx(np.mean(found), abs=1e-10)


def test_ssim_of_the_volume_is_far_above_that_of_the_channels():
    restored, clean = ORACLE["gauss_restored"], ORACLE["gauss_clean"]
    assert volume_ssim(restored, clean) > ssim(restored, clean) + 0.05


def test_small_images_are_measured_too_and_different_sizes_refused():
    assert volume_ssim(CAT[:4, :7], CAT[:4, :7]) == pytest.approx(1)
    with pytest.raises(InputError, match="different shape"):
        Deblurring().measure(CAT, CAT[:100])


def kernel_task(raw, kernels=KERNELS, **arguments):
    """A task with kernels in a MATLAB file of a source."""
    cells = np.empty((1, len(kernels)), object)
    for index, kernel in enumerate(kernels):
        cells[0, index] = kernel
    (raw / "motion").mkdir(parents=True, exist_ok=True)
    savemat(raw / "motion/kernels.mat", {"kernels": cells})
    choice = TaskChoice.model_validate({"name": "deblur", "kernels": ["motion/kernels.mat"], **arguments})
    return build_task(choice, raw)


def blurred_by_scipy(image, kernel):
    planes = [convolve(image[..., c].astype(float), kernel / kernel.sum(), mode="reflect") for c in range(3)]
    return np.stack(planes, axis=2)


def test_an_image_is_blurred_by_one_of_the_files_kernels_each_equally_often(tmp_path):
    task = kernel_task(tmp_path)
    image = CAT[100:140, 100:150]
    exact = [blurred_by_scipy(image, kernel) for kernel in KERNELS]
    random = np.random.default_rng(0)
    counts = np.zeros(len(KERNELS), int)
    for _ in range(200):
        degraded = task.degrade(image, random)
        assert degraded.dtype == np.uint8
        distances = [np.abs(degraded - one).max() for one in exact]
        counts[np.argmin(distances)] += 1
        assert min(distances) < 0.51
    assert counts.min() > 20


def test_read_noise_is_added_before_rounding(tmp_path):
    image = np.full((200, 200, 3), 128, np.uint8)
    noisy = kernel_task(tmp_path, noise=4).degrade(image, np.random.default_rng(0)).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=0.05)
    assert noisy.std() == pytest.approx(np.sqrt(4**2 + 1 / 12), rel=0.02)


def test_kernels_of_files_are_packed_and_shake_is_drawn(tmp_path):
    assert kernel_task(tmp_path).packed
    assert kernel_task(tmp_path).margin == 0
    assert not Deblurring(shake=Shake(size=31)).packed
    assert Deblurring(shake=Shake(size=31)).margin == 15
    assert not Deblurring().packed


def test_a_missing_kernel_file_is_named(tmp_path):
    choice = TaskChoice.model_validate({"name": "deblur", "kernels": ["motion/kernels.mat"]})
    with pytest.raises(InputError, match=r"motion/kernels\.mat: not found"):
        build_task(choice, tmp_path)


def test_the_sources_of_kernels_are_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kernel_task(tmp_path)
    write_png(tmp_path / "cat.png", CAT[:40, :40])
    sources = {
        name: {"files": [{"url": f"file:{tmp_path / path}"}]}
        for name, path in {"photographs": "cat.png", "kernels": "motion/kernels.mat"}.items()
    }
    collection = {"training": ["cat"], "validation": ["cat"], "test": ["cat"], "kernels": ["kernels"]}
    fetch(
        typed(Collection, collection, "collections.deblur"),
        typed(dict[str, Source], sources, "sources"),
        {"cat": Dataset(source="photographs", clean=("cat.png",))},
        tmp_path / "raw",
    )
    choice = TaskChoice.model_validate({"name": "deblur", "kernels": ["kernels/kernels.mat"]})
    first = build_task(choice, tmp_path / "raw").degrade(CAT, np.random.default_rng(0))
    assert np.array_equal(first, kernel_task(tmp_path).degrade(CAT, np.random.default_rng(0)))


def entry_of(raw, split, image):
    write_png(raw / f"{split}.png", image)
    return Entry(split, "set", "a", f"{split}.png", "", *image.shape[:2], sha256_of(raw / f"{split}.png"), "0" * 16)


def test_sub_images_take_turns_at_the_variants_of_an_image_blurred_as_a_whole(tmp_path):
    task = kernel_task(tmp_path)
    exact = [blurred_by_scipy(CAT[:90, :120], kernel) for kernel in KERNELS]
    entries = [entry_of(tmp_path, "training", CAT[:90, :120]), entry_of(tmp_path, "validation", CAT[:60, :60])]

    def kernels_of(folder, variants):
        pack(task, Packing(size=30, step=30, variants=variants), entries, tmp_path, tmp_path / folder, workers=1)
        store = Store(tmp_path / folder)
        found = []
        for record in store.records("training"):
            (top, left), (height, width) = record.corner, record.clean
            pair = store.whole(record)
            assert np.array_equal(pair.clean, CAT[top : top + height, left : left + width])
            rests = [np.abs(pair.degraded - one[top : top + height, left : left + width]).max() for one in exact]
            assert min(rests) < 0.51
            found.append(int(np.argmin(rests)))
        assert len(store.records("validation")) == 1
        return found

    assert len(set(kernels_of("one", 1))) == 1
    several = kernels_of("several", 6)
    assert len(several) == 12
    assert several[:6] == several[6:]
    assert len(set(several)) > 2
    assert kernels_of("again", 6) == several


def test_a_shaken_crop_is_blurred_as_it_would_be_within_its_image(tmp_path):
    """The crop in the middle of an image sees what lies around it; mirrored at its own border it would not."""
    image = CAT[:140, :160]
    with StoreWriter(tmp_path / "lmdb", 1, 0) as writer:
        writer.add("training", "set/one", Pair(None, image), [((0, 0), image.shape[:2])])

    class Fixed(Deblurring):
        def _kernel(self, random):
            return KERNELS[0] / KERNELS[0].sum()

    task = Fixed(shake=Shake(size=9))
    whole = blurred_by_scipy(image, KERNELS[0])
    patches = TrainingPatches(Store(tmp_path / "lmdb"), task, patch=64, seed=0, augment=False)
    corners = set()
    for number in range(40):
        sample = patches[number]
        clean = (sample["clean"].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
        top, left = next(
            (y, x)
            for y, x in itertools.product(range(77), range(97))
            if np.array_equal(image[y : y + 2, x : x + 64], clean[:2])
            and np.array_equal(image[y : y + 64, x : x + 64], clean)
        )
        corners.add((top, left))
        degraded = sample["degraded"].permute(1, 2, 0).numpy() * 255
        assert np.abs(degraded - whole[top : top + 64, left : left + 64]).max() < 0.51
    assert any(top < 4 or left < 4 or top > 72 or left > 92 for top, left in corners)


@pytest.fixture(scope="module")
def levin(tmp_path_factory):
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Levin09.tar")
    folder = tmp_path_factory.mktemp("levin")
    with tarfile.open(Path(os.environ["DATASETS_DIR"], "Levin09.tar")) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.datasets
def test_a_kernel_of_levin_blurs_as_the_camera_did(levin):
    """The blurry photographs are real, and the kernels were measured beside them.

    Of this archive's kernel images, those of 4 and 8 show how light spread; the others are turned by half a circle, as
    those who deconvolve by them know (`rot90(k, 2)`). 1 and 3 are nearly their own half turn.
    """
    folder = levin / "Levin09_deblur"
    for image, number in itertools.product((1, 3), range(1, 9)):
        sharp = read_image(folder / f"gt/im{image}.png")
        blurry = read_image(folder / f"im{image}_kernel{number}_img.png")
        (stored,) = read_kernels(folder / f"gt/kernel{number}.png")
        kernel = stored if number in {4, 8} else stored[::-1, ::-1]
        right = best_correlation(blur(sharp, kernel), blurry)
        assert right > 0.996
        wrong = [] if number in {1, 3} else [kernel[::-1, ::-1], kernel[::-1], kernel[:, ::-1], kernel.T]
        assert all(best_correlation(blur(sharp, one), blurry) < right - 0.001 for one in wrong)


def best_correlation(first, second):
    """Largest correlation of the middle of one with the other, over all shifts, because theirs is not known."""
    inside = first[40:-40, 40:-40, 0].astype(np.float32)
    return float(cv2.matchTemplate(second[..., 0].astype(np.float32), inside, cv2.TM_CCOEFF_NORMED).max())


@pytest.mark.datasets
def test_kairs_kernels_are_read_and_its_file_of_matlab_7_3_is_refused_with_a_way_out(levin):
    kernels = read_kernels(levin / "KAIR_kernels/kernels_12.mat")
    assert [kernel.shape for kernel in kernels] == [(25, 25)] * 12
    assert [kernel.sum() for kernel in kernels] == pytest.approx([1] * 12)
    for name, message in {
        "Levin09.mat": r"version 7\.3 \(HDF5\).*-v7",
        "kernels_bicubicx234.mat": "not a motion kernel",
        "srmd_pca_matlab.mat": "not a motion kernel",
    }.items():
        with pytest.raises(InputError, match=message):
            read_kernels(levin / "KAIR_kernels" / name)
    assert read_kernels(levin / "KAIR_kernels/k_large_1.png")[0].shape == (67, 67)


@pytest.mark.datasets
def test_a_test_image_is_blurred_alike_in_every_run(levin):
    choice = TaskChoice.model_validate({"name": "deblur", "kernels": ["KAIR_kernels/kernels_12.mat"], "noise": 2})
    path = "Levin09_deblur/gt/im1.png"
    entry = Entry("test", "set", "im1", path, "", 255, 255, sha256_of(levin / path), "0" * 16)
    first, again = (read_pair(entry, levin, build_task(choice, levin)) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], read_image(levin / path))
