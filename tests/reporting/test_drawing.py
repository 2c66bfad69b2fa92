import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.reporting.charts import cost_charts, validation_chart
from components.reporting.drawing import SERIES, draw, spread
from tests.reporting.findings import findings

MANY = {"bicubic": 30.0, **{f"method_{number}": 31 + number / 1000 for number in range(20)}, "teacher": 32.0}
positions = st.lists(st.floats(0, 100), min_size=1, max_size=12)


def parsed(svg):
    return ET.fromstring(svg)  # noqa: S314 - drawn here


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
    def paint(axes):
        for number, colour in enumerate(SERIES):
            axes.plot([0, 1], [0, number], color=colour, marker="o")
        axes.set_title("<b> & $x_1$ _y_")

    picture = draw("name", "alt", 300, 200, paint)
    text = picture.data.decode()
    assert parsed(text).get("viewBox") == "0 0 300 200"
    assert ">&lt;b&gt; &amp; $x_1$ _y_</text>" in text
    body = text[text.index("</style>") :]
    assert set(re.findall(r"#[0-9a-f]{6}\b", body)) == set()
    used = set(re.findall(r"var\((--[\w-]+)\)", body))
    light, dark = text[: text.index("@media")], text[text.index("@media") : text.index("</style>")]
    assert {f"--series-{number}" for number in range(8)} <= used
    for variable in used:
        assert f"{variable}:" in light
        assert f"{variable}:" in dark


def test_two_charts_on_one_page_share_no_identifier_of_a_shape():
    def marks(name):
        text = draw(name, "", 300, 200, lambda axes: axes.plot([1, 2], "o")).data.decode()
        return set(re.findall(r'<path id="(\w+)"', text)), text

    (first, _), (second, text) = marks("one"), marks("two")
    assert first
    assert first.isdisjoint(second)
    assert marks("two")[1] == text


@pytest.mark.parametrize("chart", [lambda found: cost_charts(found)[0], validation_chart])
def test_the_names_of_many_methods_do_not_overlap(chart):
    text = chart(findings(MANY, reference="method_0")).data.decode()
    ys = {name: float(y) for y, name in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(method_\d+|teacher)</text>', text)}
    assert set(ys) == set(MANY) - {"bicubic"}
    students = sorted(y for name, y in ys.items() if name != "teacher")
    assert min(later - earlier for earlier, later in pairwise(students)) > 10
    height = float(parsed(text).get("viewBox").split()[3])
    assert students[0] > 0
    assert students[-1] < height


def test_a_chart_says_its_content_in_words():
    found = findings({"bicubic": 30.0, "scratch": 31.0, "teacher": 32.0})
    assert cost_charts(found)[0].alt == (
        "PSNR over parameters on only. bicubic: 30.00 dB; scratch: 31.00 dB, 100,000 parameters; "
        "teacher: 32.00 dB, 400,000 parameters."
    )
    assert "scratch: 31.00 dB at step 200" in validation_chart(found).alt
