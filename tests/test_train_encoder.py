import functools
import json

import pytest
import torch

from components.auxiliary.encoder_weights import load_encoder
from components.auxiliary.vgg import Vgg19
from components.run.errors import InputError
from components.train_encoder import train_encoder
from components.training import autoencoding, session
from components.training.autoencoding import reconstruction_on
from components.training.loop import train
from tests.small_project import SmallProject
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")

OUTPUTS = {"encoder.safetensors", "history.csv", "validation.csv"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return SmallProject(tmp_path)


@pytest.fixture
def trainable(project):
    project.training_images()
    return project


@pytest.fixture
def released(project):
    """A checkpoint as taming-transformers writes it: the autoencoder, and a discriminator inside its loss."""
    network = tiny.encoder(seed=8)
    others = {
        "decoder.conv_in.weight": torch.ones(2),
        "post_quant_conv.bias": torch.ones(2),
        "loss.logvar": torch.ones(1),
    }
    (project.folder / "raw" / "vqgan").mkdir(parents=True)
    torch.save({"state_dict": network.state_dict() | others}, project.folder / "raw" / "vqgan" / "last.ckpt")
    project.params["encoders"]["sr"] |= {"checkpoint": "vqgan/last.ckpt", "training": None}
    return network


def scores_of(project):
    return json.loads((project.folder / "scores").read_text())


class TestTraining:
    def test_leaves_the_encoder_alone_its_curves_and_how_well_it_codes(self, trainable):
        before = trainable.left()
        trainable.run(train_encoder)
        assert trainable.left() - before == {
            "params.yaml", "scores", "output", *(f"output/{name}" for name in OUTPUTS)
        }  # fmt: skip
        output = trainable.folder / "output"
        header, *rows = (output / "validation.csv").read_text().splitlines()
        assert header == "step,psnr,codes_in_use,perplexity"
        last = dict(zip(header.split(","), map(float, rows[-1].split(",")), strict=True))
        del last["step"]
        assert scores_of(trainable) == {"codes": 16, **last}
        assert 1 <= last["codes_in_use"] <= 16
        history = (output / "history.csv").read_text().splitlines()[0]
        assert set(history.split(",")) == {"step", "learning_rate", "total", "reconstruction", "codebook", "commitment"}

    def test_the_encoder_can_be_used(self, trainable):
        trainable.run(train_encoder)
        network = load_encoder(trainable.folder / "output" / "encoder.safetensors")
        assert not network.training
        taps, distances = network.encode(torch.rand(2, 3, 32, 32))
        assert [tap.shape[-1] for tap in taps] == [32, 16, 8, 4, 2]
        assert distances.shape == (2 * 4, 16)

    def test_gives_the_same_bytes_again(self, trainable):
        first, second = trainable.folder / "first", trainable.folder / "second"
        trainable.run(train_encoder, output=first)
        trainable.run(train_encoder, output=second)
        assert tiny.files(first) == tiny.files(second)

    def test_goes_on_to_the_same_bytes_where_it_was_broken_off(self, trainable, monkeypatch, capsys):
        monkeypatch.setattr(session, "train", functools.partial(train, checkpoint_seconds=0))
        monkeypatch.setattr(autoencoding, "RESEED_EVERY", 2)
        trainable.run(train_encoder, output=trainable.folder / "unbroken")
        with monkeypatch.context() as patched:
            patched.setattr(session, "TrainingPatches", tiny.Interrupted)
            with pytest.raises(KeyboardInterrupt):
                trainable.run(train_encoder)
        assert not (trainable.folder / "output").exists()
        trainable.run(train_encoder)
        assert "train encoder: going on from step 6 of 12" in capsys.readouterr().out
        assert tiny.files(trainable.folder / "output") == tiny.files(trainable.folder / "unbroken")
        assert list((trainable.folder / ".cache" / "checkpoints").iterdir()) == []

    def test_is_measured_on_squares_of_the_size_it_is_trained_on(self, trainable, monkeypatch):
        sides = []

        def measure(store, side):
            sides.append(side)
            return reconstruction_on(store, side)

        monkeypatch.setattr("components.train_encoder.reconstruction_on", measure)
        trainable.run(train_encoder)
        assert sides == [16]


class TestImport:
    def test_a_released_checkpoint_becomes_the_encoder(self, project, released):
        project.run(train_encoder)
        assert scores_of(project) == {"codes": 16, "psnr": None, "codes_in_use": None, "perplexity": None}
        assert {path.name for path in (project.folder / "output").iterdir()} == OUTPUTS
        network = load_encoder(project.folder / "output" / "encoder.safetensors")
        image = torch.rand(1, 3, 32, 32)
        for ours, theirs in zip(network.taps(image), released.taps(image), strict=True):
            assert torch.equal(ours, theirs)

    def test_another_architecture_is_refused_with_what_differs(self, project, released):
        project.params["encoders"]["sr"]["network"]["codes"] = 32
        with pytest.raises(InputError, match=r"quantize\.embedding\.weight has shape \(16, 8\), expected \(32, 8\)"):
            project.run(train_encoder)
        assert not {"output", "scores"} & {path.name for path in project.folder.iterdir()}


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda p: p.update(training=None), r"encoders\.sr.*either checkpoint"),
            (lambda p: p["network"].update(chanels=4), r"encoders\.network.*'chanels'"),
            (lambda p: p["training"].update(patch=9), r"patch: 9 degraded pixels are 18 clean ones, not a multiple of 16"),
            (lambda p: p.update(weights={"comitment": 1}), r"encoders\.sr\.weights.*'comitment'.*'commitment'"),
            (lambda p: p["training"].update(patch=32), r"set/0: 48x48 pixels are less than the training patch"),
        ],
    )
    def test_a_wrong_param_is_refused_by_its_key(self, change, said, trainable):
        change(trainable.params["encoders"]["sr"])
        with pytest.raises(InputError, match=said):
            trainable.run(train_encoder)
        assert not {"output", "scores"} & {path.name for path in trainable.folder.iterdir()}


