"""An ensemble of teachers, and its file."""

import itertools
import json

import pytest
import torch
from safetensors import safe_open

from components.auxiliary.ensemble import AggregatedEnsemble, TeacherEnsemble
from components.auxiliary.ensemble_weights import load_ensemble, load_teacher_ensemble, save_ensemble
from components.backbones import BackboneChoice
from components.backbones.tiling import restore_tiled
from components.backbones.weights import describe_backbone, load_backbone, save_network
from components.run.errors import InputError
from components.run.files import sha256_of
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(1))
EDSR = {"name": "edsr", "channels": 8, "blocks": 1}


@pytest.fixture
def files(tmp_path):
    """Files of three teachers of the same architecture, which could be taken for one another."""
    found = {}
    for seed, name in enumerate(("edsr", "another", "rcan")):
        found[name] = tmp_path / f"{name}.safetensors"
        save_network(found[name], tiny.edsr(seed), describe_backbone(BackboneChoice(**EDSR), 2))
    return found


def aggregator(teachers=3):
    torch.manual_seed(4)
    return tiny.Aggregator(2, teachers, **tiny.AGGREGATOR).eval()


@torch.no_grad()
def output(network, image=IMAGE):
    return network(image)


class TestTeacherEnsemble:
    def test_gives_the_images_in_the_order_of_the_names_whatever_order_it_was_given(self, files):
        one_by_one = [output(load_backbone(files[name])) for name in ("another", "edsr", "rcan")]
        for order in itertools.permutations(files.items()):
            for ours, theirs in zip(output(load_teacher_ensemble(dict(order))), one_by_one, strict=True):
                assert torch.equal(ours, theirs)

    def test_teachers_of_different_scales_are_refused(self):
        with pytest.raises(InputError, match=r"one scale; found {'one': 2, 'two': 3}"):
            TeacherEnsemble({"two": tiny.edsr(scale=3), "one": tiny.edsr(scale=2)})

    def test_needs_sizes_that_all_its_teachers_take(self):
        networks = {"one": tiny.edsr(1), "two": tiny.edsr(2)}
        networks["one"].multiple, networks["two"].multiple = 4, 6
        assert (
            TeacherEnsemble(networks).multiple
            == AggregatedEnsemble(TeacherEnsemble(networks), aggregator(2)).multiple
            == 12
        )


class TestAggregatedEnsemble:
    def test_is_the_aggregator_of_the_teachers_images(self, files):
        teacher_ensemble = load_teacher_ensemble(files)
        expected = output(aggregator(), output(teacher_ensemble))
        assert torch.equal(output(AggregatedEnsemble(teacher_ensemble, aggregator())), expected)

    def test_its_order_would_matter(self, files):
        images = output(load_teacher_ensemble(files))
        outputs = [output(aggregator(), order) for order in itertools.permutations(images)]
        assert all((one - other).abs().max() > 1e-4 for one, other in itertools.combinations(outputs, 2))

    def test_has_a_stage_for_each_layer(self, files):
        network = AggregatedEnsemble(
            load_teacher_ensemble(files), tiny.Aggregator(2, 3, **tiny.AGGREGATOR | {"depths": [1, 2]})
        )
        _, features = network.forward_tapped(IMAGE, [0.5, 1.0])
        assert network.depth == 2
        assert [feature.shape for feature in features] == [(1, 8, 12, 20)] * 2

    @pytest.mark.parametrize("scale", [1, 2, 3, 4])
    def test_restores_whole_images_of_any_size_at_every_scale(self, scale):
        image = torch.rand(1, 3, 10, 13)
        assert restore_tiled(tiny.ensemble(scale).eval(), image).shape == (1, 3, 10 * scale, 13 * scale)


class TestFile:
    @pytest.fixture
    def stored(self, files, tmp_path):
        save_ensemble(
            tmp_path / "ensemble",
            AggregatedEnsemble(load_teacher_ensemble(files), aggregator()),
            tiny.AGGREGATOR,
            files,
        )
        return tmp_path / "ensemble"

    def test_gives_the_ensemble_back_without_its_teachers_files(self, stored, files):
        expected = output(AggregatedEnsemble(load_teacher_ensemble(files), aggregator()))
        files["another"].unlink()
        files["edsr"].unlink()
        loaded = load_ensemble(stored, files["rcan"])
        assert not loaded.training
        assert torch.equal(output(loaded), expected)

    def test_says_by_name_which_weights_its_teachers_have(self, stored, files):
        with safe_open(stored, framework="pt") as file:
            teachers = json.loads(file.metadata()["description"])["ensemble"]["teachers"]
        assert {name: teacher["sha256"] for name, teacher in teachers.items()} == {
            name: sha256_of(path) for name, path in files.items()
        }

    def test_has_the_same_bytes_whatever_order_the_teachers_were_given_in(self, stored, files, tmp_path):
        turned = dict(reversed(files.items()))
        save_ensemble(
            tmp_path / "turned",
            AggregatedEnsemble(load_teacher_ensemble(turned), aggregator()),
            tiny.AGGREGATOR,
            turned,
        )
        assert (tmp_path / "turned").read_bytes() == stored.read_bytes()

    def test_is_refused_with_a_teacher_that_is_not_its_own(self, stored, tmp_path):
        save_network(tmp_path / "other", tiny.edsr(9), describe_backbone(BackboneChoice(**EDSR), 2))
        with pytest.raises(InputError, match=r"none of its teachers \(another, edsr, rcan\) has the weights"):
            load_ensemble(stored, tmp_path / "other")

    def test_of_another_kind_is_refused(self, files):
        with pytest.raises(InputError, match=r"edsr\.safetensors: holds no ensemble but: backbone, scale"):
            load_ensemble(files["edsr"], files["edsr"])
