"""Every step that trains takes its distance from the recipe."""

import pytest

from components.distill import distill
from components.run.errors import InputError
from components.train_encoder import train_encoder
from components.train_ensemble import train_ensemble
from components.train_privileged_teacher import train_privileged_teacher
from components.train_teacher import train_teacher
from tests.small_project import SmallProject, rows

pytestmark = pytest.mark.usefixtures("own_accelerator")

STEPS = [
    (train_teacher, "teachers"),
    (train_encoder, "encoders"),
    (train_ensemble, "ensembles"),
    (train_privileged_teacher, "privileged_teachers"),
    (distill, "students"),
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = SmallProject(tmp_path)
    project.training_images()
    project.teacher()
    project.encoder()
    project.ensemble()
    project.privileged()
    project.params["ensembles"]["sr"]["tolerance"] = 100
    return project


def losses(project, step, method=None):
    project.run(step, method)
    return [float(row["reconstruction"]) for row in rows(project.folder / "output" / "history.csv")]


@pytest.mark.parametrize(("step", "section"), STEPS, ids=lambda value: getattr(value, "__name__", None))
def test_the_reconstruction_is_the_recipes_distance(step, section, project):
    method = "scratch" if step is distill else None
    assert min(losses(project, step, method)) > 0
    project.params[section]["sr"]["training"] |= {"reconstruction": "psnr"}
    assert max(losses(project, step, method)) < 0, "a PSNR with its sign turned"


def test_the_logits_are_the_students_distance(project):
    project.params["students"]["sr"]["logits"] = "psnr"
    project.run(distill, "logits")
    for row in rows(project.folder / "output" / "history.csv"):
        assert float(row["logits"]) < 0 < float(row["reconstruction"])


def test_an_encoder_has_one_size_of_images(project):
    project.params["encoders"]["sr"]["training"]["progressive_learning"] = [{"after": 4, "batch": 4, "patch": 16}]
    with pytest.raises(InputError, match=r"training.progressive_learning: an encoder has one image size"):
        project.run(train_encoder)
