"""The page, in a real browser: a picture goes in by its file input, and comes out three times behind a slider."""

import io
import shutil
import socket
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

from components.backbones import BackboneChoice
from components.backbones.weights import describe_backbone, save_network
from components.demo import main
from components.use.page import NO_STUDENT, make_page
from tests.bad_pictures import BAD, BOMBS, DENSE
from tests.small_project import STUDENT, TEACHER
from tests.training import tiny

pytest.importorskip("uvicorn")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def picture(kind="PNG", side=40):
    file = io.BytesIO()
    Image.fromarray(tiny.photograph(1, side)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, arguments in (("students/sr/dckd/3/student", STUDENT), ("teachers/sr/teacher", TEACHER)):
        network = tiny.edsr(blocks=arguments["blocks"])
        path = folder / f"{name}.safetensors"
        path.parent.mkdir(parents=True)
        save_network(path, network, describe_backbone(BackboneChoice(**arguments), 2))
    return folder


def serve(page):
    """Yields the address of a page in a thread of its own, and ends it."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))  # waits for the server, which closes it
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(page, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield address
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield from serve(make_page(data, largest_file=20_000, largest_picture=10_000))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, address):
    """A visit that hears everything: console, errors, and every address asked for."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = context.new_page()
    page.heard, page.asked = [], []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#student option", state="attached")
    yield page
    context.close()


def upload(visit, content, name="a.png"):
    visit.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def test_a_picture_is_restored_and_the_slider_moves(visit, address):
    assert visit.eval_on_selector_all("#student option", "all => all.map(one => one.value)") == ["sr/dckd/3"]
    upload(visit, picture())
    visit.wait_for_selector("#result", state="visible")
    for side in ("left", "right"):
        # Not `wait_for_function`, which evaluates text in the page: its policy refuses that.
        assert visit.eval_on_selector(f"#{side}", "image => image.decode().then(() => image.naturalWidth)") == 80
    assert "80\N{MULTIPLICATION SIGN}80" in visit.inner_text("#facts")
    box = visit.locator("#stage").bounding_box()
    for share in (0.25, 0.75):
        visit.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        clip = visit.eval_on_selector("#left", "left => left.style.clipPath")
        right = float(clip.split()[1].rstrip("%"))
        assert right == pytest.approx(100 * (1 - share), abs=1)
    visit.focus("#slider")
    visit.keyboard.press("Home")
    assert visit.eval_on_selector("#line", "line => line.style.left") == "0%"
    before = visit.get_attribute("#right", "src")
    visit.select_option("#right-of", "teacher")
    assert visit.get_attribute("#right", "src") != before
    assert visit.evaluate("document.documentElement.scrollWidth <= innerWidth"), "fits a phone"
    assert visit.heard == []
    assert all(url.startswith((address, "data:")) for url in visit.asked)


def test_light_and_dark_differ(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = visit.evaluate(ground)
    visit.emulate_media(color_scheme="light")
    assert visit.evaluate(ground) != dark


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no picture", "is not a JPEG, PNG"),
        (picture()[:900], "damaged or cut off"),
        (np.random.default_rng(0).bytes(30_000), "larger than 0.02 MB"),
    ],
)
def test_what_is_no_picture_or_too_large_is_told(visit, content, said):
    upload(visit, content)
    visit.wait_for_selector("#message.bad")
    assert said in visit.inner_text("#message")
    assert visit.is_hidden("#result")


def ask(url, content=None, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers)) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


RAW = {"Content-Type": "application/octet-stream"}


def test_limits_hold_without_the_page_too(address):
    status, said = ask(f"{address}/restore?student=sr/dckd/3", bytes(20_001), **RAW)
    assert (status, "larger than 0.02 MB" in said) == (413, True)
    file = io.BytesIO()
    Image.new("RGB", (101, 100)).save(file, "PNG")
    status, said = ask(f"{address}/restore?student=sr/dckd/3", file.getvalue(), **RAW)
    assert (status, "101x100 pixels; at most 0.01 million" in said) == (400, True)


def test_whatever_a_picture_is_the_page_says_why_and_goes_on(data):
    reasons = {}
    for address in serve(make_page(data, largest_file=3_000_000, largest_picture=10**9)):
        for bad in (*BAD, *BOMBS, *DENSE):
            status, said = ask(f"{address}/restore?student=sr/dckd/3", bad.content, **RAW)
            if (status, bad.reason in said) != (400, True):
                reasons[bad.name] = (status, said)
        assert ask(f"{address}/restore?student=sr/dckd/3", picture(side=8), **RAW)[0] == 200
    assert reasons == {}


def test_a_network_that_makes_no_numbers_is_told(tmp_path):
    for name, arguments in (("students/sr/dckd/3/student", STUDENT), ("teachers/sr/teacher", TEACHER)):
        network = tiny.edsr(blocks=arguments["blocks"])
        with torch.no_grad():
            for value in network.parameters():
                value.fill_(1e6)
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(parents=True)
        save_network(path, network, describe_backbone(BackboneChoice(**arguments), 2))
    for address in serve(make_page(tmp_path, 10_000, 10_000)):
        status, said = ask(f"{address}/restore?student=sr/dckd/3", picture(side=8), **RAW)
        assert (status, "values of it that are not finite" in said) == (400, True)


@pytest.mark.parametrize("words", [["--megabytes", "nan"], ["--megabytes", "-1"], ["--megapixels", "inf"]])
def test_limits_without_sense_are_told(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert f"{words[0]} {float(words[1])}: has to be a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("student", ["sr/absent", "../../secret", ""])
def test_only_students_of_the_menu_are_opened(address, student):
    status, said = ask(f"{address}/restore?student={student}", picture(), **RAW)
    assert (status, "There is no student" in said) == (400, True)


def test_foreign_pages_get_no_answer(address):
    assert ask(address, Host="elsewhere.example")[0] == 400
    assert ask(f"{address}/restore?student=sr/dckd/3", picture(), **{"Content-Type": "text/plain"})[0] == 415


def test_without_students_it_says_what_to_run(tmp_path):
    for address in serve(make_page(tmp_path, 1000, 1000)):
        assert NO_STUDENT in ask(f"{address}/students")[1]
        assert "make repro" in ask(f"{address}/restore?student=sr/dckd/3", b"x", **RAW)[1]
