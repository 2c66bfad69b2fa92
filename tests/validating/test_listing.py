import os

import pytest

from components.images.datasets import Collection, Dataset
from components.run.errors import InputError
from components.run.params import typed
from components.validating.listing import list_images

COLLECTION = Collection(training=("many",), validation=("one",), test=("paired",))
DATASETS = {
    "many": Dataset(source="photographs", clean=("*.png", "deep/*.jpg"), exclude=("c",)),
    "one": Dataset(source="photographs", clean=("deep/d.jpg",)),
    "paired": Dataset(source="benchmark", clean=("HR/*.png",), degraded="LR/X{scale}/{name}x{scale}.png"),
}


@pytest.fixture
def raw(tmp_path):
    for file in ("photographs/b.png", "photographs/a.png", "photographs/c.png", "photographs/deep/d.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "benchmark/HR").mkdir(parents=True)
    (tmp_path / "benchmark/HR/woman.png").touch()
    return tmp_path


def changed(name, **values):
    return DATASETS | {name: DATASETS[name].model_copy(update=values)}


def test_images_are_listed_by_split_then_path_with_their_partners(raw):
    assert [
        (one.split, one.dataset, one.name, one.clean, one.degraded) for one in list_images(COLLECTION, DATASETS, raw, 3)
    ] == [
        ("training", "many", "a", "photographs/a.png", ""),
        ("training", "many", "b", "photographs/b.png", ""),
        ("training", "many", "d", "photographs/deep/d.jpg", ""),
        ("validation", "one", "d", "photographs/deep/d.jpg", ""),
        ("test", "paired", "woman", "benchmark/HR/woman.png", "benchmark/LR/X3/womanx3.png"),
    ]


def test_a_file_that_two_patterns_match_is_listed_once(raw):
    datasets = changed("many", clean=("a.png", "*.png"), exclude=())
    assert [one.name for one in list_images(COLLECTION, datasets, raw, 2) if one.dataset == "many"] == ["a", "b", "c"]


def test_a_pattern_without_a_file_names_dataset_pattern_folder_and_what_is_there(raw):
    with pytest.raises(InputError) as error:
        list_images(COLLECTION, changed("many", clean=("*.bmp",)), raw, 2)
    for part in ("datasets.many.clean", "'*.bmp'", str(raw / "photographs"), "a.png, b.png"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "nowhere"}, r"datasets\.paired\.source: .*nowhere is not a folder"),
        ({"clean": ("../photographs/*.png",)}, r"datasets\.paired\.clean: .* leaves its source's folder"),
        ({"clean": ("/etc/*",)}, r"datasets\.paired\.clean: .* leaves its source's folder"),
        ({"degraded": "../{name}.png"}, r"datasets\.paired\.degraded: .* leaves its source's folder"),
        ({"degraded": "LR/{nmae}.png"}, r"datasets\.paired\.degraded: .*\{name\} and \{scale\}"),
        ({"degraded": "LR/{name.png"}, r"datasets\.paired\.degraded: .*\{name\} and \{scale\}"),
        ({"exclude": ("women",)}, r"datasets\.paired\.exclude: unknown name 'women'.* Did you mean 'woman'"),
        ({"exclude": ("woman",)}, r"datasets\.paired: `exclude` leaves none"),
    ],
)
def test_a_mistake_in_a_dataset_is_named_with_its_key(raw, values, message):
    with pytest.raises(InputError, match=message):
        list_images(COLLECTION, changed("paired", **values), raw, 2)


def test_an_unknown_dataset_is_named_with_its_split_and_those_there_are(raw):
    with pytest.raises(InputError, match=r"test: unknown name 'pared'.* 'paired'.*many, one, paired"):
        list_images(Collection(training=("many",), validation=("one",), test=("pared",)), DATASETS, raw, 2)


def test_a_file_name_that_no_text_file_can_hold_is_refused(raw):
    (raw / b"photographs/caf\xe9.png".decode("utf-8", "surrogateescape")).touch()
    with pytest.raises(InputError, match="is not a UTF-8 file name"):
        list_images(COLLECTION, DATASETS, raw, 2)


def test_pictures_that_no_pattern_matches_are_counted(raw, caplog):
    for name in ("woman.PNG", "bird.PNG", "head.JPEG", "baby.tif", "notes.txt"):
        (raw / "benchmark/HR" / name).touch()
    list_images(COLLECTION, DATASETS, raw, 2)
    assert len(caplog.messages) == 1
    assert f"{raw / 'benchmark/HR'}: 4 of 5 pictures are left out, since no pattern of the collection" in caplog.text
    assert "baby.tif, bird.PNG, head.JPEG, woman.PNG." in caplog.text


def test_pictures_that_are_taken_excluded_or_partners_are_not_told_of(raw, caplog):
    (raw / "benchmark/HR/womanx2.png").touch()
    list_images(COLLECTION, changed("paired", clean=("HR/woman.png",), degraded="HR/{name}x2.png"), raw, 2)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/nowhere/x.png"), "is a link to /nowhere/x.png, which is not there"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (os.mkfifo, "is a pipe, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.with_name("x" * 252 + ".a").touch(), "has more than 251 bytes"),
    ],
)
def test_what_matches_and_is_no_file_is_told(raw, make, reason):
    make(raw / "benchmark/HR/0.png")
    with pytest.raises(InputError, match=reason):
        list_images(COLLECTION, changed("paired", clean=("HR/*.*",)), raw, 2)


