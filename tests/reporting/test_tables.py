import dataclasses

import pytest

from components.reporting.findings import Curve
from components.reporting.tables import (
    image_table,
    loss_table,
    score_cells,
    score_table,
    shown_terms,
    validation_table,
)
from tests.reporting.findings import entry, findings

SCORES = {"bicubic": 30.0, "scratch": 31.0, "dckd": 31.5, "teacher": 31.25}
ABSENT = "\N{EN DASH}"


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bicubic", [("-1.00", "down"), ("-1.25", "down")]),
        ("scratch", [(ABSENT, ""), ("-0.25", "down")]),
        ("dckd", [("+0.50", "up"), ("+0.25", "up")]),
        ("teacher", [("+0.25", "up"), (ABSENT, "")]),
    ],
)
def test_better_is_plus_and_up_and_worse_is_minus_and_down(name, expected):
    found = findings(SCORES)
    contender = next(one for one in found.contenders if one.name == name)
    assert [(cell.text, cell.tone) for cell in score_cells(found, contender, "only")[2:]] == expected


def test_the_best_student_is_marked_and_never_the_teacher_or_the_baseline():
    found = findings(SCORES | {"teacher": 99.0})
    marked = {row[0].text for row in score_table(found).rows if row[1].tone == "best"}
    assert marked == {"dckd"}
    equal = findings(SCORES | {"scratch": 31.4999})
    assert {row[0].text for row in score_table(equal).rows if row[1].tone == "best"} == {"scratch", "dckd"}
    alone = findings({"bicubic": 30.0, "scratch": 31.0, "teacher": 32.0})
    assert not [cell for row in score_table(alone).rows for cell in row if cell.tone == "best"]


def test_columns_of_a_set_stand_under_its_name():
    table = score_table(findings(SCORES, sets=("one", "two")))
    assert table.groups == (("one", 4), ("two", 4), ("", 2))
    assert all(len(row) == len(table.columns) == 11 for row in table.rows)


def test_images_stand_in_the_order_of_the_sets_and_then_by_name():
    entries = [entry("two", "a"), entry("one", "c"), entry("one", "b")]
    table = image_table(findings(SCORES, sets=("two", "one"), entries=entries))
    assert [row[0] for row in texts(table)] == ["two/a", "one/b", "one/c"]


def test_a_step_at_which_a_network_was_not_measured_is_left_blank():
    found = findings(SCORES)
    longer = dataclasses.replace(found.teacher, validation=Curve((200, 300), {"psnr": (30.0, 31.25)}))
    table = validation_table(dataclasses.replace(found, contenders=(*found.contenders[:-1], longer)))
    assert texts(table) == [
        ["100", "29.00", "30.00", "30.50", ABSENT],
        ["200", "30.00", "31.00", "31.50", "30.00"],
        ["300", ABSENT, ABSENT, ABSENT, "31.25"],
    ]


def test_the_sum_of_the_losses_is_shown_only_where_there_are_several():
    one = Curve((1,), {"total": (1.0,), "reconstruction": (1.0,)})
    two = Curve((1,), {"total": (3.0,), "reconstruction": (1.0,), "logits": (2.0,)})
    assert list(shown_terms(one)) == ["reconstruction"]
    assert list(shown_terms(two)) == ["total", "reconstruction", "logits"]


def test_each_loss_is_told_from_its_first_to_its_last_row():
    found = findings(SCORES)
    curve = Curve((50, 100, 1500), {"total": (0.5, 0.25, 0.125), "reconstruction": (0.5, 0.25, 0.125)})
    student = dataclasses.replace(found.base, losses=curve)
    table = loss_table(dataclasses.replace(found, contenders=(found.baseline, student, found.teacher)))
    assert texts(table) == [["scratch: reconstruction", "0.5", "0.125", "1,500"]]
