import base64
import copy
import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from components.report import report
from components.run.files import read_json, write_json
from components.run.step import run_step
from components.telemetry.recorder import observed
from tests.reporting.project import FLAGS, PARAMS, TERMS, make_project
from tests.reporting.reading import Page, rendered

ABSENT, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
METHODS = ["scratch", "logits", "dckd"]
EVERYBODY = ["bicubic", *METHODS, "teacher"]
IMAGES = ["first/cat", "first/coffee", "second/house"]
OUTPUT = Path("data/report/sr")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    make_project(root)
    return root


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return root


def run():
    run_step(report, FLAGS, observe=observed)
    return {path.relative_to(OUTPUT).as_posix(): path.read_bytes() for path in OUTPUT.rglob("*") if path.is_file()}


def pages():
    files = run()
    return Page(files["report.html"].decode()), rendered(files["report.md"].decode())


def refused(capsys):
    with pytest.raises(SystemExit) as error:
        run()
    assert error.value.code == 2
    assert not OUTPUT.exists()
    assert not list(OUTPUT.parent.glob(".*"))
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def change(params):
    Path("params.yaml").write_text(yaml.safe_dump(copy.deepcopy(PARAMS) | params))


def described(page):
    """What is said of every picture, be it a file or drawn in the page."""
    return [image["alt"] for image in page.named("img")] + [chart["aria-label"] for chart in page.named("svg")]


def score_rows(page):
    """The score table: name -> its other cells."""
    return {row[0]: row[1:] for row in page.tables[0]}


def test_every_method_set_image_file_and_expectation_stands_on_both_pages(project):
    for page in pages():
        assert list(score_rows(page)) == EVERYBODY
        text = page.text
        for name in [*IMAGES, "first", "second", "many", "some"]:
            assert name in text
        for told in ("CC0 1.0", "A. Painter", "research only", "B. Maker", "every degraded image is there"):
            assert told in text
        assert "N. Obody" not in text, "a source that no dataset uses"
        assert "secret" not in text
        assert "camera/many/one.png: camera/many/two.png (expected: no file is twice in one split)" in text
        assert "24.50 dB" in text
        assert "51 of its 64 codes" in text
        assert "luma Y, 8 bits, 2 pixels cropped from each side" in text
        for name in [*METHODS, "teacher", "encoder"]:
            assert f"Losses of {name}" in text
        alts = described(page)
        for method, terms in TERMS.items():
            for term in terms:
                assert [alt for alt in alts if alt.startswith(f"{method}, {term}: ")]
        for image in page.named("img"):
            assert image["alt"]
    summary = (OUTPUT / "summary.txt").read_text()
    assert all(name in summary for name in [*EVERYBODY, "first", "second"])


def test_the_score_table_holds_the_scores_and_their_signed_differences(project):
    page, _ = pages()
    found = {name: read_json(Path(f"data/scores/sr/{name}/3.json")) for name in METHODS}
    found["teacher"] = read_json(Path("data/scores/sr/teacher.json"))
    sets = {name: found[name] for name in METHODS}
    sets |= {"teacher": found["teacher"]["teacher"], "bicubic": found["teacher"]["baseline"]}
    signs = set()
    for name, cells in score_rows(page).items():
        for start, dataset in ((0, "first"), (6, "second")):  # the first has two columns of published figures
            psnr, ssim, *differences = cells[start : start + 4]
            score = sets[name][dataset]
            assert psnr == format(score["psnr"], ".2f")
            assert ssim == format(score["ssim"], ".4f")
            for text, other in zip(differences, ("scratch", "teacher"), strict=True):
                if other == name:
                    assert text == ABSENT
                    continue
                exact = score["psnr"] - sets[other][dataset]["psnr"]
                assert float(text.replace(MINUS, "-")) == pytest.approx(exact, abs=0.005)
                assert text[0] == ("+" if exact > 0 else MINUS)
                signs.add(text[0])
    assert signs == {"+", MINUS}
    assert score_rows(page)["dckd"][10:] == ["28,403", "6.54 G"]
    assert {name: cells[4:6] for name, cells in score_rows(page).items()} == {
        name: ["33.66", "0.9300"] if name == "dckd" else [ABSENT, ABSENT] for name in EVERYBODY
    }
    assert "Published figures: A paper, table 2." in page.text