LAYOUTS = {
    "GoPro": (
        {
            "clean": ["train/*/sharp/*.png"],
            "degraded": "train/{1}/blur/{name}.png",
            "name": "{1}_{2}",
        },
        ["train/GOPR1/sharp/000001.png", "train/GOPR1/sharp/000002.png", "train/GOPR2/sharp/000001.png"],
        [
            ("GOPR1_000001", "train/GOPR1/sharp/000001.png", "train/GOPR1/blur/000001.png"),
            ("GOPR1_000002", "train/GOPR1/sharp/000002.png", "train/GOPR1/blur/000002.png"),
            ("GOPR2_000001", "train/GOPR2/sharp/000001.png", "train/GOPR2/blur/000001.png"),
        ],
    ),
    "Rain13K": (
        {"clean": ["train/target/*.*"], "degraded": "train/input/{name}.{extension}"},
        ["train/target/1.jpg", "train/target/2.png"],
        [("1", "train/target/1.jpg", "train/input/1.jpg"), ("2", "train/target/2.png", "train/input/2.png")],
    ),
    "SIDD": (
        {"clean": ["Data/*/*_GT_SRGB_*.PNG"], "degraded": "Data/{1}/{2}_NOISY_SRGB_{3}.PNG", "name": "{1}_{3}"},
        ["Data/0001_S6/0001_GT_SRGB_010.PNG", "Data/0001_S6/0001_GT_SRGB_011.PNG"],
        [
            ("0001_S6_010", "Data/0001_S6/0001_GT_SRGB_010.PNG", "Data/0001_S6/0001_NOISY_SRGB_010.PNG"),
            ("0001_S6_011", "Data/0001_S6/0001_GT_SRGB_011.PNG", "Data/0001_S6/0001_NOISY_SRGB_011.PNG"),
        ],
    ),
    "Levin09": (
        {"degraded": ["deblur/*_kernel*_img.png"], "clean": "deblur/gt/{1}.png"},
        ["deblur/gt/im1.png", "deblur/im1_kernel1_img.png", "deblur/im1_kernel2_img.png"],
        [
            ("im1_kernel1_img", "deblur/gt/im1.png", "deblur/im1_kernel1_img.png"),
            ("im1_kernel2_img", "deblur/gt/im1.png", "deblur/im1_kernel2_img.png"),
        ],
    ),
    "pairs of one's own": (
        {"clean": ["clean/*.png"], "degraded": "degraded/{name}.png"},
        ["clean/b.png", "clean/a.png", "degraded/a.png"],
        [("a", "clean/a.png", "degraded/a.png"), ("b", "clean/b.png", "degraded/b.png")],
    ),
    "any depth": (
        {"clean": ["**/sharp/[!x]?.png"], "degraded": "{1}/blur/{2}{3}.png", "name": "{2}{3}"},
        ["sharp/a1.png", "one/two/sharp/b2.png", "sharp/x3.png"],
        [("b2", "one/two/sharp/b2.png", "one/two/blur/b2.png"), ("a1", "sharp/a1.png", "/blur/a1.png")],
    ),
}


def listed(folder, values, files):
    for file in files:
        (folder / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / file).touch()
    datasets = {"one": typed(Dataset, {"source": "set", **values}, "params.yaml: datasets.one")}
    return list_images(Collection(training=("one",), validation=("one",), test=("one",)), datasets, folder, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_pair_by_what_the_wildcards_match(tmp_path, layout):
    values, files, expected = LAYOUTS[layout]
    if layout == "any depth":  # an empty `**` leaves a slash, which would lead out of the source
        with pytest.raises(InputError, match="leaves its source's folder"):
            listed(tmp_path, values, files)
        values = values | {"degraded": "blur/{1}/{2}{3}.png"}
        expected = [(n, c, f"blur/{c[: c.index('sharp')]}{n}.png") for n, c, _ in expected]
    found = [(one.name, one.clean, one.degraded) for one in listed(tmp_path, values, files) if one.split == "test"]
    assert found == [(name, f"set/{clean}", f"set/{degraded}") for name, clean, degraded in expected]


def test_images_are_left_out_by_the_names_they_are_called(tmp_path):
    values, files, expected = LAYOUTS["GoPro"]
    found = listed(tmp_path, values | {"exclude": ["GOPR2_000001"]}, files)
    assert [one.name for one in found if one.split == "test"] == [name for name, *_ in expected[:2]]
    with pytest.raises(InputError, match=r"exclude: unknown name '000001'"):
        listed(tmp_path, values | {"exclude": ["000001"]}, files)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clean": "*.png"}, r"datasets\.one: one of clean and degraded finds files and is a list"),
        ({"clean": ["*.png"], "degraded": ["*.png"]}, r"datasets\.one: one of clean and degraded finds files"),
        ({"clean": "gt/{1}.png", "degraded": "{name}.png"}, r"datasets\.one: one of clean and degraded finds files"),
        (
            {"clean": "gt/{1}.png", "degraded": ["im*_*.png"]},
            r"one\.clean: .*gt/1\.png is missing, the clean partner of im1_a",
        ),
        (
            {"clean": ["im*_*.png"], "degraded": "x/{3}.png"},
            r"one\.degraded: cannot fill in.*\{1\}, \{2\} have a meaning.*'im\*_\*",
        ),
        ({"clean": ["*/*.png"], "name": "{1}/{2}"}, r"one\.name: 'deep/im1_a' has a slash"),
        ({"clean": ["im*.png"], "degraded": "../{name}.png"}, r"one\.degraded: .*leaves its source's folder"),
        ({"clean": ["*.bmp"]}, r"one\.clean: the pattern '\*\.bmp' matches no file"),
        ({"clean": "gt/{1}.png", "degraded": ["*.bmp"]}, r"one\.degraded: the pattern '\*\.bmp' matches no file"),
    ],
)
def test_a_mistake_in_a_layout_is_named_with_its_key(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        listed(tmp_path, values, ["im1_a.png", "deep/im1_a.png"])
