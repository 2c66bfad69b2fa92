import pytest

from components.validating.expectations import image_expectations
from components.validating.judgement import Failure, judge

SOUND = {
    "split": "training",
    "dataset": "set",
    "readable": "yes",
    "mode": "RGB",
    "height": 64,
    "width": 80,
    "smallest_side": 64,
    "aspect": 1.25,
    "pair": "ok",
    "pair_correlation": 0.9,
    "same_file_across_splits": None,
    "near_duplicate_across_splits": None,
    "same_file_in_split": None,
}
UNREADABLE = dict.fromkeys(["mode", "height", "width", "smallest_side", "aspect", "pair", "pair_correlation"])
WRONG = {
    "readable": UNREADABLE | {"readable": "cut off"},
    "mode": {"mode": "1"},
    "smallest_side": {"smallest_side": 63},
    "aspect": {"aspect": 4.5},
    "pair": {"pair": "LR/pair.png is missing", "pair_correlation": None},
    "pair_correlation": {"pair_correlation": 0.125},
    "same_file_across_splits": {"same_file_across_splits": "test.png"},
    "near_duplicate_across_splits": {"near_duplicate_across_splits": "test.png (mirrored, 2 bits apart)"},
    "same_file_in_split": {"same_file_in_split": "sound.png"},
}
EXPECTATIONS = {
    "modes": ["RGB", "L"],
    "smallest_training_side": 64,
    "smallest_test_side": 32,
    "largest_aspect": 4.0,
    "smallest_pair_correlation": 0.2,
}


def row(name, **values):
    return SOUND | {"name": name, "clean": f"source/{name}.png"} | values


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Each expectation broken by one row, beside sound ones."""
    rows = [row("sound"), *(row(name, **values) for name, values in WRONG.items())]
    rows += [row("small", split="test", smallest_side=31), row("large", split="test", smallest_side=32)]
    rows += [row("twice", clean="source/a/twice.png"), row("twice", clean="source/b/twice.png")]
    rows += [row("unpaired", pair=None, pair_correlation=None)]
    return judge(rows, image_expectations(**EXPECTATIONS), tmp_path_factory.mktemp("pages") / "docs")


def test_every_expectation_fails_for_its_row_alone(outcomes):
    found = {
        outcome.column: [(failure.file, failure.found) for failure in outcome.failures]
        for outcome in outcomes
        if "test image" not in outcome.expected
    }
    twice = found.pop("split, dataset, name")
    assert found == {column: [(f"source/{column}.png", str(values[column]))] for column, values in WRONG.items()}
    assert twice == [("source/a/twice.png", "twice"), ("source/b/twice.png", "twice")]


def test_the_side_of_test_images_has_a_limit_of_its_own(outcomes):
    training, test = [outcome for outcome in outcomes if outcome.column == "smallest_side"]
    assert [failure.found for failure in training.failures] == ["63"]
    assert test.failures == (Failure("test", "set", "source/small.png", "31"),)
    assert test.checked == 2


def test_only_values_that_are_there_are_judged(outcomes):
    checked = {outcome.column: outcome.checked for outcome in outcomes}
    assert (checked["readable"], checked["mode"], checked["pair"], checked["pair_correlation"]) == (15, 14, 13, 12)


def test_a_file_twice_in_one_split_is_reported_but_not_required(outcomes):
    assert [outcome.column for outcome in outcomes if not outcome.required] == ["same_file_in_split"]


def test_each_failure_comes_with_advice(outcomes):
    assert all(outcome.advice.endswith(".") and outcome.expected for outcome in outcomes)


def test_a_table_in_which_nothing_can_be_read_is_judged(tmp_path):
    outcomes = judge([row("a", **WRONG["readable"])], image_expectations(**EXPECTATIONS), tmp_path / "docs")
    assert [outcome.column for outcome in outcomes if not outcome.success] == ["readable"]


def test_judging_prints_nothing_and_the_pages_name_the_files(tmp_path, capfd):
    judge([row("a", **WRONG["mode"])], image_expectations(**EXPECTATIONS), tmp_path / "docs")
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "docs/index.html").is_file()
    pages = "".join(page.read_text() for page in (tmp_path / "docs/validations").rglob("*.html"))
    assert "source/a.png" in pages
    assert str(tmp_path) not in pages
