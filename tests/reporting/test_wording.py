import pytest

from components.reporting.wording import decibels, difference, distance, loss, percent, short, similarity, whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1249, "+0.12"),
        (-0.1251, "-0.13"),
        (0.0099, "+0.010"),
        (0.01, "+0.01"),
        (-0.0061, "-0.006"),
        (0.0004, "0.000"),
        (-0.0004, "0.000"),
        (0.0, "0.000"),
        (-12.345678, "-12.35"),
    ],
)
def test_a_difference_has_a_sign_and_three_decimals_where_it_is_tiny(value, text):
    assert difference(value) == text
    assert distance(value) == text.lstrip("+-")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.6, "1.00 k"),
        (28403, "28.4 k"),
        (1_517_571, "1.52 M"),
        (47e9, "47.0 G"),
        (1.5e12, "1.50 T"),
    ],
)
def test_large_numbers_keep_three_digits(value, text):
    assert short(value) == text


def test_scores_are_rounded_as_published_tables_round_them():
    assert decibels(33.6649) == "33.66"
    assert similarity(0.92994) == "0.9299"
    assert whole(1517571) == "1,517,571"
    assert percent(0.874) == "87 %"
    assert loss(0.0123456) == "0.0123"
