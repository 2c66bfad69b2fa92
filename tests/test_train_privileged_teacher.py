import functools
import json

import pytest
import torch

from components.auxiliary.privileged_teacher import load_privileged_teacher
from components.run.errors import InputError
from components.train_privileged_teacher import train_privileged_teacher
from components.training import session
from components.training.loop import train
from tests.small_project import PRIVILEGED, STUDENT, SmallProject, luma_psnr, rows
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")

OUTPUTS = {"teacher.safetensors", "history.csv", "validation.csv"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = SmallProject(tmp_path)
    project.training_images()
    return project


def trained(project):
    return load_privileged_teacher(project.folder / "output" / "teacher.safetensors")


def test_leaves_the_teacher_its_curves_and_how_well_it_restores(project):
    before = project.left()
    project.run(train_privileged_teacher)
    assert project.left() - before == {"params.yaml", "scores", "output", *(f"output/{name}" for name in OUTPUTS)}
    history = rows(project.folder / "output" / "history.csv")
    assert set(history[0]) == {"step", "learning_rate", "total", "reconstruction", "imitation"}
    for row in history:
        total, reconstruction, imitation = (float(row[key]) for key in ("total", "reconstruction", "imitation"))
        weights = project.params["privileged_teachers"]["sr"]["weights"]
        expected = weights["reconstruction"] * reconstruction + weights["imitation"] * imitation
        assert total == pytest.approx(expected, rel=1e-5)
    *_, last = rows(project.folder / "output" / "validation.csv")
    scores = json.loads((project.folder / "scores").read_text())
    assert scores == {"psnr": float(last["psnr"]), "ssim": float(last["ssim"])}


def test_its_score_is_that_of_the_clean_image_after_both_halves(project):
    project.run(train_privileged_teacher)
    clean = tiny.photograph(4)
    with torch.no_grad():
        image = torch.from_numpy(clean).permute(2, 0, 1)[None].float() / 255
        restored = (trained(project)(image).clamp(0, 1)[0] * 255).round().permute(1, 2, 0).byte().numpy()
    scores = json.loads((project.folder / "scores").read_text())
    assert scores["psnr"] == pytest.approx(luma_psnr(restored, clean), abs=1e-6)


def test_its_decoder_is_the_students_network(project):
    project.run(train_privileged_teacher)
    network = trained(project)
    student = tiny.edsr()
    assert {name: value.shape for name, value in network.decoder.state_dict().items()} == {
        name: value.shape for name, value in student.state_dict().items()
    }
    assert network.encoder[0].out_channels == PRIVILEGED["channels"]


def test_the_students_recipe_does_not_matter(project):
    project.run(train_privileged_teacher, output=project.folder / "one")
    project.params["students"]["sr"]["training"]["learning_rate"] = 0.5
    project.run(train_privileged_teacher, output=project.folder / "two")
    assert tiny.files(project.folder / "one") == tiny.files(project.folder / "two")


def test_learns_of_gray_images_where_the_task_says_so(project):
    project.run(train_privileged_teacher, output=project.folder / "colour")
    project.params["tasks"]["sr"]["gray"] = True
    project.run(train_privileged_teacher, output=project.folder / "gray")
    assert tiny.files(project.folder / "colour") != tiny.files(project.folder / "gray")


def test_a_network_of_luma_can_be_its_decoder(project):
    project.params["students"]["sr"]["backbone"] = {
        "name": "fsrcnn", "channels": 8, "shrunk_channels": 4, "mappings": 1
    }  # fmt: skip
    project.run(train_privileged_teacher)
    assert trained(project).encoder[0].in_channels == 1


def test_goes_on_to_the_same_bytes_where_it_was_broken_off(project, monkeypatch, capsys):
    monkeypatch.setattr(session, "train", functools.partial(train, checkpoint_seconds=0))
    project.run(train_privileged_teacher, output=project.folder / "unbroken")
    with monkeypatch.context() as patched:
        patched.setattr(session, "TrainingPatches", tiny.Interrupted)
        with pytest.raises(KeyboardInterrupt):
            project.run(train_privileged_teacher)
    assert not (project.folder / "output").exists()
    project.run(train_privileged_teacher)
    assert "train privileged teacher: going on from step 6 of 12" in capsys.readouterr().out
    assert tiny.files(project.folder / "output") == tiny.files(project.folder / "unbroken")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["encoder"].update(chanels=4), r"privileged_teachers\.encoder.*'chanels'.*'channels'"),
        (lambda p: p["weights"].update(imitate=1), r"privileged_teachers\.sr\.weights.*'imitate'.*'imitation'"),
        (lambda p: p["training"].update(patch=32), r"set/0: 48x48 pixels are less than the training patch"),
        (lambda p: p.pop("training"), r"privileged_teachers\.sr\.training: missing"),
    ],
)
def test_a_wrong_param_is_refused_by_its_key(change, said, project):
    change(project.params["privileged_teachers"]["sr"])
    with pytest.raises(InputError, match=said):
        project.run(train_privileged_teacher)
    assert not {"output", "scores"} & {path.name for path in project.folder.iterdir()}


def test_the_students_backbone_is_checked(project):
    project.params["students"]["sr"]["backbone"] = STUDENT | {"name": "hat"}
    with pytest.raises(InputError, match=r"students\.sr\.backbone.*'hat'"):
        project.run(train_privileged_teacher)
