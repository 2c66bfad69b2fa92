import functools

import numpy as np
import pytest
import torch

from components.backbones.carn import CarnM
from components.backbones.cost import count_parameters
from components.backbones.span import Span
from components.backbones.vdsr import Vdsr
from components.backbones.weights import load_backbone
from components.images.store import Pair, StoreWriter
from components.run.errors import InputError
from components.train_teacher import train_teacher
from components.training import session
from components.training.loop import train
from tests.small_project import SmallProject
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")

OUTPUTS = {"teacher.safetensors", "history.csv", "validation.csv"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return SmallProject(tmp_path)


@pytest.fixture
def trainable(project):
    project.training_images()
    return project


@pytest.fixture
def published(project):
    """A published checkpoint of the teacher's architecture, with the layers that ours holds without parameters."""
    network = tiny.edsr(seed=8, blocks=2)
    fixed = {f"{name}.{part}": torch.ones(3) for name in ("sub_mean", "add_mean") for part in ("weight", "bias")}
    (project.folder / "raw" / "source").mkdir(parents=True)
    torch.save(network.state_dict() | fixed, project.folder / "raw" / "source" / "edsr.pt")
    project.params["teachers"]["sr"] |= {"checkpoint": "source/edsr.pt", "training": None}
    return network


class TestTraining:
    def test_leaves_weights_and_curves_and_no_checkpoint(self, trainable):
        before = trainable.left()
        trainable.run(train_teacher)
        output = trainable.folder / "output"
        assert {path.name for path in output.iterdir()} == OUTPUTS
        assert trainable.left() - before == {"params.yaml", "output", *(f"output/{name}" for name in OUTPUTS)}
        assert (output / "history.csv").read_text().splitlines()[0] == "step,learning_rate,total,reconstruction"

    def test_the_weights_are_those_that_were_validated_last(self, trainable):
        trainable.run(train_teacher)
        network = load_backbone(trainable.folder / "output" / "teacher.safetensors")
        header, *rows = (trainable.folder / "output" / "validation.csv").read_text().splitlines()
        measured = tiny.validation(trainable.folder / "lmdb")(network)
        assert dict(zip(header.split(","), rows[-1].split(","), strict=True)) == {
            "step": "12",
            **{name: str(value) for name, value in measured.items()},
        }

    def test_span_trains_with_its_branches_and_is_stored_folded(self, trainable):
        trainable.params["teachers"]["sr"]["backbone"] = {"name": "span", "channels": 8, "blocks": 2}
        trainable.params["teachers"]["sr"]["training"] |= {"steps": 24, "learning_rate": 0.02, "ema_decay": 0.5}
        trainable.run(train_teacher)
        network = load_backbone(trainable.folder / "output" / "teacher.safetensors")
        assert sum(value.numel() for value in network.parameters()) == count_parameters(Span(network.scale, 8, 2))
        rows = (trainable.folder / "output" / "validation.csv").read_text().splitlines()
        measured = tiny.validation(trainable.folder / "lmdb")(network)
        assert float(rows[-1].split(",")[1]) == pytest.approx(measured["psnr"], abs=1e-3)
        assert (trainable.folder / "output" / "history.csv").read_text().count("\n") > 1

    def test_gives_the_same_bytes_again(self, trainable):
        first, second = trainable.folder / "first", trainable.folder / "second"
        trainable.run(train_teacher, output=first)
        trainable.run(train_teacher, output=second)
        assert tiny.files(first) == tiny.files(second)

    def test_goes_on_where_it_was_broken_off_unless_a_param_has_changed(self, trainable, monkeypatch, capsys):
        monkeypatch.setattr(session, "train", functools.partial(train, checkpoint_seconds=0))
        trainable.run(train_teacher, output=trainable.folder / "unbroken")
        with monkeypatch.context() as patched:
            patched.setattr(session, "TrainingPatches", tiny.Interrupted)
            with pytest.raises(KeyboardInterrupt):
                trainable.run(train_teacher)
        checkpoints = trainable.folder / ".cache" / "checkpoints"
        assert not (trainable.folder / "output").exists()
        assert [path.name.partition("-")[0] for path in checkpoints.iterdir()] == ["train"]

        trainable.params["teachers"]["sr"]["training"]["seed"] = 6
        trainable.run(train_teacher, output=trainable.folder / "other")
        assert "going on" not in capsys.readouterr().out
        trainable.params["teachers"]["sr"]["training"]["seed"] = 5
        # The weights do not depend on what the gate expects.
        trainable.params["teachers"]["sr"]["expected"]["psnr"] = 20
        trainable.run(train_teacher)
        assert "going on from step 6 of 12" in capsys.readouterr().out
        assert tiny.files(trainable.folder / "output") == tiny.files(trainable.folder / "unbroken")
        assert list(checkpoints.iterdir()) == []

    def test_another_image_store_is_another_training(self, trainable, monkeypatch, capsys):
        monkeypatch.setattr(session, "train", functools.partial(train, checkpoint_seconds=0))
        with monkeypatch.context() as patched:
            patched.setattr(session, "TrainingPatches", tiny.Interrupted)
            with pytest.raises(KeyboardInterrupt):
                trainable.run(train_teacher)
        # The same pixels, but the last training image is one for validation now.
        index = trainable.folder / "lmdb" / "index.json"
        index.write_text(
            index.read_text().replace('"00000003", "split": "training"', '"00000003", "split": "validation"')
        )
        trainable.run(train_teacher)
        assert "going on" not in capsys.readouterr().out


class TestImport:
    def test_a_published_checkpoint_becomes_the_teacher(self, project, published):
        project.run(train_teacher)
        output = project.folder / "output"
        assert {path.name for path in output.iterdir()} == OUTPUTS
        image = torch.rand(1, 3, 9, 7)
        assert torch.equal(load_backbone(output / "teacher.safetensors")(image), published.eval()(image))
        assert (output / "history.csv").read_text() == "step\n"

    def test_one_file_for_three_scales_gives_the_enlarger_of_the_tasks(self, project, caplog):
        caplog.set_level("INFO")
        scale = project.params["tasks"]["sr"]["scale"]
        network = CarnM(scale, channels=8, blocks=1)
        state = network.state_dict()
        for other in (2, 3, 4):
            enlarger = network if other == scale else CarnM(other, channels=8, blocks=1)
            state |= {f"upsample.up{other}.{key}": value for key, value in enlarger.upsample["up"].state_dict().items()}
        state = {key: value for key, value in state.items() if not key.startswith("upsample.up.")}
        output = self.imported(
            project, "carn_m.pth", lambda path: torch.save(state, path), "carn_m", channels=8, blocks=1
        )
        assert f"(state_dict of a .pth, multi-scale (x{scale} of x2, x3 and x4) names)" in caplog.text
        image = torch.rand(1, 3, 9, 7)
        assert torch.equal(load_backbone(output)(image), network.eval()(image))

    def test_arrays_become_a_teacher(self, project, caplog):
        caplog.set_level("INFO")
        network = Vdsr(project.params["tasks"]["sr"]["scale"], channels=8, layers=4)
        arrays = {f"model.{key}": value.numpy() for key, value in network.state_dict().items()}
        output = self.imported(project, "vdsr.npz", lambda path: np.savez(path, **arrays), "vdsr", channels=8, layers=4)
        assert "(arrays of a .npz, with model. prefix)" in caplog.text
        image = torch.rand(1, 3, 9, 7)
        assert torch.equal(load_backbone(output)(image), network.eval()(image))

    def imported(self, project, file, write, name, **arguments):
        (project.folder / "raw" / "source").mkdir(parents=True)
        write(project.folder / "raw" / "source" / file)
        backbone = {"name": name, **arguments}
        project.params["teachers"]["sr"] |= {"checkpoint": f"source/{file}", "training": None, "backbone": backbone}
        project.run(train_teacher)
        return project.folder / "output" / "teacher.safetensors"

    def test_another_architecture_is_refused_with_what_differs(self, project, published):
        project.params["teachers"]["sr"]["backbone"]["blocks"] = 3
        with pytest.raises(InputError, match=r"edsr\.pt.*Edsr.*missing body\.3\.weight"):
            project.run(train_teacher)
        assert not (project.folder / "output").exists()

    def test_a_checkpoint_that_is_not_there_is_named(self, project, published):
        project.params["teachers"]["sr"]["checkpoint"] = "source/rcan.pt"
        with pytest.raises(InputError, match=r"source/rcan\.pt: no such checkpoint"):
            project.run(train_teacher)
        assert not (project.folder / "output").exists()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda p: p["teachers"]["sr"].update(checkpoint="source/edsr.pt"), "either checkpoint"),
            (lambda p: p["teachers"]["sr"].update(training=None), "either checkpoint"),
            (
                lambda p: p["teachers"]["sr"]["backbone"].update(name="edrs"),
                r"teachers\.sr\.backbone.*'edrs'\. Did you mean 'edsr'\? There are: .*edsr, .*rcan",
            ),
            (lambda p: p["teachers"]["sr"]["backbone"].update(chanels=8), r"teachers\.sr\.backbone.*'chanels'"),
            (
                lambda p: p["teachers"]["sr"]["backbone"].update(blocks="many"),
                r"teachers\.sr\.backbone.*blocks.*'many'",
            ),
            (lambda p: p["tasks"].update(sr={"name": "dehaze"}), r"tasks\.sr.*'dehaze'.*There are: .*sr"),
            (lambda p: p["tasks"].update(sr={"scale": 5}), r"tasks\.sr\.scale.*2, 3, 4 or 8"),
        ],
    )
    def test_a_wrong_param_is_refused_by_its_key(self, change, said, trainable):
        change(trainable.params)
        with pytest.raises(InputError, match=said):
            trainable.run(train_teacher)
        assert not (trainable.folder / "output").exists()

    def test_a_store_without_validation_images(self, project):
        clean = tiny.photograph(0)
        with StoreWriter(project.folder / "lmdb", 2, 0) as writer:
            writer.add("training", "set/0", Pair(clean[::2, ::2], clean), [((0, 0), (48, 48))])
        with pytest.raises(InputError, match="no validation image"):
            project.run(train_teacher)

    def test_a_patch_larger_than_the_images(self, trainable):
        trainable.params["teachers"]["sr"]["training"]["patch"] = 25
        with pytest.raises(InputError, match="less than the training patch, 50 clean pixels"):
            trainable.run(train_teacher)

    def test_a_store_of_another_scale(self, trainable):
        trainable.params["tasks"]["sr"]["scale"] = 4
        with pytest.raises(InputError, match="scale 2, the task 4"):
            trainable.run(train_teacher)

    def test_a_folder_that_is_no_store(self, project):
        with pytest.raises(InputError, match="no image store"):
            project.run(train_teacher)
