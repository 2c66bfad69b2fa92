import dataclasses

import pytest

from components.reporting.findings import Curve, Quality
from components.reporting.publication import Figure, Publication
from components.reporting.shortfall import lost_table
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


def test_the_image_on_which_the_students_lost_most_against_the_teacher_comes_first():
    entries = [entry("two", "a"), entry("one", "c"), entry("one", "b"), entry("one", "d")]
    found = findings(SCORES, sets=("two", "one"), entries=entries)
    # Lost on average: 0.0 on a, b and d as made up; c is the worst though its PSNR is the highest.
    for one in found.students:
        one.images["one/c"] = Quality(50.0, 0.9)
    found.teacher.images["one/c"] = Quality(52.0, 0.9)
    for table in (image_table(found), lost_table(found)):
        assert [row[0] for row in texts(table)] == ["one/c", "one/b", "one/d", "two/a"]
    assert texts(lost_table(found))[0] == ["one/c", "-2.00", "-2.00", "52.00"]
    assert [cell.tone for cell in lost_table(found).rows[1]] == ["", "down", "up", ""]


def test_published_figures_stand_beside_the_measured_ones_where_there_are_any():
    sets = {
        "one": {"dckd": Figure(psnr=33.125, ssim=0.9), "bicubic": Figure(psnr=30.0)},
        "two": {"teacher": Figure(psnr=35.0), "unheard_of": Figure(psnr=1.0, ssim=0.1)},
        "elsewhere": {"dckd": Figure(psnr=1.0)},
    }
    found = dataclasses.replace(
        findings(SCORES, sets=("one", "two", "three")), publication=Publication(source="a paper", sets=sets)
    )
    table = score_table(found)
    assert table.groups == (("one", 6), ("two", 5), ("three", 4), ("", 2))
    heads = [column.text for column in table.columns]
    assert heads[5:7] == ["published PSNR", "published SSIM"]
    assert heads[11] == "published PSNR"
    rows = {row[0]: row for row in texts(table)}
    assert rows["dckd"][5:7] == ["33.12", "0.9000"]
    assert rows["bicubic"][5:7] == ["30.00", ABSENT]
    assert rows["teacher"][11] == "35.00"
    assert rows["scratch"][11] == ABSENT


def test_latency_is_a_column_only_where_it_was_given():
    found = findings(SCORES)
    assert [column.text for column in score_table(found).columns][-1] == "FLOPs"
    timed = dataclasses.replace(found.base, seconds=0.4567)
    others = (found.baseline, timed, *found.contenders[2:])
    table = score_table(dataclasses.replace(found, contenders=others))
    assert table.columns[-1].text == "ms/megapixel"
    assert [row[-1] for row in texts(table)] == [ABSENT, "457", ABSENT, ABSENT]


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
