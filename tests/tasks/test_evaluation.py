import csv
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from components.backbones.edsr import Edsr
from components.backbones.tiling import restore_tiled
from components.build_lmdb import Packing, pack
from components.exporting.losses import measure_variants
from components.images.bicubic import downscale, upscale
from components.images.manifest import Entry
from components.run.errors import InputError
from components.run.files import sha256_of
from components.tasks import evaluation
from components.tasks.evaluation import evaluate_images, network_restorer, read_pair, write_scores
from components.tasks.sr import SuperResolution
from components.tasks.task import Image, Task

TASK = SuperResolution(2)
CROPS = {"astronaut": (0, 180), "chelsea": (90, 120), "coffee": (100, 200)}
"""Top left corner of 61x49 pixels with detail: no multiple of two."""


class Noise(Task):
    """White noise, drawn for each image; measured on RGB."""

    packed: ClassVar[bool] = False
    scale = 1
    protocol = "RGB"

    def crop(self, clean: Image) -> Image:
        return clean

    def degrade(self, clean: Image, random: np.random.Generator) -> Image:
        noisy: Image = np.clip(clean + random.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)
        return noisy

    def baseline(self, degraded: Image) -> Image:
        return degraded

    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        return {"psnr": float(peak_signal_noise_ratio(clean, restored)), "ssim": 1.0}


def save(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path)


def entry(raw: Path, name: str, dataset: str = "first", degraded: str = "", split: str = "test") -> Entry:
    """An entry of a small photograph, stored under `raw`."""
    top, left = CROPS[name]
    image: Image = getattr(data, name)()[top : top + 61, left : left + 49]
    clean = f"{dataset}/{name}.png"
    save(raw / clean, image)
    return Entry(split, dataset, name, clean, degraded, 61, 49, sha256_of(raw / clean), "0" * 16)  # type: ignore[arg-type]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def entries(raw: Path) -> list[Entry]:
    """Two images in one set, one in another."""
    return [entry(raw, "chelsea"), entry(raw, "coffee"), entry(raw, "astronaut", "second")]


def clean_of(raw: Path, one: Entry) -> Image:
    with Pillow.open(raw / one.clean) as image:
        whole: Image = np.array(image)
    return whole[:60, :48]


def stored(folder: Path, one: Entry) -> Image:
    with Pillow.open(folder / one.dataset / f"{one.name}.png") as image:
        return np.array(image)


def test_every_image_gets_its_score_in_the_order_of_the_manifest(
    entries: list[Entry], raw: Path, tmp_path: Path
) -> None:
    found = evaluate_images("bicubic", TASK.baseline, entries, raw, TASK, tmp_path / "restored")
    assert [(score.dataset, score.name) for score in found.scores] == [(one.dataset, one.name) for one in entries]
    for one, score in zip(entries, found.scores, strict=True):
        clean = clean_of(raw, one)
        expected = TASK.measure(upscale(downscale(clean, 2), 2), clean)
        assert {"psnr": score.psnr, "ssim": score.ssim} == expected
    assert len({score.psnr for score in found.scores}) == 3
    assert found.seconds_per_megapixel > 0


def test_a_set_gets_the_mean_of_its_images(entries: list[Entry], raw: Path, tmp_path: Path) -> None:
    found = evaluate_images("bicubic", TASK.baseline, entries, raw, TASK, tmp_path / "restored")
    one, two, other = found.scores
    assert list(found.sets()) == ["first", "second"]
    assert found.sets()["first"] == pytest.approx(
        {"psnr": (one.psnr + two.psnr) / 2, "ssim": (one.ssim + two.ssim) / 2}, rel=1e-12
    )
    assert found.sets()["second"] == {"psnr": other.psnr, "ssim": other.ssim}


def test_restored_images_are_stored_as_they_were_measured(entries: list[Entry], raw: Path, tmp_path: Path) -> None:
    found = evaluate_images("bicubic", TASK.baseline, entries, raw, TASK, tmp_path / "restored")
    for one, score in zip(entries, found.scores, strict=True):
        assert TASK.measure(stored(tmp_path / "restored", one), clean_of(raw, one))["psnr"] == score.psnr
    names = sorted(str(path.relative_to(tmp_path / "restored")) for path in (tmp_path / "restored").rglob("*.png"))
    assert names == ["first/chelsea.png", "first/coffee.png", "second/astronaut.png"]


