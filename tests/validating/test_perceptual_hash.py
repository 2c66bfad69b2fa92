import imagehash
import numpy as np
import pytest
from PIL import Image
from skimage import data

from components.validating.perceptual_hash import ORIENTATIONS, nearest, oriented_hashes

PHOTOGRAPH = data.chelsea()


def test_the_first_hash_is_that_of_the_library():
    assert f"{oriented_hashes(PHOTOGRAPH)[0]:016x}" == str(imagehash.phash(Image.fromarray(PHOTOGRAPH)))


@pytest.mark.parametrize(("position", "turn"), list(enumerate(ORIENTATIONS.values())))
def test_each_hash_is_that_of_the_turned_photograph(position, turn):
    turned = Image.fromarray(PHOTOGRAPH)
    if turn is not None:
        turned = turned.transpose(turn)
    upright = oriented_hashes(np.asarray(turned))[0]
    assert (
        upright ^ oriented_hashes(PHOTOGRAPH)[position]
    ).bit_count() <= 2  # the thumbnail is rounded before the turn


def test_the_orientations_are_all_eight():
    corner = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = {
        np.asarray(Image.fromarray(corner) if turn is None else Image.fromarray(corner).transpose(turn)).tobytes()
        for turn in ORIENTATIONS.values()
    }
    assert len(turned) == len(ORIENTATIONS) == 8


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_nearest_agrees_with_counting_one_by_one(monkeypatch, block):
    monkeypatch.setattr("components.validating.perceptual_hash._BLOCK", block)
    random = np.random.default_rng(0)
    oriented = random.integers(0, 2**64, (37, 8), dtype=np.uint64)
    upright = np.concatenate([random.integers(0, 2**64, 11, dtype=np.uint64), oriented[5, 3:4], oriented[9, :1]])
    expected = [
        min(
            (int(one ^ other).bit_count(), turn, index)
            for turn, one in enumerate(orientations)
            for index, other in enumerate(upright)
        )
        for orientations in oriented
    ]
    index, orientation, bits = nearest(oriented, upright)
    assert list(zip(bits.tolist(), orientation.tolist(), index.tolist(), strict=True)) == expected
    assert (bits[5], orientation[5], index[5]) == (0, 3, 11)
