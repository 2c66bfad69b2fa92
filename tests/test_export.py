"""`export`: the same network at any size, in three precisions, and what each loses."""

import json
from unittest import mock

import numpy as np
import onnx
import pytest
import skimage.data
import torch
import yaml
from torch import nn

from components.backbones import BACKBONES, BackboneChoice, build_backbone
from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import conv3x3, upsampler
from components.backbones.parts.swin import residual_swin_blocks
from components.backbones.tiling import run_padded
from components.export import export
from components.exporting.costs import MeasuredCost, cost_of
from components.exporting.graph import TOLERANCE, to_bytes, to_onnx
from components.exporting.opening import open_network
from components.exporting.session import INPUT, OUTPUT, OnnxNetwork
from components.exporting.variants import halved, quantised
from components.images.files import read_image
from components.run.errors import InputError
from components.run.files import sha256_of
from components.run.step import parse
from tests.backbones.test_backbones import smallest
from tests.small_project import STUDENT, TEACHER, SmallProject, luma_psnr
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

OTHER_SIZES = ((31, 50), (50, 31), (24, 24), (7, 9), (2, 40))
"""None of those that the export compares at."""


class Windows(Backbone):
    """A network with a size rule, and attention in shifted windows."""

    multiple = 8

    def __init__(self, scale):
        super().__init__()
        self.scale, self.depth = scale, 1
        self.head, self.layers = conv3x3(3, 8), residual_swin_blocks(8, [2], 2, 8, 2.0, 0.0)
        self.tail = nn.Sequential(upsampler(scale, 8), conv3x3(8, 3))

    def enter(self, image):
        return State(self.head(image), ())

    def stage(self, index, state):
        return State(self.layers[index](state.features), ())

    def leave(self, state):
        return self.tail(state.features)


class BySize(Windows):
    """Decides by its input's size, in Python."""

    def leave(self, state):
        image = super().leave(state)
        return image * 2 if image.shape[-1] > 60 else image


def networks():
    for name in sorted(BACKBONES.keys() - {"san"}):  # below
        # Where the k largest of DRSformer's attention are a tie, rounding chooses; this seed's are none.
        yield pytest.param(smallest(name, seed=2), id=name)
    for scale in (1, 2):
        yield pytest.param(Windows(scale).eval(), id=f"windows x{scale}")


@pytest.mark.parametrize("network", list(networks()))
def test_a_graph_is_the_network_at_every_size(network):
    session = OnnxNetwork(to_bytes(to_onnx(network, {"scale": str(network.scale)})), threads=1)
    for size in ((1, 3), *OTHER_SIZES):
        compare(session, network, size)


def compare(session, network, size):
    image = torch.from_numpy(np.random.default_rng(7).random((1, 3, *size), dtype=np.float32))
    with torch.inference_mode():
        expected = run_padded(network, image)
    assert session(image).shape == expected.shape
    assert (session(image) - expected).abs().max() < TOLERANCE * expected.abs().max().clamp(min=1)


def test_what_can_not_be_traced_is_exported_as_a_program_that_tells_nothing_of_this_machine():
    """SAN's crop of the middle."""
    torch.manual_seed(0)
    choice = BackboneChoice(name="san", channels=8, groups=1, blocks=1, reduction=1, non_local_reduction=1)
    network = build_backbone(choice, 2).eval()
    graph = to_onnx(network, {"scale": "2"})
    content = to_bytes(graph)
    session = OnnxNetwork(content, threads=1)
    for size in OTHER_SIZES:
        compare(session, network, size)
    with pytest.raises(InputError, match=r"3x1 pixels: this graph needs at least 2 a side\."):
        session(torch.zeros(1, 3, 1, 3))
    assert b"stack_trace" not in content
    assert b".py" not in content
    assert [(one.key, one.value) for one in graph.metadata_props] == [
        ("scale", "2"),
        ("size", "at least 2 pixels a side"),
        ("smallest_side", "2"),
    ]
    photograph = skimage.data.astronaut()[:96, 160:256]
    image = torch.from_numpy(photograph / np.float32(255)).permute(2, 0, 1)[None]
    whole = session(image)
    for model in (halved(graph), quantised(graph, [photograph])):
        restored = OnnxNetwork(to_bytes(model), threads=1)(image)
        assert (restored - whole).abs().mean() < 0.1 * whole.abs().mean()


