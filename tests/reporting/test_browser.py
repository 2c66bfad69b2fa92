"""The page in a real browser: what a reader does with it, light, dark, on a phone, in a sandbox, without a network."""

import html
import json
import shutil

import pytest

from components.report import report
from components.run.step import run_step
from components.telemetry.recorder import observed
from tests.reporting.project import FLAGS, make_project

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.timeout(120),
]

PIXEL = """([name, x, y]) => [...document.querySelector(`.views [data-name=${name}] canvas`)
    .getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3)"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        run_step(report, FLAGS, observe=observed)
    return root / "data/report/sr/report.html"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """A tab, all that it asked a network for, and all that it complained of."""

    def __init__(self, chromium, **settings):
        self.tab = chromium.new_page(**{"viewport": {"width": 1100, "height": 800}} | settings)
        self.tab.set_default_timeout(10_000)
        self.requests, self.complaints = [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path):
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector(".views canvas")
        return self.tab

    def asked_for(self):
        return [url for url in self.requests if not url.startswith("data:")]


@pytest.fixture
def reader(chromium):
    one = Reader(chromium)
    yield one
    one.tab.close()


@pytest.fixture
def tab(reader, written):
    return reader.open(written)


def rows(tab, section):
    return tab.eval_on_selector_all(
        f"#{section} tbody tr", "found => found.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )


def transforms(tab):
    return set(tab.eval_on_selector_all(".views canvas", "found => found.map(one => one.style.transform)"))


def test_the_page_asks_for_nothing_but_itself_and_nothing_complains(reader, written):
    tab = reader.open(written)
    tab.get_by_role("button", name="zoom in").click()
    tab.locator(".viewer select").nth(3).select_option("error against the clean image")
    tab.locator("#theme").click()
    assert reader.asked_for() == [written.as_uri()]
    assert reader.complaints == []


def test_a_sandboxed_frame_shows_all_of_it(reader, written):
    """As Kubeflow shows a page: scripts run, but belong to no origin."""
    inner = html.escape(written.read_text(encoding="utf-8"))
    reader.tab.set_content(f'<iframe sandbox="allow-scripts" srcdoc="{inner}" width="900" height="600"></iframe>')
    frame = reader.tab.frames[1]
    frame.wait_for_selector(".views canvas")
    assert frame.evaluate("origin") == "null"
    frame.locator(".viewer select").nth(3).select_option("error against the clean image")
    assert frame.evaluate(PIXEL, ["clean", 5, 5]) == frame.evaluate(PIXEL, ["clean", 9, 9])
    frame.locator("#theme").click()
    frame.get_by_role("button", name="zoom in").click()
    assert reader.asked_for() == []
    assert reader.complaints == []


def test_every_column_sorts_both_ways_with_absent_values_last(tab):
    before = rows(tab, "images")
    head = tab.locator("#images thead tr").last.locator("button").nth(1)
    head.click()
    up = [float(row[1]) for row in rows(tab, "images")]
    assert up == sorted(up)
    head.click()
    down = [float(row[1]) for row in rows(tab, "images")]
    assert down == sorted(down, reverse=True)
    assert tab.locator("#images [aria-sort]").get_attribute("aria-sort") == "descending"
    tab.locator("#images thead tr").last.locator("button").first.click()
    assert [row[0] for row in rows(tab, "images")] == sorted(row[0] for row in before)
    # Signs, and what was not measured.
    tab.locator("#scores thead tr").last.locator("button").nth(4).click()
    texts = [row[4].replace("\N{MINUS SIGN}", "-") for row in rows(tab, "scores")]
    assert texts[-1] == "\N{EN DASH}"
    assert [float(text) for text in texts[:-1]] == sorted(float(text) for text in texts[:-1])
    sizes = tab.locator("#scores thead tr").last.locator("button").last
    sizes.click()
    assert [row[-1] for row in rows(tab, "scores")] == ["6.54 G", "6.54 G", "6.54 G", "47.0 G", "\N{EN DASH}"]
    sizes.click()
    assert [row[-1] for row in rows(tab, "scores")] == ["47.0 G", "6.54 G", "6.54 G", "6.54 G", "\N{EN DASH}"]


def test_zoom_and_pan_move_every_panel_in_step(tab):
    assert len(tab.query_selector_all(".views canvas")) == 7
    (whole,) = transforms(tab)
    tab.get_by_role("button", name="zoom in").click()
    tab.get_by_role("button", name="zoom in").click()
    (nearer,) = transforms(tab)
    assert nearer != whole
    view = tab.locator(".views [data-name=scratch]")
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    tab.mouse.move(box["x"] + 60, box["y"] + 40)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 40, box["y"] + 30, steps=3)
    tab.mouse.up()
    (moved,) = transforms(tab)
    before, after = ([float(part) for part in text[10:].split("px")[0:1]] for text in (nearer, moved))
    assert after[0] == pytest.approx(before[0] - 20, abs=0.5), "the picture follows the pointer"
    stage = tab.locator(".stage")
    stage.focus()
    for key in ("ArrowLeft", "+"):
        tab.keyboard.press(key)
        (one,) = transforms(tab)
        assert one != moved
        moved = one
    tab.keyboard.press("0")
    assert transforms(tab) == {whole}


def test_nothing_but_the_picture_is_ever_in_a_panel(tab):
    for _ in range(2):
        tab.get_by_role("button", name="zoom in").click()
    tab.locator(".stage").focus()
    for key in ["ArrowRight"] * 20 + ["ArrowDown"] * 20:
        tab.keyboard.press(key)
    covered = """() => [...document.querySelectorAll(".viewport")].every(view => [...view.querySelectorAll("canvas")]
        .every(canvas => { const [a, b] = [view, canvas].map(one => one.getBoundingClientRect());
            return b.left <= a.left + 1 && b.top <= a.top + 1 &&
                b.right >= a.right - 1 && b.bottom >= a.bottom - 1; }))"""
    assert tab.evaluate(covered)


def test_the_slider_shows_two_versions_side_by_side_pixel_for_pixel(tab):
    left, right = (tab.locator(".viewer select").nth(number) for number in (1, 2))
    left.select_option("degraded")
    right.select_option("clean")
    assert tab.locator(".tag").all_text_contents() == ["degraded", "clean"]
    share = """() => { const canvas = document.querySelector(".stage .over");
        return Number(canvas.style.clipPath.match(/[\\d.]+/g).pop()) / canvas.width; }"""
    assert tab.evaluate(share) == pytest.approx(0.5)
    slider = tab.locator("input[type=range]")
    slider.focus()
    tab.keyboard.press("Home")
    assert tab.evaluate(share) == pytest.approx(0)
    stage = tab.locator(".stage").bounding_box()
    height = stage["y"] + stage["height"] - 50
    tab.mouse.move(stage["x"] + 3, height)
    tab.mouse.down()
    tab.mouse.move(stage["x"] + stage["width"] * 0.25, height, steps=4)
    tab.mouse.up()
    assert tab.evaluate(share) == pytest.approx(0.25, abs=0.01)
    assert int(slider.input_value()) == pytest.approx(250, abs=10)


def test_error_maps_are_those_of_luma_on_the_pages_scale(tab):
    pixels = {name: tab.evaluate(PIXEL, [name, 20, 30]) for name in ("scratch", "teacher", "clean")}
    largest = float(tab.locator(".scale").first.get_attribute("data-largest"))
    mode = tab.locator(".viewer select").nth(3)
    scale = tab.evaluate(
        """() => { const canvas = document.createElement("canvas");
        const image = document.querySelector("#places .scale img");
        canvas.width = 256; canvas.height = 1; canvas.getContext("2d").drawImage(image, 0, 0);
        return [...canvas.getContext("2d").getImageData(0, 0, 256, 1).data]; }"""
    )
    for option, other, part in (
        ("error against the clean image", "clean", 1),
        ("distance from the teacher", "teacher", 4),
    ):
        mode.select_option(option)
        tab.wait_for_timeout(50)
        luma = [
            sum(value * factor for value, factor in zip(pixels[name], (65.481, 128.553, 24.966), strict=True)) / 255
            for name in ("scratch", other)
        ]
        level = round(min(abs(luma[0] - luma[1]) * part / largest, 1) * 255)
        assert tab.evaluate(PIXEL, ["scratch", 20, 30]) == scale[4 * level : 4 * level + 3]
        assert tab.evaluate(PIXEL, [other, 20, 30]) == scale[:3]
        assert f"{largest / part:g} levels" in tab.locator(".viewer .scale").inner_text()
    mode.select_option("picture")
    assert tab.evaluate(PIXEL, ["scratch", 20, 30]) == pixels["scratch"]


def test_a_row_of_a_table_leads_to_its_image(tab):
    images = tab.locator(".viewer select").first
    last = rows(tab, "images")[-1][0].removesuffix(" view")
    assert images.input_value() != last
    tab.locator("#images tbody tr").last.get_by_role("button").click()
    # Not `wait_for_function`, which evaluates text in the page: its policy refuses that.
    playwright.expect(images).to_have_value(last)


def test_charts_tell_the_value_that_is_pointed_at_also_by_keys(tab):
    chart = tab.locator("#curves svg").first
    chart.scroll_into_view_if_needed()
    circle = chart.locator("circle").nth(1)
    box = circle.bounding_box()
    tab.mouse.move(box["x"] + 6, box["y"] + 5)
    tip = tab.locator(".tip")
    assert tip.is_visible()
    assert tip.text_content().endswith(" dB")
    tab.mouse.move(2, 2)
    assert tip.is_hidden()
    chart.focus()
    tab.keyboard.press("ArrowRight")
    first = tip.text_content()
    assert first.startswith("scratch, step 50: ")
    tab.keyboard.press("ArrowRight")
    assert tip.text_content().startswith("scratch, step 100: ")


def test_one_measure_over_one_cost_is_shown_at_a_time(tab):
    shown = """() => [...document.querySelectorAll('#cost-charts figure')].filter(one => !one.hidden)
        .map(one => one.textContent.includes('SSIM over parameters'))"""
    assert tab.evaluate(shown) == [False, False]
    measure, cost = (tab.locator("#costs select").nth(number) for number in (0, 1))
    assert (measure.input_value(), cost.input_value()) == ("PSNR", "FLOPs")
    measure.select_option("SSIM")
    cost.select_option("parameters")
    assert tab.evaluate(shown) == [True, True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_reader_and_the_switch(chromium, written, scheme):
    reader = Reader(chromium, color_scheme=scheme)
    tab = reader.open(written)
    seen = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('.chart text')).fill]"""
    colours = {"light": ["rgb(255, 255, 255)", "rgb(87, 96, 106)"], "dark": ["rgb(20, 23, 27)", "rgb(163, 173, 184)"]}
    other = {"light": "dark", "dark": "light"}[scheme]
    assert tab.evaluate(seen) == colours[scheme]
    tab.locator("#theme").click()
    assert tab.evaluate(seen) == colours[other]
    tab.locator("#theme").click()
    assert tab.evaluate(seen) == colours[scheme]
    tab.close()


