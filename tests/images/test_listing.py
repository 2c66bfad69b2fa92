import pytest

from components.images.datasets import Collection, Dataset
from components.images.listing import list_images
from components.run.errors import InputError

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
        ({"source": "nowhere"}, r"datasets\.paired\.source: .*nowhere is no folder"),
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
    with pytest.raises(InputError, match="no UTF-8 file name"):
        list_images(COLLECTION, DATASETS, raw, 2)