def test_every_image_has_the_scores_that_were_measured(project):
    page, _ = pages()
    rows = {row[0]: row[1:] for row in page.tables[3]}
    assert sorted(rows) == IMAGES
    files = [Path(f"data/scores/sr/{method}/3/images.csv") for method in METHODS]
    files = [Path("data/scores/sr/teacher/baseline.csv"), *files, Path("data/scores/sr/teacher/teacher.csv")]
    for number, path in enumerate(files):
        for row in csv.DictReader(path.open()):
            cells = rows[f"{row['dataset']}/{row['name']}"]
            assert cells[number] == format(float(row["psnr"]), ".2f")
            assert cells[number + len(files)] == format(float(row["ssim"]), ".4f")


def test_the_markdown_twin_says_what_the_page_says(project):
    page, twin = pages()

    assert len(page.tables) == 11
    assert not any(page.pictured)
    assert [rows for rows, pictured in zip(twin.tables, twin.pictured, strict=True) if not pictured] == page.tables
    following = iter(twin.blocks)
    assert len(page.blocks) > 25
    assert [text for text in page.blocks if text not in following] == []
    decibels = re.findall(r"[\d.]+ dB", page.text)
    assert len(decibels) > 3 * len(EVERYBODY)
    assert re.findall(r"[\d.]+ dB", twin.text) == decibels


def test_the_page_loads_nothing_and_the_twin_only_files_beside_it(project):
    page, twin = pages()
    addresses = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in {"src", "href"}
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert {tag for tag, _ in page.elements}.isdisjoint({"iframe", "object", "embed", "base", "form"})
    assert page.named("script") == [{}], "one script, and no address of another"
    anchors = {attributes.get("id") for _, attributes in page.elements}
    assert {address[1:] for address in addresses if address[0] == "#"} <= anchors
    style = "".join(page.styles)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
    ]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    sources = {image["src"] for image in twin.named("img")}
    assert sources == {f"pictures/{path.name}" for path in (OUTPUT / "pictures").iterdir()}


def turned(values):
    """The same mapping in another order, which DVC takes for the same params."""
    return {key: turned(values[key]) for key in reversed(values)} if isinstance(values, dict) else values


def test_two_runs_in_two_folders_and_processes_write_the_same_bytes(project, tmp_path):
    first = run()
    assert str(tmp_path).encode() not in b"".join(first.values())
    other = tmp_path / "other"
    shutil.copytree(project, other)
    shutil.rmtree(other / "data/report")
    (other / "params.yaml").write_text(yaml.safe_dump(turned(PARAMS), sort_keys=False))
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[1]), "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "components", "report", *FLAGS]
    subprocess.run(command, cwd=other, env=environment, check=True, capture_output=True)
    second = {
        path.relative_to(other / OUTPUT).as_posix(): path.read_bytes()
        for path in (other / OUTPUT).rglob("*")
        if path.is_file()
    }
    assert second == first


def test_a_report_replaces_the_one_before_it_whole(project):
    first = run()
    (OUTPUT / "pictures/place_9_clean.png").write_bytes(b"of a report with more places")
    assert run() == first