class TestPairs:
    def test_without_a_degraded_file_the_task_makes_one(self, raw: Path) -> None:
        one = entry(raw, "chelsea")
        degraded, clean = read_pair(one, raw, TASK)
        assert np.array_equal(clean, clean_of(raw, one))
        assert np.array_equal(degraded, downscale(clean, 2))

    def test_a_degraded_file_is_taken_as_it_is(self, raw: Path, tmp_path: Path) -> None:
        one = entry(raw, "chelsea", degraded="first/LR/chelsea.png")
        lighter = downscale(clean_of(raw, one), 2) // 2 + 100
        save(raw / one.degraded, lighter)
        degraded, clean = read_pair(one, raw, TASK)
        assert np.array_equal(degraded, lighter)
        assert np.array_equal(clean, clean_of(raw, one))
        found = evaluate_images("bicubic", TASK.baseline, [one], raw, TASK, tmp_path / "restored")
        assert found.scores[0].psnr == TASK.measure(upscale(lighter, 2), clean)["psnr"]

    def test_what_is_drawn_for_an_image_does_not_depend_on_the_others(self, entries: list[Entry], raw: Path) -> None:
        alone = [read_pair(one, raw, Noise())[0] for one in entries]
        for one, first in zip(reversed(entries), reversed(alone), strict=True):
            assert np.array_equal(read_pair(one, raw, Noise())[0], first)
        residuals = [
            first.astype(int) - read_pair(one, raw, Noise())[1] for one, first in zip(entries, alone, strict=True)
        ]
        assert np.abs(np.corrcoef([residual.ravel() for residual in residuals]) - np.eye(3)).max() < 0.1

    def test_a_file_that_is_not_the_manifests_is_named(self, raw: Path, tmp_path: Path) -> None:
        one = entry(raw, "chelsea")
        with pytest.raises(InputError, match=r"first/chelsea\.png: is not the file of the manifest: it has 49x61"):
            read_pair(replace(one, height=62), raw, TASK)
        other = replace(one, sha256="0" * 64)
        with pytest.raises(InputError, match=r"first/chelsea\.png: is not the file of the manifest: its sha256 is"):
            pack(TASK, Packing(size=8, step=8), [other], raw, tmp_path / "lmdb", workers=1)
        with pytest.raises(InputError, match=r"first/chelsea\.png: is not the file of the manifest: its sha256 is"):
            measure_variants({}, [one, other], raw, TASK)
        with pytest.raises(InputError, match=r"first/chelsea\.png: is not the file of the manifest: its sha256 is"):
            evaluate_images("measure", TASK.baseline, [one, other], raw, TASK, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()

    def test_a_network_that_makes_no_numbers_makes_no_image(self, raw: Path, tmp_path: Path) -> None:
        network = Edsr(2, channels=4, blocks=1)
        with torch.no_grad():
            next(network.parameters())[0] = torch.nan
        one = entry(raw, "chelsea")
        with pytest.raises(InputError, match="makes values that are not finite"):
            evaluate_images("measure", network_restorer(network), [one], raw, TASK, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()

    def test_a_broken_image_is_named(self, raw: Path, tmp_path: Path) -> None:
        one = entry(raw, "chelsea")
        (raw / one.clean).write_bytes((raw / one.clean).read_bytes()[:2000])
        with pytest.raises(InputError, match=r"first/chelsea\.png: is damaged or cut off"):
            evaluate_images("bicubic", TASK.baseline, [one], raw, TASK, tmp_path / "restored")

    def test_a_manifest_without_test_images_is_refused(self, raw: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="lists no test image: name a dataset in the collection's test split"):
            evaluate_images("bicubic", TASK.baseline, [], raw, TASK, tmp_path / "restored")

    def test_only_test_images_are_chosen(self, raw: Path) -> None:
        both = [entry(raw, "chelsea", split="training"), entry(raw, "coffee")]
        assert [one.name for one in evaluation.test_entries(both)] == ["coffee"]


class Shift(Edsr):
    """Enlarges by repeating pixels and adds a part of a level: an output that lies between 8-bit values."""

    def __init__(self, part: float) -> None:
        super().__init__(2, channels=1, blocks=1)
        self.part = part

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(image, scale_factor=2, mode="nearest") + self.part / 255


class TestNetworkRestorer:
    @pytest.mark.parametrize(("part", "added"), [(0.3, 0), (0.7, 1), (-0.4, 0), (-0.6, -1)])
    def test_output_is_rounded_to_the_nearest_of_8_bits(self, part: float, added: int) -> None:
        """Cut off instead, 0.7 would add nothing."""
        degraded = np.arange(1, 255, dtype=np.uint8)[:252].reshape(6, 14, 3)
        restored = network_restorer(Shift(part).eval())(degraded)
        assert restored.dtype == np.uint8
        assert np.array_equal(restored, (degraded.astype(int) + added).repeat(2, 0).repeat(2, 1))

    def test_output_is_clipped_before_it_is_rounded(self) -> None:
        ends = np.array([[[0, 128, 255]]], dtype=np.uint8)
        assert network_restorer(Shift(-7).eval())(ends)[0, 0].tolist() == [0, 121, 248]
        assert network_restorer(Shift(7).eval())(ends)[0, 0].tolist() == [7, 135, 255]

    def test_channels_and_axes_stay_in_place(self, raw: Path) -> None:
        one = entry(raw, "coffee")
        restored = network_restorer(Shift(0).eval())(clean_of(raw, one))
        assert np.array_equal(restored, clean_of(raw, one).repeat(2, 0).repeat(2, 1))

    def test_scores_and_file_are_those_of_the_rounded_image(self, raw: Path, tmp_path: Path) -> None:
        one = entry(raw, "chelsea")
        torch.manual_seed(0)
        network = Edsr(2, channels=4, blocks=1).eval()
        found = evaluate_images("student", network_restorer(network), [one], raw, TASK, tmp_path / "restored")
        degraded = torch.from_numpy(downscale(clean_of(raw, one), 2) / np.float32(255)).permute(2, 0, 1)[None]
        exact = restore_tiled(network, degraded)[0].permute(1, 2, 0).numpy().astype(np.float64)
        rounded = np.clip(np.round(exact * 255), 0, 255).astype(np.uint8)
        assert np.array_equal(stored(tmp_path / "restored", one), rounded)
        assert found.scores[0].psnr == TASK.measure(rounded, clean_of(raw, one))["psnr"]


def test_scores_are_written_one_row_an_image(entries: list[Entry], raw: Path, tmp_path: Path) -> None:
    found = evaluate_images("bicubic", TASK.baseline, entries, raw, TASK, tmp_path / "restored")
    write_scores(tmp_path / "images.csv", found.scores)
    assert b"\r" not in (tmp_path / "images.csv").read_bytes()
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["name"]) for row in rows] == [(one.dataset, one.name) for one in entries]
    for row, score in zip(rows, found.scores, strict=True):
        assert float(row["psnr"]) == pytest.approx(score.psnr, abs=1e-6)
        assert float(row["ssim"]) == pytest.approx(score.ssim, abs=1e-6)