def test_a_network_that_decides_by_size_is_refused():
    with pytest.raises(InputError, match=r"BySize: its ONNX graph differs from it by .* pixels, 0.0001 is allowed"):
        to_onnx(BySize(1).eval(), {"scale": "1"})


def test_a_network_that_onnx_has_no_word_for_is_refused():
    class Determined(Windows):
        def leave(self, state):
            return super().leave(state) * torch.linalg.eigvals(state.features[0, :, :8, 0]).abs().sum()

    with pytest.raises(InputError, match=r"Determined: has no ONNX graph: .*linalg_eigvals"):
        to_onnx(Determined(1).eval(), {"scale": "1"})


def test_half_precision_and_integers_stay_near():
    """A network whose result is near its input, as a trained one's is."""
    torch.manual_seed(0)
    network = build_backbone(BackboneChoice(name="fsrcnn", channels=8, shrunk_channels=4, mappings=1), 2).eval()
    graph = to_onnx(network, {"scale": "2", "told": "yes"})
    photograph = skimage.data.astronaut()[:96, 160:256]
    image = torch.from_numpy(photograph / np.float32(255)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        whole = network(image)
    near = {}
    for name, model in (("half", halved(graph)), ("integers", quantised(graph, [photograph]))):
        session = OnnxNetwork(to_bytes(model), threads=1)
        near[name] = (session(image) - whole).abs().max().item()
        assert session.facts == {"scale": "2", "told": "yes"}
    assert 0 < near["half"] < 2e-3 < near["integers"] < 0.1
    assert {node.data_type for node in halved(graph).graph.initializer} <= {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = SmallProject(tmp_path_factory.mktemp("export"))
    project.test_images()
    project.network("student.safetensors", STUDENT, seed=1)
    project.network("teacher.safetensors", TEACHER)
    project.params["export"] = {"crops": 3, "crop_side": 16}
    project.params["datasets"] = {"mine": {"source": "photos", "clean": ["*.png"]}}
    files = [{"url": "file:a", "licence": "mine alone"}, {"url": "file:b"}]
    project.params["sources"] = {"photos": {"files": files}, "others": {"files": files}}
    project.params["collections"]["sr"] = {"training": ["mine"], "validation": ["mine"], "test": ["mine"]}
    run(project)
    return project


def run(project, output="output"):
    folder = project.folder
    (folder / "params.yaml").write_text(yaml.safe_dump(project.params))
    paths = {name: folder / name for name in ("manifest", "raw", "speed")}
    paths |= {name: folder / f"{name}.safetensors" for name in ("student", "teacher")} | {"output": folder / output}
    flags = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    params = ["--params", str(folder / "params.yaml"), "--task", "sr", "--collection", "sr"]
    with mock.patch("components.export.cost_of", lambda path, threads: MeasuredCost(path.stat().st_size, threads)):
        export(**parse(export, [*params, *flags]))


def test_the_file_says_what_it_is(project):
    model = onnx.load(project.folder / "output/student.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["task"] == "sr"
    assert facts["scale"] == "2"
    assert json.loads(facts["backbone"]) == STUDENT
    assert facts["student_sha256"] == sha256_of(project.folder / "student.safetensors")
    assert "RGB" in facts["input"]
    assert "0 to 1" in facts["input"]
    assert "clip" in facts["output"]
    assert facts["size"].startswith("any height and width")
    assert facts["licence"] == "Apache-2.0"
    assert facts["training_images"] == "photos: mine alone, none stated"
    assert [node.name for node in (*model.graph.input, *model.graph.output)] == [INPUT, OUTPUT]
    for name in ("student_float16", "student_int8"):
        other = onnx.load(project.folder / f"output/{name}.onnx")
        assert {entry.key: entry.value for entry in other.metadata_props} == facts


def test_two_exports_are_the_same_bytes_without_this_machines_paths(project):
    run(project, "again")
    files = sorted(path.name for path in (project.folder / "output").iterdir())
    assert files == ["losses.json", "student.onnx", "student_float16.onnx", "student_int8.onnx"]
    for name in files:
        content = (project.folder / "output" / name).read_bytes()
        assert content == (project.folder / "again" / name).read_bytes(), name
        assert str(project.folder).encode() not in content
        assert b"components/" not in content


def test_losses_are_those_of_the_restored_images(project):
    losses = json.loads((project.folder / "output/losses.json").read_text())
    assert set(losses) == {"torch", "student", "student_float16", "student_int8"}
    from components.images.bicubic import downscale

    for name in losses:
        path = project.folder / ("student.safetensors" if name == "torch" else f"output/{name}.onnx")
        assert losses[name]["bytes"] == path.stat().st_size
        network, measured = open_network(path, threads=1), []
        for number in (1, 2):
            clean = read_image(project.folder / f"raw/two/{number}.png")
            clean = clean[: clean.shape[0] // 2 * 2, : clean.shape[1] // 2 * 2]
            image = torch.from_numpy(downscale(clean, 2) / np.float32(255)).permute(2, 0, 1)[None]
            restored = network(image)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
            measured.append(luma_psnr(np.rint(restored).astype(np.uint8), clean))
        assert losses[name]["two"]["psnr"] == pytest.approx(np.mean(measured), abs=2e-3)
        lost = losses["torch"]["two"]["psnr"] - losses[name]["two"]["psnr"]
        assert losses[name]["two"]["lost"] == pytest.approx(lost, abs=2e-3)


def test_costs_of_student_and_teacher_are_kept_apart(project):
    speed = json.loads((project.folder / "speed").read_text())
    assert (speed["device"], speed["threads"]) == ("cpu", 1)
    found = {name: cost["seconds_per_megapixel"] for name, cost in speed["networks"].items()}
    assert sorted(found) == [
        *("student", "student_float16", "student_int8", "student_torch", "teacher", "teacher_torch")
    ]
    files = {"student_torch": "student.safetensors", "teacher_torch": "teacher.safetensors"}
    files |= {name: f"output/{name}.onnx" for name in ("student", "student_float16", "student_int8")}
    for name, path in files.items():
        assert found[name] == (project.folder / path).stat().st_size
    assert found["teacher"] > found["student"]


def test_a_cost_is_measured_in_a_process_of_its_own(project):
    """One megapixel of 8 channels of four bytes at half the size: 8 MB a layer, at least two of them."""
    cost = cost_of(project.folder / "output/student.onnx", threads=1, repeats=1)
    assert cost.seconds_per_megapixel > 0
    assert 16 < cost.megabytes_per_megapixel < 400
    with pytest.raises(RuntimeError, match="no such file"):
        cost_of(project.folder / "absent.onnx", threads=1)


@pytest.mark.parametrize("content", [b"", b"no graph", bytes(range(256)) * 40])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.onnx: (not a readable ONNX graph|an ONNX graph, but none)"):
        open_network(tmp_path / "a.onnx")


def test_a_file_cut_off_or_of_another_kind_is_refused(project, tmp_path):
    whole = (project.folder / "output/student.onnx").read_bytes()
    (tmp_path / "a.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.onnx: "):
        open_network(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="no such file"):
        open_network(tmp_path / "b.onnx")
    (tmp_path / "a.pth").touch()
    with pytest.raises(InputError, match=r"\.safetensors or \.onnx"):
        open_network(tmp_path / "a.pth")


def test_an_exported_student_restores_pictures_too(project, tmp_path):
    from PIL import Image

    from components.restore import restore

    Image.fromarray(tiny.photograph(1, 30)).save(tmp_path / "a.png")
    for name in ("student.safetensors", "output/student.onnx"):
        restore([str(tmp_path / "a.png")], project.folder / name, tmp_path / "out", suffix=name[-4:])
    one, other = (np.asarray(Image.open(path)).astype(int) for path in (tmp_path / "out").iterdir())
    assert np.abs(one - other).max() <= 1