def test_names_from_outside_are_shown_and_never_obeyed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad, author = '"><svg onload=alert(1)>|`x`', "<script>alert(1)</script> | **bold** [a](javascript:b)"
    dataset = "<i>first</i>"
    params = copy.deepcopy(PARAMS)
    params["sources"]["camera"]["files"][0] |= {"author": author, "licence": "&lt;ok&gt; <b>"}
    params["publication"]["source"] = dataset
    make_project(tmp_path, params, names={"coffee": bad})
    for page in pages():
        assert not [one for one in page.named("svg") if one.get("class") != "chart"]
        assert "alert(1)" not in "".join(page.scripts)
        assert {tag for tag, _ in page.elements}.isdisjoint({"i", "b" if page.styles == [] else "i"})
        assert all(link["href"].startswith("#") for link in page.named("a"))
        assert dataset in page.text
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        cells = [cell for table in page.tables for row in table for cell in row]
        assert f"first/{bad}" in cells
        assert author in cells
        assert "&lt;ok&gt; <b>" in cells


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("data/scores/sr/dckd/3.json", "evaluate"),
        ("data/scores/sr/dckd/3/images.csv", "evaluate"),
        ("data/scores/sr/teacher.json", "check_teacher"),
        ("data/scores/sr/teacher/baseline.csv", "check_teacher"),
        ("data/scores/sr/encoder.json", "train_encoder"),
        ("data/encoders/sr/history.csv", "train_encoder"),
        ("data/students/sr/dckd/3/history.csv", "distill"),
        ("data/students/sr/dckd/3/student.safetensors", "distill"),
        ("data/teachers/sr/validation.csv", "train_teacher"),
        ("data/manifest/sr/manifest.csv", "validate"),
        ("data/manifest/sr/validation.json", "validate"),
    ],
)
def test_a_missing_file_is_named_with_the_stage_that_writes_it(project, capsys, path, stage):
    Path(path).unlink()
    message = refused(capsys)
    assert f"{path}: not found" in message
    assert f"`dvc repro {stage}`" in message


def test_a_method_that_was_never_evaluated_is_refused_by_name(project, capsys):
    change({"report": PARAMS["report"] | {"methods": [*METHODS, "fakd"]}})
    message = refused(capsys)
    assert "data/scores/sr/fakd/3.json: not found" in message
    assert "the report's methods" in message


def test_a_missing_restored_image_leaves_no_report(project, capsys):
    Path("data/scores/sr/logits/3/first/cat.png").unlink()
    assert "data/scores/sr/logits/3/first/cat.png: not found" in refused(capsys)


def test_scores_beside_another_teacher_are_refused(project, capsys):
    path = Path("data/scores/sr/logits/3.json")
    found = read_json(path)
    found["teacher"]["first"]["psnr"] += 0.1
    write_json(path, found)
    assert "3.json was written with another teacher" in refused(capsys)


def test_scores_of_other_images_than_the_manifest_lists_are_refused(project, capsys):
    path = Path("data/scores/sr/logits/3/images.csv")
    path.write_text(path.read_text().replace("cat", "dog"))
    message = refused(capsys)
    assert "logits/3/images.csv" in message
    assert "first/cat, first/dog" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reference": "scrach"}, "Did you mean 'scratch'?"),
        ({"methods": ["scratch", "scratch"]}, "name each method once"),
        ({"methods": ["scratch", "../dckd"]}, "report.methods.1"),
        ({"crop_side": 8}, "report.crop_side"),
        ({"crop": 8}, "Did you mean 'crops'?"),
    ],
)
def test_a_mistake_in_params_is_named(project, capsys, values, message):
    change({"report": PARAMS["report"] | values})
    assert message in refused(capsys)


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [("collections", "frist", "Did you mean 'first'?"), ("datasets", "camrea", "Did you mean 'camera'?")],
)
def test_an_unknown_dataset_or_source_is_named(project, capsys, section, name, message):
    values = copy.deepcopy(PARAMS[section])
    if section == "collections":
        values["sr"]["training"] = [name]
    else:
        values["first"]["source"] = name
    change({section: values})
    assert message in refused(capsys)


def test_imported_networks_without_history_are_reported_as_such(project):
    for folder in ("teachers/sr", "students/sr/logits/3"):
        for name in ("history.csv", "validation.csv"):
            Path(f"data/{folder}/{name}").write_text("step\n")
    Path("data/encoders/sr/history.csv").write_text("step\n")
    write_json(
        Path("data/scores/sr/encoder.json"), {"codes": 1024, "codes_in_use": None, "perplexity": None, "psnr": None}
    )
    for page in pages():
        text = page.text
        assert "teacher has no training curve" in text
        assert "logits has no training curve" in text
        assert "Losses of dckd" in text
        assert "Losses of logits" not in text
        assert "Losses of encoder" not in text
        assert "Imported, with 1,024 codes" in text
        assert list(score_rows(page)) == EVERYBODY


