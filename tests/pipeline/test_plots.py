"""The plots of dvc.yaml: their files are outputs of the graph, and DVC fills their templates for one run and two."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline.graph.graph import read_graph
from tests.pipeline.toy import ROOT

# As DVC resolves them: the first seed of params.yaml stands in the paths.
with Repo(str(ROOT)) as repo:
    PLOTS = {name: plot for entries in repo.index._plots.values() for entry in entries for name, plot in entry.items()}
TEMPLATES = sorted((ROOT / ".dvc/plots").glob("*.json"))
METHODS = ["scratch", "logits", "dckd"]
TERMS = ["reconstruction", "logits", "contrastive", "codes"]


def files(plot):
    return list(plot["y"])


def test_every_template_is_used_and_every_plot_has_one():
    assert {plot["template"] for plot in PLOTS.values()} == {path.stem for path in TEMPLATES}


@pytest.mark.parametrize("name", PLOTS)
def test_every_file_is_an_output_of_the_graph(name):
    outputs = {output.path for stage in read_graph(ROOT) for output in stage.outputs}
    for file in files(PLOTS[name]):
        assert any(str(folder) in outputs for folder in Path(file).parents), file


def method_of(file):
    """`METHOD/SEED/file`, or `teacher/file`; DVC leaves out what all paths begin with."""
    *_, above, folder, _ = ("", *file.split("/"))
    return above if folder.isdecimal() else folder


def rows_of(file, shift):
    """What a stage would write there."""
    if file.endswith(("images.csv", "teacher.csv")):
        level = 40 if "teacher" in file else 30
        return [
            {"dataset": dataset, "name": name, "psnr": level + number + shift, "ssim": 0.9}
            for number, (dataset, name) in enumerate([("one", "a"), ("one", "b"), ("two", "a")])
        ]
    return [{"step": step, "psnr": 30 + step + shift} | dict.fromkeys(TERMS, 1 / step + shift) for step in (1, 2)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The plots alone, over files of two commits."""
    folder = tmp_path_factory.mktemp("plots") / "project"
    folder.mkdir()

    def run(*words):
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"plots": [{name: plot} for name, plot in PLOTS.items()]}))
    for shift in (0, 1):
        for file in {file for plot in PLOTS.values() for file in files(plot)}:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = rows_of(file, shift)
            with path.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        run("git", "add", "-f", ".")
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", str(shift))

    def plots(*words):
        found = json.loads(run(sys.executable, "-m", "dvc", "plots", *words, "--json"))
        assert not found.get("errors")
        (charts,) = ({name: one["content"] for name, (one,) in found["data"].items()},)
        return {name: json.loads(text) if isinstance(text, str) else text for name, text in charts.items()}

    return plots


@pytest.mark.parametrize(("words", "revisions"), [(["show"], 1), (["diff", "HEAD~1", "HEAD"], 2)])
def test_dvc_fills_every_template(project, words, revisions):
    charts = project(*words)
    assert charts.keys() == PLOTS.keys()
    for name, chart in charts.items():
        assert "DVC_METRIC" not in json.dumps(chart), name
        values = chart["data"]["values"]
        assert len({value["rev"] for value in values}) == revisions
        methods = {method_of(value["filename"]) for value in values}
        assert methods - {"teacher"} == set(METHODS), name
        assert chart["title"]["text"] == PLOTS[name]["title"]
        for field in fields(chart):
            made = {transform.get("as") for transform in chart["transform"]} | {"teacher"}
            assert field in made or all(field in value for value in values), (name, field)


def fields(node):
    """Every field that a chart draws."""
    if isinstance(node, dict):
        found = {node["field"]} if isinstance(node.get("field"), str) else set()
        return found.union(*(fields(value) for key, value in node.items() if key not in {"data", "transform"}))
    return set().union(*map(fields, node)) if isinstance(node, list) else set()


def test_each_loss_is_drawn_for_the_methods_that_have_it(project):
    chart = project("show")["loss terms"]
    assert chart["facet"]["field"] == "field"
    found = {(method_of(value["filename"]), value["field"]) for value in chart["data"]["values"]}
    assert found == {
        ("scratch", "reconstruction"),
        *(("logits", term) for term in TERMS[:2]),
        *(("dckd", term) for term in TERMS),
    }


def test_a_students_image_is_joined_to_its_teachers(project):
    """What the template's transforms say, done by hand: the teacher's value of the same image and revision."""
    chart = project("diff", "HEAD~1", "HEAD")["student against teacher"]
    method, student, own, join, others = chart["transform"]
    assert method["as"] == "method"
    assert student["calculate"] == "toNumber(datum['psnr'])"
    assert own["calculate"] == "datum.method == 'teacher' ? datum.student : null"
    assert join["groupby"] == ["dataset", "name", "rev"]
    assert join["joinaggregate"] == [{"op": "max", "field": "own", "as": "teacher"}]
    assert others["filter"] == "datum.method != 'teacher'"
    of_teacher = [value for value in chart["data"]["values"] if value["filename"].startswith("teacher")]
    keys = [tuple(value[key] for key in join["groupby"]) for value in of_teacher]
    assert len(set(keys)) == len(keys) == 6
