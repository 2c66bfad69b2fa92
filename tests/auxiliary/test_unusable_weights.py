"""No stored network comes in with weights that are not finite, whichever way it comes."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from components.auxiliary.encoder_weights import load_encoder
from components.auxiliary.ensemble_weights import load_ensemble, load_teacher_ensemble
from components.auxiliary.privileged_teacher import load_privileged_teacher
from components.backbones.weights import load_backbone
from components.images.files import write_png
from components.restore import main as restore
from components.run.errors import InputError
from components.train_teacher import train_teacher
from tests.small_project import STUDENT, SmallProject
from tests.training import tiny

LOADS = {
    "teacher": lambda folder: load_backbone(folder / "teacher"),
    "member": lambda folder: load_teacher_ensemble({"teacher": folder / "teacher"}),
    "encoder": lambda folder: load_encoder(folder / "encoder"),
    "ensemble": lambda folder: load_ensemble(folder / "ensemble", folder / "teacher"),
    "privileged": lambda folder: load_privileged_teacher(folder / "privileged"),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = SmallProject(tmp_path)
    made.teacher()
    return made


def spoil(path, value):
    """Write one number of a stored network anew."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[max(tensors)].view(-1)[0] = value
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e30])
@pytest.mark.parametrize("kind", LOADS)
def test_a_stored_network_is_looked_through(project, kind, value):
    file = {"member": "teacher"}.get(kind, kind)
    if file != "teacher":
        getattr(project, file)()
    LOADS[kind](project.folder)
    spoil(project.folder / file, value)
    with pytest.raises(
        InputError, match=rf"{file}: not the weights of a trained network: \S+ holds (nan|inf|1e\+30)\. "
    ):
        LOADS[kind](project.folder)


@pytest.mark.parametrize("content", [b'{"description": []}', b"[" * 100_000, b'"text"', b"{}", b"not JSON"])
def test_a_description_that_is_none_is_told(project, content):
    save_file({"a": torch.ones(1)}, project.folder / "encoder", {"description": content.decode()})
    with pytest.raises(InputError, match=r"encoder: (not a network stored by this pipeline|holds no encoder but)"):
        load_encoder(project.folder / "encoder")


@pytest.mark.parametrize("change", [lambda one: one * float("nan"), lambda one: one + 1e30, lambda one: one.long()])
def test_no_teacher_is_imported_from_unusable_weights(project, change):
    state = tiny.edsr(seed=8, blocks=2).state_dict()
    (project.folder / "raw" / "source").mkdir(parents=True)
    torch.save({name: change(value) for name, value in state.items()}, project.folder / "raw" / "source" / "edsr.pt")
    project.params["teachers"]["sr"] |= {"checkpoint": "source/edsr.pt", "training": None}
    with pytest.raises(InputError, match=r"source/edsr\.pt: not the weights of a trained network: .*fetch or train it"):
        project.run(train_teacher)
    assert not (project.folder / "output").exists()


def test_no_picture_is_restored_by_a_spoiled_student(project, capsys):
    project.network("student.safetensors", STUDENT)
    spoil(project.folder / "student.safetensors", float("nan"))
    write_png(project.folder / "a.png", tiny.photograph(0))
    with pytest.raises(SystemExit) as ended:
        restore(["a.png", "--student", "student.safetensors", "--out", "out", "--device", "cpu"])
    assert ended.value.code == 2
    assert "student.safetensors: not the weights of a trained network: tail." in capsys.readouterr().err
    assert list(project.folder.glob("out/*")) == []
