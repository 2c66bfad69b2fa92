from collections import Counter

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from torch.utils.data import DataLoader

from components.images.patches import StepSampler, TrainingPatches
from components.images.store import Pair, Store, StoreWriter
from components.run.errors import InputError

SCALE = 2


class Noise:
    """A task whose degraded image is drawn for every crop."""

    scale = 1
    margin = 0

    def degrade(self, clean, random):
        assert clean.flags.c_contiguous
        return np.clip(clean + random.integers(-9, 10, clean.shape), 0, 255).astype(np.uint8)


class Bicubic:
    scale = SCALE
    margin = 0

    def degrade(self, clean, random):
        raise AssertionError("the store holds the degraded image")


def blocks(seed, height=20, width=30):
    """A pair whose clean image repeats each degraded pixel: aligned if and only if each block has one colour."""
    degraded = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Pair(degraded, enlarged(degraded))


def enlarged(degraded):
    return degraded.repeat(SCALE, 0).repeat(SCALE, 1)


def store_of(folder, *pairs, scale=SCALE):
    with StoreWriter(folder, scale, 0) as writer:
        for number, pair in enumerate(pairs):
            writer.add("training", f"set/{number}", pair, [((0, 0), pair.clean.shape[:2])])
        writer.add("validation", "set/kept-out", blocks(99), [((0, 0), (40, 60))])
    return Store(folder)


def pixels(planes):
    """Float32 `3 H W` in [0, 1] back to uint8 `H W 3`, exactly."""
    assert planes.dtype == torch.float32
    assert planes.is_contiguous()
    values = planes.permute(1, 2, 0).double().mul(255).numpy()
    np.testing.assert_allclose(values, values.round(), atol=1e-4)
    return values.round().astype(np.uint8)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in ("degraded", "clean", "seed"))


@pytest.fixture
def patches(tmp_path):
    store = store_of(tmp_path / "lmdb", *map(blocks, range(5)))
    return TrainingPatches(store, Bicubic(), patch=8, seed=3, augment=True)


def test_a_sample_depends_on_seed_and_number_only(tmp_path, patches):
    again = TrainingPatches(Store(tmp_path / "lmdb"), Bicubic(), patch=8, seed=3, augment=True)
    numbers = [0, 1, 7, 12345678901, 1]
    assert all(same(patches[number], again[number]) for number in reversed(numbers))
    other = TrainingPatches(Store(tmp_path / "lmdb"), Bicubic(), patch=8, seed=4, augment=True)
    assert not any(same(patches[number], other[number]) for number in numbers)


def test_clean_and_degraded_crops_stay_aligned_under_every_symmetry(patches):
    for number in range(64):
        sample = patches[number]
        assert sample["degraded"].shape == (3, 8, 8)
        assert sample["clean"].shape == (3, 16, 16)
        np.testing.assert_array_equal(pixels(sample["clean"]), enlarged(pixels(sample["degraded"])))


