import json

import numpy as np
import pytest

from components.backbones.weights import load_backbone
from components.check_teacher import check_teacher
from components.images.files import read_image
from components.run.errors import InputError
from components.run.files import sha256_of
from tests.small_project import TEACHER, SmallProject, luma_psnr, rows

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def project(tmp_path):
    project = SmallProject(tmp_path)
    project.test_images()
    project.network("network", TEACHER)
    project.params["teachers"]["sr"]["expected"] = {"dataset": "two", "psnr": 5.0, "tolerance": 0.3}
    return project


def scores_of(project):
    return json.loads((project.folder / "scores").read_text())


def test_leaves_the_scores_of_teacher_and_baseline_by_set_and_what_the_teacher_costs(project):
    project.run(check_teacher)
    scores = scores_of(project)
    assert set(scores) == {"teacher", "baseline", "parameters", "flops", "sha256"}
    assert set(scores["teacher"]) == set(scores["baseline"]) == {"one", "two"}
    assert set(scores["teacher"]["one"]) == {"psnr", "ssim"}
    assert scores["sha256"] == sha256_of(project.folder / "network")
    network = load_backbone(project.folder / "network")
    assert scores["parameters"] == sum(value.numel() for value in network.parameters())
    # Multiply-adds of 3x3 convolutions on 640x360, and of the last one on 1280x720.
    small = 3 * 8 + 5 * 8 * 8 + 8 * 32
    assert scores["flops"] == 9 * (640 * 360 * small + 1280 * 720 * 8 * 3)


def test_the_teachers_time_is_written_beside_what_dvc_hashes(project):
    project.run(check_teacher)
    speed = json.loads((project.folder / "speed").read_text())
    assert set(speed) == {"seconds_per_megapixel", "device", "threads"}
    assert speed["seconds_per_megapixel"] > 0


@pytest.mark.parametrize("name", ["teacher", "baseline"])
def test_the_numbers_are_those_of_the_restored_images(name, project):
    project.run(check_teacher)
    folder = project.folder / "details"
    measured = rows(folder / f"{name}.csv")
    assert [(row["dataset"], row["name"]) for row in measured] == [("one", "0"), ("two", "1"), ("two", "2")]
    for row in measured:
        restored = read_image(folder / name / row["dataset"] / f"{row['name']}.png")
        clean = read_image(project.folder / "raw" / row["dataset"] / f"{row['name']}.png")
        assert float(row["psnr"]) == pytest.approx(luma_psnr(restored, clean), abs=1e-4)
    two = [float(row["psnr"]) for row in measured if row["dataset"] == "two"]
    assert scores_of(project)[name]["two"]["psnr"] == pytest.approx(np.mean(two), abs=1e-5)
    assert {path.name for path in folder.iterdir()} == {"teacher.csv", "baseline.csv", "teacher", "baseline"}


def test_gives_the_same_bytes_again(project):
    project.run(check_teacher)
    first = (project.folder / "scores").read_bytes(), (project.folder / "details" / "teacher.csv").read_bytes()
    project.run(check_teacher)
    assert first == (
        (project.folder / "scores").read_bytes(),
        (project.folder / "details" / "teacher.csv").read_bytes(),
    )


class TestGate:
    def expect(self, project, psnr, tolerance, dataset="two"):
        project.params["teachers"]["sr"]["expected"] = {"dataset": dataset, "psnr": psnr, "tolerance": tolerance}

    def reached(self, project):
        project.run(check_teacher)
        psnr = scores_of(project)["teacher"]["two"]["psnr"]
        (project.folder / "scores").unlink()
        return psnr

    def test_a_weak_teacher_is_refused_with_both_numbers_and_nothing_is_written(self, project):
        psnr = self.reached(project)
        self.expect(project, 34, 0.3)
        before = project.left()
        with pytest.raises(InputError) as raised:
            project.run(check_teacher, details=project.folder / "other")
        assert f"reaches {psnr:.2f} dB on two, expected 34.00 dB (tolerance 0.30)" in str(raised.value)
        assert project.left() == before

    @pytest.mark.parametrize(("above", "passes"), [(0.29, True), (0.31, False)])
    def test_the_tolerance_is_where_it_ends(self, above, passes, project):
        self.expect(project, self.reached(project) + above, 0.3)
        if passes:
            project.run(check_teacher)
        else:
            with pytest.raises(InputError):
                project.run(check_teacher)
        assert (project.folder / "scores").exists() == passes

    def test_a_better_one_passes(self, project):
        self.expect(project, self.reached(project) - 1, 0)
        project.run(check_teacher)

    def test_a_set_that_is_not_tested_is_refused_with_those_there_are(self, project):
        self.expect(project, 5, 0.3, dataset="set5")
        with pytest.raises(InputError, match=r"teachers\.expected\.dataset.*'set5'.*There are: one, two"):
            project.run(check_teacher)
        assert not (project.folder / "details").exists()


def test_weights_of_no_network_are_refused(project):
    (project.folder / "network").write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a network stored by this pipeline"):
        project.run(check_teacher)
    assert not (project.folder / "details").exists()


def test_a_manifest_without_test_images_is_refused(project):
    manifest = project.folder / "manifest"
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(True) if not line.startswith("test")))
    with pytest.raises(InputError, match="no test image"):
        project.run(check_teacher)
    assert not (project.folder / "details").exists()


def test_a_teacher_of_which_nothing_is_expected_is_refused(project):
    del project.params["teachers"]["sr"]["expected"]
    with pytest.raises(InputError, match=r"teachers\.expected: missing; write {dataset"):
        project.run(check_teacher)
    assert not {"scores", "details", "speed"} & {path.name for path in project.folder.iterdir()}