@pytest.fixture(scope="module")
def written_with_circumstances(written):
    root = written.parents[3]
    about = {"revision": "1" * 40, "lock": "2" * 64, "durations": {"distill_with_encoder@sr-dckd": 201.4}}
    (root / "circumstances.json").write_text(json.dumps(about))
    flags = list(FLAGS)
    flags[flags.index("--output") + 1] = "data/pages/sr"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_step(report, [*flags, "--circumstances", "circumstances.json"], observe=observed)
    return root / "data/pages/sr/report.html"


@pytest.mark.parametrize("page", ["written", "written_with_circumstances"])
def test_a_phone_scrolls_in_one_direction_only(chromium, page, request):
    reader = Reader(chromium, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    tab = reader.open(request.getfixturevalue(page))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    rights = """[...document.querySelectorAll('.viewer button, .viewer select')]
        .map(one => one.getBoundingClientRect().right)"""
    assert max(tab.evaluate(rights)) <= 400
    assert tab.evaluate("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)") >= 14
    tab.close()


def test_without_scripts_every_table_chart_and_picture_is_there(chromium, written):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(written.as_uri())
    assert tab.locator("#gallery img").count() == 3 * 7
    for number in range(tab.locator("#cost-charts svg").count()):
        assert tab.locator("#cost-charts svg").nth(number).is_visible()
    assert tab.locator("#gallery img").first.is_visible()
    assert tab.locator("table").count() == 11
    assert tab.locator("button").count() == 0
    context.close()


def test_all_that_can_be_pressed_can_be_reached_and_has_a_name(tab):
    nameless = """() => [...document.querySelectorAll("button, select, input, a, [tabindex]")].filter(one =>
        one.tabIndex < 0 || !(one.getAttribute("aria-label") || one.textContent.trim() || one.closest("label")))
        .map(one => one.outerHTML)"""
    assert tab.evaluate(nameless) == []
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#scores"
