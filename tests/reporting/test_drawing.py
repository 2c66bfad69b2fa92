import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.reporting.charts import cost_charts, front, validation_chart
from components.reporting.drawing import MARKERS, SERIES, Axis, Chart, Series, draw, spread
from tests.reporting.findings import findings

MANY = {"bicubic": 30.0, **{f"method_{number}": 31 + number / 1000 for number in range(20)}, "teacher": 32.0}
SVG = "{http://www.w3.org/2000/svg}"
positions = st.lists(st.floats(0, 100), min_size=1, max_size=12)


def parsed(svg):
    return ET.fromstring(svg)  # noqa: S314 - drawn here


def one_chart(points, x=(0, 10), y=(0, 100), log=False, **changes):
    line = Series("a <b> & c", "series-0", tuple(points), tuple(f"at <{x}>" for x, _ in points), **changes)
    axes = (Axis("along", *x, lambda value: f"{value:g}", log=log), Axis("up", *y, lambda value: f"{value:g}"))
    return Chart("name", 'a "chart" of <b>', 300, 200, *axes, (line,))


def ticks(picture, end):
    """`{text: x or y}` of the ticks of one axis."""
    found = parsed(picture.data).iter(f"{SVG}text")
    kind, key = ("end", "y") if end else ("middle", "x")
    return {text.text: float(text.get(key)) for text in found if text.get("class") == kind and text.get(key)}


@given(positions, st.floats(0.1, 8))
def test_labels_keep_their_order_and_their_distance_and_stay_inside(wanted, gap):
    found = spread(wanted, gap, 0, 100)
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    for lower, upper in pairwise(order):
        assert found[upper] - found[lower] >= gap - 1e-9
    assert min(found) >= -1e-9
    assert max(found) <= 100 + 1e-9


@given(positions)
def test_labels_that_have_room_stay_where_they_are(wanted):
    apart = [10 * index + value / 100 for index, value in enumerate(wanted)]
    assert spread(apart, 5, 0, 200) == apart


def test_a_chart_is_well_formed_and_coloured_by_the_style_sheet_alone():
    picture = draw(one_chart([(1, 20), (4, 80)], line="solid", marker="star"))
    root = parsed(picture.data)
    assert root.get("viewBox") == "0 0 300 200"
    assert root.get("aria-label") == picture.alt == 'a "chart" of <b>'
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"along", "up", "a <b> & c"} <= set(texts)
    assert [title.text for title in root.iter(f"{SVG}title")] == ["at <1>", "at <4>"]
    body = picture.data.decode().partition("</style>")[2]
    assert not re.search(r"#[0-9a-f]{3}|style=|fill=|stroke=", body)
    style = picture.data.decode().partition("</style>")[0]
    for colour in SERIES:
        assert f".chart .{colour} {{ stroke: var(--{colour})" in style


@pytest.mark.parametrize("log", [False, True])
def test_points_lie_between_the_ticks_of_their_values(log):
    picture = draw(one_chart([(2, 30), (5, 40), (200, 50)], x=(1, 1000), log=log, marker="circle"))
    along, up = ticks(picture, end=False), ticks(picture, end=True)
    circles = [(float(one.get("cx")), float(one.get("cy"))) for one in parsed(picture.data).iter(f"{SVG}circle")]
    if log:
        assert circles[0][0] == pytest.approx(along["2"], abs=0.1)
        assert circles[2][0] == pytest.approx(along["200"], abs=0.1)
        assert along["10"] - along["1"] == pytest.approx(along["100"] - along["10"], abs=0.2)
    else:
        assert circles[2][0] == pytest.approx(along["200"], abs=0.1)
    middles = [(up["20"] + up["40"]) / 2, up["40"], (up["40"] + up["60"]) / 2]
    assert [y for _, y in circles] == pytest.approx(middles, abs=0.2)
    assert up["60"] < up["40"], "more is higher"


def test_a_long_curve_is_drawn_whole_and_told_at_some_of_its_points_the_last_among_them():
    points = [(float(step), float(step % 7)) for step in range(1, 1001)]
    picture = draw(one_chart(points, x=(0, 1000), y=(0, 7), line="solid"))
    (path,) = [one for one in parsed(picture.data).iter(f"{SVG}path") if "line" in one.get("class").split()]
    assert path.get("d").count("L") == 999
    told = [title.text for title in parsed(picture.data).iter(f"{SVG}title")]
    assert 60 < len(told) <= 121
    assert told[-1] == "at <1000.0>"


def test_equal_charts_have_equal_bytes_and_inside_the_page_no_style_of_their_own():
    first, second = (draw(one_chart([(1, 20)])) for _ in range(2))
    assert first.data == second.data
    assert "<style>" not in first.drawing
    assert first.drawing.startswith("<svg")
    assert len(first.data) < 8000


def test_every_marker_is_a_closed_shape():
    assert all(shape.startswith("M") and shape.endswith("z") for shape in MARKERS.values())


@pytest.mark.parametrize("chart", [lambda found: cost_charts(found)[0].picture, validation_chart])
def test_the_names_of_many_methods_do_not_overlap(chart):
    root = parsed(chart(findings(MANY, reference="method_0")).data)
    ys = {
        text.text: float(text.get("y"))
        for text in root.iter(f"{SVG}text")
        if (text.get("class") or "").startswith("name ")
    }
    assert set(ys) - {"bicubic"} == set(MANY) - {"bicubic"}
    students = sorted(y for name, y in ys.items() if name.startswith("method"))
    assert min(later - earlier for earlier, later in pairwise(students)) > 10
    height = float(root.get("viewBox").split()[3])
    assert students[0] > 0
    assert students[-1] < height


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9))
def test_the_front_holds_exactly_those_that_nothing_beats_at_no_more_cost(points):
    kept = {points[index] for index in front(points)}
    beaten = {
        (cost, value)
        for cost, value in points
        if any(other[0] <= cost and other[1] >= value and other != (cost, value) for other in points)
    }
    assert kept == set(points) - beaten
    assert [points[index][0] for index in front(points)] == sorted(cost for cost, _ in kept)


def test_a_chart_says_its_content_in_words():
    found = findings({"bicubic": 30.0, "scratch": 31.0, "logits": 30.5, "teacher": 32.0})
    charts = {(chart.measure, chart.cost): chart.picture.alt for chart in cost_charts(found)}
    assert list(charts) == [("PSNR", "FLOPs"), ("PSNR", "parameters"), ("SSIM", "FLOPs"), ("SSIM", "parameters")]
    assert charts["PSNR", "parameters"] == (
        "PSNR over parameters on only. bicubic: 30.00 dB; scratch: 31.00 dB, 100,000 parameters; logits: 30.50 dB, "
        "100,000 parameters; teacher: 32.00 dB, 400,000 parameters. Nothing is better at the same or lower cost "
        "than: scratch, teacher."
    )
    assert "scratch: 31.00 dB at step 200" in validation_chart(found).alt
