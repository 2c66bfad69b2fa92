import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from components.validating.duplicates import (
    also_tested,
    near_duplicate_across_splits,
    same_file_across_splits,
    same_file_in_split,
)
from components.validating.inspection import Inspection
from components.validating.perceptual_hash import oriented_hashes

BITS = 6


def row(split, clean, sha256, hashes=()):
    return Inspection(split, "set", clean, clean, "", sha256, "yes", "RGB", 8, 8, hashes)


def photographed(split, clean, image):
    return row(split, clean, clean, oriented_hashes(np.asarray(image)))


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return Image.open(file)


def test_equal_files_of_a_split_name_the_first_of_them():
    images = [row("training", name, sha) for name, sha in [("a", "1"), ("b", "2"), ("c", "1"), ("d", "1")]]
    assert same_file_in_split([*images, row("test", "e", "2")]) == [None, None, "a", "a", None]


def test_a_clean_file_that_several_degraded_files_share_is_there_once():
    """Levin's photographs: 32 blurry files of 4 sharp ones."""

    def pair(clean, degraded, sha256):
        return Inspection("test", "set", degraded, clean, degraded, sha256, "yes", "L", 8, 8)

    shared = [pair("im1", "im1_k1", "1"), pair("im1", "im1_k2", "1"), pair("im2", "im2_k1", "2")]
    assert same_file_in_split(shared) == [None, None, None]
    assert same_file_in_split([*shared, pair("copy", "copy_k1", "1")])[3] == "im1"
    assert same_file_in_split([*shared, pair("im1", "im1_k1", "1")])[3] == "im1"


def test_equal_files_across_splits_are_told_once_at_the_training_image():
    images = [row("training", "a", "1"), row("validation", "b", "1"), row("test", "c", "1"), row("test", "d", "2")]
    assert same_file_across_splits(images) == ["b", None, None, None]


def test_images_that_validate_and_test_are_no_leak():
    hashes = oriented_hashes(np.asarray(PHOTOGRAPH))
    images = [row("training", "a", "0"), row("validation", "b", "1", hashes), row("test", "c", "1", hashes)]
    images += [row("validation", "d", "2", hashes)]
    assert same_file_across_splits(images) == near_duplicate_across_splits(images, BITS) == [None] * 4
    assert also_tested(images) == [None, "c", None, None]


PHOTOGRAPH = Image.fromarray(data.coffee())
DERIVED = {
    "jpeg": encoded(PHOTOGRAPH, format="JPEG", quality=30),
    "halved": PHOTOGRAPH.resize((300, 200)),
    "mirrored": PHOTOGRAPH.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": encoded(PHOTOGRAPH.transpose(Image.Transpose.ROTATE_90), format="JPEG", quality=50),
    "cut": PHOTOGRAPH.crop((4, 4, 596, 396)),
    "gray": PHOTOGRAPH.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("kind", DERIVED)
def test_a_derived_copy_in_a_later_split_is_found(kind):
    images = [
        photographed("training", "cat.png", Image.fromarray(data.chelsea())),
        photographed("training", "coffee.png", PHOTOGRAPH),
        photographed("test", "rocket.jpg", Image.fromarray(data.rocket())),
        photographed("test", f"{kind}.png", DERIVED[kind]),
    ]
    found = near_duplicate_across_splits(images, BITS)
    assert found[1].startswith(f"{kind}.png (")
    assert found[0] is found[2] is found[3] is None


def test_the_orientation_that_fits_is_told():
    images = [photographed("training", "a", PHOTOGRAPH), photographed("test", "b", DERIVED["mirrored"])]
    assert near_duplicate_across_splits(images, BITS)[0] == "b (mirrored, 0 bits apart)"


def test_a_copy_within_a_split_or_an_equal_file_is_no_near_duplicate():
    hashes = oriented_hashes(np.asarray(PHOTOGRAPH))
    images = [row("training", "a", "1", hashes), row("training", "b", "2", hashes), row("test", "c", "1", hashes)]
    assert near_duplicate_across_splits(images, BITS) == [None, "c (as it is, 0 bits apart)", None]


def test_images_that_could_not_be_read_are_passed_over():
    images = [row("training", "broken", "1"), row("test", "sound", "2", oriented_hashes(np.asarray(PHOTOGRAPH)))]
    assert near_duplicate_across_splits(images, BITS) == [None, None]


@pytest.mark.datasets
def test_of_the_public_sets_only_one_training_photograph_is_in_a_benchmark():
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of BSDS500_train.tar, Set5.tar and Set14.tar")
    images = []
    for split, archive in (("training", "BSDS500_train"), ("test", "Set5"), ("test", "Set14")):
        with tarfile.open(Path(os.environ["DATASETS_DIR"], f"{archive}.tar")) as files:
            for member in sorted(files, key=lambda member: member.name):
                if member.isfile() and "/LR_" not in member.name:
                    image = Image.open(files.extractfile(member)).convert("RGB")
                    images.append(photographed(split, member.name, image))
    assert len(images) == 219
    found = {
        image.clean: partner
        for image, partner in zip(images, near_duplicate_across_splits(images, 11), strict=True)
        if partner
    }
    assert found == {"BSDS500/train/302003.jpg": "Set5/HR/woman.png (as it is, 2 bits apart)"}
