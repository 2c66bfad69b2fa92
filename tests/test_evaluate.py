import json

import numpy as np
import pytest

from components.check_teacher import check_teacher
from components.evaluate import evaluate
from components.images.files import read_image
from components.run.errors import InputError
from tests.small_project import STUDENT, TEACHER, SmallProject, luma_psnr, rows

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def project(tmp_path):
    project = SmallProject(tmp_path)
    project.test_images()
    project.network("network", TEACHER)
    project.network("student", STUDENT, seed=1)
    project.params["teachers"]["sr"]["expected"] = {"dataset": "two", "psnr": 5.0, "tolerance": 0.3}
    project.run(
        check_teacher, scores=tmp_path / "check", details=tmp_path / "teacher", speed=tmp_path / "teacher_speed"
    )
    return project


def of(project, name):
    return json.loads((project.folder / name).read_text())


def test_the_scores_stand_beside_those_of_teacher_and_baseline(project):
    project.run(evaluate)
    scores, checked = of(project, "scores"), of(project, "check")
    assert set(scores) == {"one", "two", "teacher", "baseline", "parameters", "flops"}
    assert scores["teacher"] == checked["teacher"]
    assert scores["baseline"] == checked["baseline"]
    assert set(scores["one"]) == {"psnr", "ssim"}
    assert 0 < scores["parameters"] < checked["parameters"]
    assert 0 < scores["flops"] < checked["flops"]


def test_the_numbers_are_those_of_the_restored_images(project):
    project.run(evaluate)
    folder, measured = project.folder / "details", rows(project.folder / "details" / "images.csv")
    assert [(row["dataset"], row["name"]) for row in measured] == [("one", "0"), ("two", "1"), ("two", "2")]
    for row in measured:
        restored = read_image(folder / row["dataset"] / f"{row['name']}.png")
        clean = read_image(project.folder / "raw" / row["dataset"] / f"{row['name']}.png")
        assert restored.shape == (*(side // 2 * 2 for side in clean.shape[:2]), 3)
        assert float(row["psnr"]) == pytest.approx(luma_psnr(restored, clean), abs=1e-4)
    for name in ("psnr", "ssim"):
        two = [float(row[name]) for row in measured if row["dataset"] == "two"]
        assert of(project, "scores")["two"][name] == pytest.approx(np.mean(two), abs=1e-5)
    assert {path.name for path in folder.iterdir()} == {"images.csv", "one", "two"}


def test_a_network_is_measured_alike_as_student_and_as_teacher(project):
    project.run(evaluate, student=project.folder / "network")
    scores, checked = of(project, "scores"), of(project, "check")
    assert {name: scores[name] for name in ("one", "two")} == checked["teacher"]
    assert (scores["parameters"], scores["flops"]) == (checked["parameters"], checked["flops"])


def test_time_is_kept_apart_so_that_the_scores_are_the_same_bytes_again(project):
    project.run(evaluate)
    files = [path for path in (project.folder / "details").rglob("*") if path.is_file()]
    first = [path.read_bytes() for path in (project.folder / "scores", *files)]
    project.run(evaluate)
    assert first == [path.read_bytes() for path in (project.folder / "scores", *files)]
    speed = of(project, "speed")
    assert set(speed) == {"seconds_per_megapixel", "device", "threads"}
    assert speed["seconds_per_megapixel"] > 0


def test_weights_of_no_network_are_refused_and_nothing_is_written(project):
    (project.folder / "student").write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a network stored by this pipeline"):
        project.run(evaluate)
    assert not {"scores", "details", "speed"} & {path.name for path in project.folder.iterdir()}