def test_nothing_trained_at_all_is_a_report_without_curves(project):
    for path in Path("data").glob("**/*.csv"):
        if path.name in {"history.csv", "validation.csv"}:
            path.write_text("step\n")
    page, twin = pages()
    assert not [said for said in described(page) if "training steps" in said]
    assert not (OUTPUT / "pictures/validation.svg").exists()
    assert len(twin.named("img")) == len(list((OUTPUT / "pictures").iterdir()))


def test_one_method_alone_is_reported_without_comparison(project):
    change({"report": PARAMS["report"] | {"methods": ["logits"], "reference": "logits"}})
    page, _ = pages()
    assert "no other method was compared" in page.text
    assert list(score_rows(page)) == ["bicubic", "logits", "teacher"]


def test_pictures_are_pictures_of_the_places_and_as_large(project):
    run()
    folder = OUTPUT / "pictures"
    for number in (1, 2, 3):
        names = ["degraded", *range(1, 6), "clean", *(f"{one}_error" for one in range(1, 6))]
        for name in names:
            assert Image.open(folder / f"place_{number}_{name}.png").size == (32, 32)
    assert not (folder / "place_4_clean.png").exists()
    costs = {f"cost_{number}_{one}.svg" for number in (1, 2) for one in ("psnr_flops", "ssim_parameters")}
    assert costs | {"validation.svg", "spectrum_lost.svg"} <= {path.name for path in folder.glob("*.svg")}


def test_the_networks_their_recipes_and_the_hashes_of_their_weights_stand_on_both_pages(project):
    for page in pages():
        tables = {table[0][0]: {row[0]: row[1:] for row in table} for table in page.tables if table}
        networks = page.tables[-2]
        assert [row[0] for row in networks] == [*METHODS, "teacher"]
        digest = hashlib.sha256(Path("data/students/sr/dckd/3/student.safetensors").read_bytes()).hexdigest()
        assert networks[2][1:] == ["edsr (blocks 4, channels 16)", "150", digest[:16]]
        recipes = tables["student"]
        assert recipes["student"] == ["backbone.channels 16, backbone.name edsr, seed 3, training.steps 150"]
        assert recipes["teacher"] == ["training.seed 1, training.steps 150"]
        assert recipes["dckd"] == ["weights.contrastive 0.0125"]
        assert "0.98765" not in page.text, "of a method that is not in this report"
        assert "77777" not in page.text, "of another teacher"
        assert "because they differ from run to run" in page.text


def test_what_differs_in_every_run_is_shown_where_it_is_given(project):
    speed = {"dckd/3": {"seconds_per_megapixel": 0.5, "device": "cpu", "threads": 2}}
    given = {"revision": "abc1234", "changed": True, "lock": "f" * 64, "made": "2026-01-02 03:04 UTC", "speed": speed}
    write_json(Path("circumstances.json"), given)
    run_step(report, [*FLAGS, "--circumstances", "circumstances.json"], observe=observed)
    page = Page((OUTPUT / "report.html").read_text())
    for told in ("Revision abc1234, with changes", "f" * 64, "2026-01-02 03:04 UTC", "cpu, 2 threads", "not recorded"):
        assert told in page.text
    assert "because they differ" not in page.text
    assert score_rows(page)["dckd"][-1] == "500"
    assert score_rows(page)["logits"][-1] == ABSENT
    assert [said for said in described(page) if said.startswith("PSNR over latency on first. ")]


def test_circumstances_with_a_mistake_or_missing_are_named(project, capsys):
    for text, told in ((None, "circumstances.json: not found"), ('{"revison": "a"}', "Did you mean 'revision'?")):
        if text:
            Path("circumstances.json").write_text(text)
        with pytest.raises(SystemExit) as error:
            run_step(report, [*FLAGS, "--circumstances", "circumstances.json"], observe=observed)
        assert error.value.code == 2
        assert told in capsys.readouterr().err


def test_the_gallery_is_bounded_by_params(project):
    change({"report": PARAMS["report"] | {"gallery_images": 1}})
    page, _ = pages()
    assert len([one for _, one in page.elements if one.get("class") == "shot"]) == 1
    assert "1 of 3 test images" in page.text
