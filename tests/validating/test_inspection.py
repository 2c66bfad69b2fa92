import hashlib
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

from components.images.datasets import Collection, Dataset
from components.images.files import read_image
from components.run.errors import InputError
from components.tasks.sr import SuperResolution
from components.validating.inspection import inspect_image, inspect_images, pair_correlation
from components.validating.listing import Listed, list_images
from tests.bad_pictures import BAD, BOMBS

FLOOR = 0.2
TASK = SuperResolution(scale=2)
RANDOM = np.random.default_rng(0)
PHOTOGRAPHS = {
    name: np.asarray(Image.fromarray(image).resize((121, 90), Image.Resampling.BICUBIC))
    for name, image in {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "china": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
    }.items()
}
CAT = PHOTOGRAPHS["cat"]


def degraded(image):
    return TASK.degrade(TASK.crop(image), RANDOM)


def inspected(folder, degraded=""):
    return inspect_image(Listed("training", "set", "clean", "clean.png", degraded), folder, TASK.crop, TASK.scale)


def save(path, image):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


def test_a_sound_image_is_described(tmp_path):
    save(tmp_path / "clean.png", CAT)
    found = inspected(tmp_path)
    assert (found.readable, found.mode, found.height, found.width, found.smallest_side) == ("yes", "RGB", 90, 121, 90)
    assert found.aspect == 121 / 90
    assert found.sha256 == hashlib.sha256((tmp_path / "clean.png").read_bytes()).hexdigest()
    assert found.pair is None
    entry = found.entry()
    assert (entry.key, entry.height, entry.width) == ("set/clean", 90, 121)
    assert len(entry.perceptual_hash) == 16
    assert found.hashes[0] == int(entry.perceptual_hash, 16)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_the_mode_is_that_of_the_file(tmp_path, mode):
    save(tmp_path / "clean.png", Image.fromarray(CAT).convert(mode))
    assert (inspected(tmp_path).readable, inspected(tmp_path).mode) == ("yes", mode)


def truncated(path):
    save(path, CAT)
    path.write_bytes(path.read_bytes()[:-4000])


def transparent(path):
    save(path, np.concatenate([CAT, np.full((90, 121, 1), 128, np.uint8)], axis=2))


BROKEN = {
    "truncated": truncated,
    "text": lambda path: path.write_text("a letter"),
    "16 bits": lambda path: save(path, CAT[..., 0].astype(np.uint16) * 257),
    "transparent": transparent,
    "empty": lambda path: path.touch(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_says_why_without_its_path_and_has_no_further_values(tmp_path, kind):
    path = tmp_path / "clean.png"
    BROKEN[kind](path)
    with pytest.raises(InputError) as error:
        read_image(path)
    found = inspected(tmp_path)
    assert str(error.value) == f"{path}: {found.readable}"
    assert (found.mode, found.height, found.aspect, found.smallest_side, found.perceptual_hash) == (None,) * 5


@pytest.mark.parametrize("bad", [*BAD, *BOMBS], ids=lambda one: one.name)
def test_a_bad_picture_is_one_row_with_its_reason(tmp_path, bad):
    (tmp_path / "clean.png").write_bytes(bad.content)
    assert bad.reason in inspected(tmp_path).readable
    save(tmp_path / "clean.png", CAT)
    (tmp_path / "low.png").write_bytes(bad.content)
    assert bad.reason in inspected(tmp_path, "low.png").pair


def test_what_the_system_can_not_read_is_one_row(tmp_path):
    (tmp_path / "clean.png").symlink_to("/proc/self/mem")
    found = inspected(tmp_path)
    assert (found.readable, found.sha256) == ("cannot be read: Input/output error", "")


def test_a_true_pair_is_ok(tmp_path):
    save(tmp_path / "clean.png", CAT)
    save(tmp_path / "low.png", degraded(CAT))
    found = inspected(tmp_path, "low.png")
    assert found.pair == "ok"
    assert found.pair_correlation > 0.95


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: None, "low.png is missing"),
        (lambda path: path.write_text("no"), "low.png cannot be read: "),
        (lambda path: save(path, degraded(CAT)[:, :-1]), "low.png is 59x45, expected 60x45"),
        (lambda path: save(path, CAT), "low.png is 121x90, expected 60x45"),
    ],
)
def test_a_missing_broken_or_wrongly_sized_partner_is_told(tmp_path, write, expected):
    save(tmp_path / "clean.png", CAT)
    write(tmp_path / "low.png")
    found = inspected(tmp_path, "low.png")
    assert found.pair.startswith(expected)
    assert found.pair_correlation is None