class TestVgg19:
    def test_is_imported_from_torchvisions_checkpoint_without_its_classifier(self, project):
        released = {f"features.{index}.{kind}": value for index, kind, value in vgg19_values()}
        released |= {"classifier.0.weight": torch.zeros(2, 2), "features.30.weight": torch.zeros(2, 2)}
        (project.folder / "raw/vgg").mkdir(parents=True)
        torch.save(released, project.folder / "raw/vgg/vgg19.pth")
        project.params["encoders"]["sr"] = {"network": {"name": "vgg19"}, "checkpoint": "vgg/vgg19.pth"}
        project.run(train_encoder)
        found = load_encoder(project.folder / "output/encoder.safetensors")
        assert isinstance(found, Vgg19)
        assert all(torch.equal(value, released[name]) for name, value in found.state_dict().items())
        assert json.loads((project.folder / "scores").read_text())["codes"] is None

    def test_is_not_trained_here(self, project):
        project.params["encoders"]["sr"]["network"] = {"name": "vgg19"}
        with pytest.raises(InputError, match="vgg19 is imported: give its checkpoint"):
            project.run(train_encoder)

    def test_an_encoder_of_another_name_is_refused_with_those_there_are(self, project):
        project.params["encoders"]["sr"] = {"network": {"name": "vgg16"}, "checkpoint": "vgg/vgg16.pth"}
        with pytest.raises(InputError, match=r"encoders.network: name.*'vgg16'.*There are: vgg19, vqgan"):
            project.run(train_encoder)


def vgg19_values():
    generator = torch.Generator().manual_seed(4)
    for name, value in Vgg19().state_dict().items():
        _, index, kind = name.split(".")
        yield index, kind, torch.rand(value.shape, generator=generator)