def test_every_epoch_visits_each_training_record_once_in_an_order_of_its_own(tmp_path):
    flat = [Pair(np.full((9, 9, 3), n, np.uint8), np.full((18, 18, 3), n, np.uint8)) for n in range(6)]
    patches = TrainingPatches(store_of(tmp_path / "lmdb", *flat), Bicubic(), patch=4, seed=0, augment=True)
    epochs = [tuple(int(pixels(patches[6 * epoch + n]["clean"])[0, 0, 0]) for n in range(6)) for epoch in range(20)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 15


def test_the_symmetries_are_the_eight_of_the_square_and_equally_likely(tmp_path):
    pair = blocks(0, 8, 8)
    patches = TrainingPatches(store_of(tmp_path / "lmdb", pair), Bicubic(), patch=8, seed=0, augment=True)
    square = {
        np.ascontiguousarray(np.rot90(image, turns)).tobytes()
        for image in (pair.clean, pair.clean[:, ::-1])
        for turns in range(4)
    }
    found = Counter(pixels(patches[number]["clean"]).tobytes() for number in range(800))
    assert set(found) == square
    assert all(60 < count < 140 for count in found.values())  # 100 expected, standard deviation 9.4


def test_without_augmentation_nothing_is_turned(tmp_path):
    pair = blocks(0, 8, 8)
    patches = TrainingPatches(store_of(tmp_path / "lmdb", pair), Bicubic(), patch=8, seed=0, augment=False)
    assert all((pixels(patches[number]["clean"]) == pair.clean).all() for number in range(20))


def test_every_corner_of_the_degraded_grid_is_drawn_equally_often(tmp_path):
    rows, columns = np.mgrid[0:10, 0:9]
    degraded = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    patches = TrainingPatches(
        store_of(tmp_path / "lmdb", Pair(degraded, enlarged(degraded))), Bicubic(), patch=8, seed=0, augment=False
    )
    corners = Counter(tuple(pixels(patches[number]["degraded"])[0, 0, :2].tolist()) for number in range(600))
    assert set(corners) == {(top, left) for top in (0, 1, 2) for left in (0, 1)}
    assert all(60 < count < 140 for count in corners.values())


def test_gray_samples_have_three_equal_planes_and_the_luma_of_the_others_unrounded(tmp_path, patches):
    gray = TrainingPatches(Store(tmp_path / "lmdb"), Bicubic(), patch=8, seed=3, augment=True, gray=True)
    for number in range(8):
        for name in ("degraded", "clean"):
            colour, level = pixels(patches[number][name]), gray[number][name]
            assert level.dtype == torch.float32
            assert torch.equal(level[0], level[1])
            assert torch.equal(level[0], level[2])
            luma = rgb2ycbcr(np.repeat(level[:1].permute(1, 2, 0).double().numpy(), 3, axis=2))[..., 0]
            np.testing.assert_allclose(luma, rgb2ycbcr(colour)[..., 0], atol=3e-5)
        assert torch.equal(gray[number]["seed"], patches[number]["seed"])


def test_each_sample_has_a_seed_of_its_own(patches):
    seeds = [patches[number]["seed"] for number in range(200)]
    assert all(seed.dtype == torch.int64 and seed.shape == () and seed >= 0 for seed in seeds)
    assert len({int(seed) for seed in seeds}) == 200


def test_a_degraded_image_that_is_not_stored_is_drawn_from_the_turned_clean_crop(tmp_path):
    clean = np.random.default_rng(0).integers(20, 230, size=(30, 30, 3), dtype=np.uint8)
    store = store_of(tmp_path / "lmdb", Pair(None, clean), scale=1)
    patches = TrainingPatches(store, Noise(), patch=16, seed=0, augment=True)
    noises = []
    for number in range(10):
        sample = patches[number]
        assert same(sample, patches[number])
        noises.append(pixels(sample["degraded"]).astype(int) - pixels(sample["clean"]))
        assert np.abs(noises[-1]).max() == 9
    assert len({noise.tobytes() for noise in noises}) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_a_batch_without_talking(patches, workers):
    def batches(rank, world_size):
        sampler = StepSampler(1, 4, batch=6, rank=rank, world_size=world_size)
        return list(DataLoader(patches, batch_sampler=sampler, num_workers=workers))

    whole, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
    assert len(whole) == 4
    for one, left, right in zip(whole, first, second, strict=True):
        assert one["clean"].shape == (6, 3, 16, 16)
        assert same(one, {name: torch.cat([left[name], right[name]]) for name in one})


def test_a_resumed_run_goes_on_with_the_numbers_of_the_unbroken_one():
    unbroken = list(StepSampler(1, 9, batch=4))
    assert unbroken == list(StepSampler(1, 5, batch=4)) + list(StepSampler(6, 9, batch=4))
    assert [number for step in unbroken for number in step] == list(range(36))
    assert len(StepSampler(6, 9, batch=4)) == 4


def test_a_batch_that_can_not_be_shared_equally_is_refused():
    with pytest.raises(InputError, match="batch of 16 can't be shared equally by 3 processes"):
        StepSampler(1, 9, batch=16, world_size=3)


def test_a_record_smaller_than_the_patch_is_refused_by_name(tmp_path):
    store = store_of(tmp_path / "lmdb", blocks(0), blocks(1, 7, 30))
    with pytest.raises(InputError, match=r"set/1: 60x14 pixels .* 16 clean pixels wide \(8 degraded\)"):
        TrainingPatches(store, Bicubic(), patch=8, seed=0, augment=True)


def test_a_store_of_another_scale_is_refused(tmp_path):
    store = store_of(tmp_path / "lmdb", blocks(0))
    with pytest.raises(InputError, match="scale 2, the task 1"):
        TrainingPatches(store, Noise(), patch=8, seed=0, augment=True)


def test_a_store_without_training_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no training image"):
        TrainingPatches(store_of(tmp_path / "lmdb"), Bicubic(), patch=8, seed=0, augment=True)