def test_the_partner_belongs_to_what_the_task_leaves_of_the_clean_image(tmp_path):
    save(tmp_path / "clean.png", CAT)
    save(tmp_path / "low.png", degraded(CAT[:80, :100]))
    listed = Listed("training", "set", "clean", "clean.png", "low.png")
    found = inspect_image(listed, tmp_path, lambda clean: clean[:80, :100], TASK.scale)
    assert found.pair == "ok"
    assert found.pair_correlation > 0.95


@pytest.mark.parametrize("other", PHOTOGRAPHS)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_only_the_own_partner_correlates(name, other):
    assert (pair_correlation(PHOTOGRAPHS[name], degraded(PHOTOGRAPHS[other])) >= FLOOR) == (name == other)


def test_a_mirrored_partner_does_not_correlate():
    assert pair_correlation(CAT, degraded(CAT)[:, ::-1]) < FLOOR


@pytest.mark.parametrize("damage", ["noise", "dark", "blur"])
def test_strong_degradation_still_correlates(damage):
    image = {
        "noise": np.clip(CAT + RANDOM.normal(0, 50, CAT.shape), 0, 255),
        "dark": CAT // 10,
        "blur": np.mean([np.roll(CAT, shift, axis=1) for shift in range(-7, 8)], axis=0),
    }[damage]
    assert pair_correlation(CAT, image.astype(np.uint8)) >= FLOOR


def test_two_flat_images_are_alike_and_a_flat_one_is_unlike_a_photograph():
    flat = np.full_like(CAT, 200)
    assert pair_correlation(flat, flat) == 1
    assert pair_correlation(flat, np.clip(flat + RANDOM.integers(-1, 2, flat.shape), 0, 255).astype(np.uint8)) >= FLOOR
    assert pair_correlation(flat, CAT) < FLOOR


def test_many_images_come_in_the_given_order_with_the_values_of_each_alone(tmp_path):
    for name, image in PHOTOGRAPHS.items():
        save(tmp_path / f"{name}.png", image)
    listed = [Listed("test", "set", name, f"{name}.png", "") for name in PHOTOGRAPHS] * 3
    listed = [replace(one, dataset=str(index)) for index, one in enumerate(listed)]
    alone = [inspect_image(one, tmp_path, TASK.crop, TASK.scale) for one in listed]
    assert list(inspect_images(listed, tmp_path, TASK.crop, TASK.scale)) == alone


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    """Set5, Set14 and Rain100H_first50, unpacked."""
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Set5.tar, Set14.tar and Rain100H_first50.tar")
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("Set5", "Set14", "Rain100H_first50"):
        with tarfile.open(Path(os.environ["DATASETS_DIR"], f"{name}.tar")) as archive:
            archive.extractall(folder, filter="data")
    return folder


def pairs(folder, source, scale, clean, degraded):
    datasets = {"set": Dataset(source=source, clean=(clean,), degraded=degraded)}
    listed = list_images(Collection(training=("set",), validation=("set",), test=("set",)), datasets, folder, scale)
    return listed[: len(listed) // 3]


@pytest.mark.datasets
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("source", "count"), [("Set5", 5), ("Set14", 14)])
def test_every_benchmark_pair_passes_and_every_shuffled_one_does_not(benchmarks, source, count, scale):
    task = SuperResolution(scale=scale)
    listed = pairs(benchmarks, source, scale, "HR/*.png", "LR_bicubic/X{scale}/{name}x{scale}.png")
    found = list(inspect_images(listed, benchmarks, task.crop, scale))
    assert [image.pair for image in found] == ["ok"] * count
    assert min(image.pair_correlation for image in found) > 0.97
    low = [read_image(benchmarks / one.degraded) for one in listed]
    wrong = [
        pair_correlation(read_image(benchmarks / one.clean), other)
        for index, one in enumerate(listed)
        for other in low[:index] + low[index + 1 :]
    ]
    assert max(wrong) < FLOOR


@pytest.mark.datasets
def test_every_pair_in_heavy_rain_passes(benchmarks):
    listed = pairs(benchmarks, "Rain100H_first50", 1, "target/*.png", "input/{name}.png")
    found = list(inspect_images(listed, benchmarks, lambda clean: clean, 1))
    assert [image.pair for image in found] == ["ok"] * 50
    assert min(image.pair_correlation for image in found) > 0.3
