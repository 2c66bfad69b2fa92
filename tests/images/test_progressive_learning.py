"""Growing patches in shrinking batches: sizes by step and by sample, and crops of these sizes."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from components.images.patches import StepSampler, TrainingPatches
from components.images.progressive_learning import ProgressiveLearning, Sizes, unchanging
from components.images.store import Pair, Store, StoreWriter
from components.run.errors import InputError

# After 3 steps of 6 samples, 2 of 4, then 2: samples 0..17, 18..25, 26...
GROWING = ProgressiveLearning([Sizes(0, 6, 4), Sizes(3, 4, 6), Sizes(5, 2, 9)])
RESTORMER = ProgressiveLearning(
    [
        Sizes(0, 64, 128),
        Sizes(92_000, 40, 160),
        Sizes(156_000, 32, 192),
        Sizes(204_000, 16, 256),
        Sizes(240_000, 8, 320),
        Sizes(276_000, 8, 384),
    ]
)


class Bicubic:
    scale = 2

    def degrade(self, clean, random):
        raise AssertionError("the store holds the degraded image")


@pytest.fixture
def store(tmp_path):
    with StoreWriter(tmp_path / "lmdb", 2, 0) as writer:
        for number in range(5):
            degraded = np.random.default_rng(number).integers(256, size=(9 + number, 12, 3), dtype=np.uint8)
            clean = degraded.repeat(2, 0).repeat(2, 1)
            writer.add("training", f"set/{number}", Pair(degraded, clean), [((0, 0), clean.shape[:2])])
    return Store(tmp_path / "lmdb")


def crops_of(store, sizes):
    return TrainingPatches(store, Bicubic(), sizes, seed=3, augment=True)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in ("degraded", "clean", "seed"))


def test_numbers_run_on_without_a_gap_and_each_step_has_its_batch():
    steps = [GROWING.samples(step) for step in range(1, 9)]
    assert [len(step) for step in steps] == [6, 6, 6, 4, 4, 2, 2, 2]
    assert [number for step in steps for number in step] == list(range(32))


def test_a_sample_has_the_patch_of_its_step():
    patches = [{GROWING.patch(number) for number in GROWING.samples(step)} for step in range(1, 9)]
    assert patches == [{4}, {4}, {4}, {6}, {6}, {9}, {9}, {9}]
    assert (GROWING.largest_patch, GROWING.batches) == (9, (6, 4, 2))


def test_restormers_switches_behind_its_steps():
    """Its `iters` of 92k, 64k, 48k, 36k, 36k and 24k, `gt_sizes`, and 8 times its `mini_batch_sizes`."""
    ends = np.cumsum([92_000, 64_000, 48_000, 36_000, 36_000, 24_000])
    for place, (end, size, mini) in enumerate(
        zip(ends, (128, 160, 192, 256, 320, 384), (8, 5, 4, 2, 1, 1), strict=True)
    ):
        first = 1 if place == 0 else int(ends[place - 1]) + 1
        for step in (first, int(end)):
            samples = RESTORMER.samples(step)
            assert len(samples) == 8 * mini
            assert {RESTORMER.patch(samples[0]), RESTORMER.patch(samples[-1])} == {size}


def test_without_change_it_is_what_it_always_was():
    for step in (1, 2, 1000):
        assert unchanging(16, 24).samples(step) == range((step - 1) * 16, step * 16)


def test_crops_have_the_patch_of_their_number_and_depend_on_nothing_else(store):
    growing = crops_of(store, GROWING)
    for number in (0, 17, 18, 25, 26, 31):
        side = GROWING.patch(number)
        sample = growing[number]
        assert sample["degraded"].shape == (3, side, side)
        assert sample["clean"].shape == (3, 2 * side, 2 * side)
        # as if all crops had this size
        assert same(sample, crops_of(store, side)[number])


def test_a_larger_patch_is_cut_at_any_place_of_the_image(store):
    """Not within a crop of the largest size, which it would be in the release."""
    widths = Counter()
    for number in range(26, 400):
        widths[tuple(crops_of(store, GROWING)[number]["degraded"][0, 0, :2].tolist())] += 1
    assert len(widths) > 50


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_batches_that_change_and_resume_among_them(store, workers):
    growing = crops_of(store, GROWING)

    def batches(first, last, rank=0, world_size=1):
        sampler = StepSampler(first, last, GROWING, rank, world_size)
        return list(DataLoader(growing, batch_sampler=sampler, num_workers=workers))

    whole = batches(1, 8)
    for one, left, right in zip(whole, batches(1, 8, 0, 2), batches(1, 8, 1, 2), strict=True):
        assert same(one, {name: torch.cat([left[name], right[name]]) for name in one})
    for done in (2, 3, 4, 6):
        assert all(map(same, whole, batches(1, done) + batches(done + 1, 8)))


def test_every_batch_must_be_shared_equally():
    with pytest.raises(InputError, match="batch of 2 can't be shared equally by 4 processes"):
        StepSampler(1, 8, ProgressiveLearning([Sizes(0, 8, 4), Sizes(3, 2, 6)]), world_size=4)


def test_the_largest_patch_must_fit_into_every_image(store):
    with pytest.raises(InputError, match=r"set/0: 24x18 pixels .* 20 clean pixels wide \(10 degraded\)"):
        crops_of(store, ProgressiveLearning([Sizes(0, 6, 4), Sizes(3, 4, 10), Sizes(5, 2, 8)]))
