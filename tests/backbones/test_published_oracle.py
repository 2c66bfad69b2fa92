"""Small networks beside the official implementations, with closed-form weights and with the published ones.

`published_oracle.npz` holds, in float64, what these gave for closed-form images and weights; their parameter names and
counts, without MeanShift:

- CARN and CARN-M for one scale and for three, of nmhkahn/CARN-pytorch, commit 40d3514 (`carn/model`);
- VDSR, of twtygqyy/pytorch-vdsr, commit 514b021 (`vdsr.py`), which is given the enlarged image;
- FSRCNN, of yjn870/FSRCNN-pytorch, commit 3eaab29 (`models.py`);
- DnCNN, with batch normalisation and without, of cszn/KAIR, commit fc1732f (`models/network_dncnn.py`);
- the last layer of IDN, whose release (Zheng222/IDN-Caffe, commit 482c601) is a description and weights for Caffe: the
  layers of `IDN_x{2,3,4}_deploy.prototxt`, run one by one in numpy by `caffe_reference.py`. The names are those of its
  arrays.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from torch import Tensor, nn

from components.backbones import BACKBONES
from components.backbones.backbone import Backbone
from components.backbones.carn import Carn, CarnM
from components.backbones.cost import count_flops
from components.backbones.dncnn import DnCnn
from components.backbones.fsrcnn import Fsrcnn
from components.backbones.idn import Idn
from components.backbones.parts.luma import LumaBackbone
from components.backbones.vdsr import Vdsr
from components.backbones.weights import load_published
from components.images.bicubic_tensors import resize_batch
from components.run.errors import InputError
from tests.backbones import caffe_reference
from tests.closed_form import closed_form, parameter

pytestmark = pytest.mark.usefixtures("one_thread")

ORACLE = np.load(Path(__file__).with_name("published_oracle.npz"))
GAIN = 1.5
HDF5 = b"\x89HDF\r\n\x1a\n"
CARNS = {"carn": Carn, "carn_m": CarnM}


def image(planes: int) -> Tensor:
    return torch.from_numpy(closed_form("image", (1, planes, 10, 8), 0, 1))


def value(name: str, shape: tuple[int, ...], gain: float) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_mean"):
        return 0.1 * torch.from_numpy(closed_form(name, shape))
    return parameter(name, shape) * (gain if len(shape) == 4 else 1)


def fill(network: nn.Module, gain: float = 1) -> None:
    """Closed-form weights under the network's own names, float32; a gain so that deep networks don't fade out."""
    network.load_state_dict({key: value(key, tuple(held.shape), gain) for key, held in network.state_dict().items()})


def assert_restores(network: Backbone, given: Tensor, official: NDArray[np.float64]) -> None:
    """In float64 to rounding, in float32 within 1e-5 of the largest value."""
    largest = np.abs(official).max()
    for precision, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        ours = network.to(precision).eval()
        run = ours.restore_luma if given.shape[1] == 1 and isinstance(ours, LumaBackbone) else ours
        with torch.no_grad():
            restored = run(given.to(precision)).double().numpy()
        np.testing.assert_allclose(restored, official, rtol=0, atol=tolerance * largest)


class TestCarn:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    @pytest.mark.parametrize("name", CARNS)
    def test_restores_the_official_image_under_the_official_names(self, name: str, scale: int) -> None:
        network = CARNS[name](scale)
        fill(network)
        assert list(network.state_dict()) == ORACLE[f"{name}_x{scale}_names"].tolist()
        assert sum(held.numel() for held in network.parameters()) == ORACLE[f"{name}_x{scale}_count"]
        assert_restores(network, image(3), ORACLE[f"{name}_x{scale}"])

    @pytest.mark.parametrize("scale", [2, 3, 4])
    @pytest.mark.parametrize("name", CARNS)
    def test_takes_its_scale_out_of_a_file_for_three(self, name: str, scale: int, tmp_path: Path) -> None:
        network = CARNS[name](scale)
        enlargers = {other: CARNS[name](other).upsample["up"].state_dict() for other in (2, 3, 4)}
        shapes = {key: tuple(held.shape) for key, held in network.state_dict().items() if "upsample" not in key}
        for other, state in enlargers.items():
            shapes |= {f"upsample.up{other}.{key}": tuple(held.shape) for key, held in state.items()}
        assert shapes.keys() == set(ORACLE[f"{name}_multi_names"].tolist())
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == ORACLE[f"{name}_multi_count"]
        fixed = {f"{layer}.shifter.bias": torch.ones(3) for layer in ("sub_mean", "add_mean")}
        stored = {key: parameter(key, shape).float() for key, shape in shapes.items()}
        torch.save(fixed | stored, tmp_path / "carn.pth")
        told = load_published(network.double(), tmp_path / "carn.pth")
        assert told == f"state_dict of a .pth, multi-scale (x{scale} of x2, x3 and x4) names"
        assert_restores(network, image(3), ORACLE[f"{name}_multi_x{scale}"])

    def test_has_the_published_number_of_parameters(self) -> None:
        """Ahn et al.'s table 2 says 1,592K for CARN, 412K for CARN-M; the released CARN-M has 414,787."""
        assert [ORACLE[f"carn_x{scale}_count"] for scale in (2, 3, 4)] == [964_163, 1_148_803, 1_111_875]
        assert [ORACLE[f"{name}_multi_count"] for name in CARNS] == [1_591_939, 414_787]

    def test_a_scale_or_groups_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(InputError, match="scale 5 is not supported by carn: write 2, 3, 4 or 8"):
            Carn(5)
        with pytest.raises(InputError, match="64 channels can't be cut into 3 groups"):
            CarnM(2, groups=3)


class TestVdsr:
    def test_restores_the_official_image_under_the_official_names(self) -> None:
        network = Vdsr(1)
        fill(network, GAIN)
        assert list(network.state_dict()) == ORACLE["vdsr_names"].tolist()
        assert sum(held.numel() for held in network.parameters()) == ORACLE["vdsr_count"] == 664_704
        assert sum(held.numel() for held in Vdsr(1, bias=True).parameters()) == 665_921
        assert_restores(network, image(1), ORACLE["vdsr"])

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_restores_the_enlarged_image_whatever_the_scale(self, scale: int) -> None:
        given, whole = Vdsr(scale, channels=8, layers=4).double(), Vdsr(1, channels=8, layers=4).double()
        whole.load_state_dict(given.state_dict())
        enlarged = resize_batch(image(1), Fraction(scale))
        torch.testing.assert_close(given.restore_luma(image(1)), whole.restore_luma(enlarged), rtol=0, atol=1e-12)


class TestFsrcnn:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_restores_the_official_image_under_the_official_names(self, scale: int) -> None:
        network = Fsrcnn(scale)
        fill(network)
        assert list(network.state_dict()) == ORACLE[f"fsrcnn_x{scale}_names"].tolist()
        assert_restores(network, image(1), ORACLE[f"fsrcnn_x{scale}"])


def ends_its_reader() -> bytes:
    """A MATLAB file of version 5 with one byte wrong, a kind of numbers that there is not: scipy crashes."""
    file = io.BytesIO()
    savemat(file, {"net": np.ones((2, 3))})
    return file.getvalue().replace(b"\x09\0\0\0\x30\0\0\0", b"\x8f\0\0\0\x30\0\0\0")


def released_layers(planes: int, epsilon: float | None, first: bool, middle: bool) -> nn.Sequential:
    """A DnCNN of 5 layers of 8 channels with closed-form weights, in float64.

    Args:
        planes: of the image.
        epsilon: of batch normalisation; None for a network without.
        first: whether the first convolution has a bias.
        middle: whether the others have one.
    """
    layers: list[nn.Module] = [nn.Conv2d(planes, 8, 3, padding=1, bias=first), nn.ReLU()]
    for _ in range(3):
        layers.append(nn.Conv2d(8, 8, 3, padding=1, bias=middle))
        if epsilon is not None:
            layers.append(nn.BatchNorm2d(8, eps=epsilon))
        layers.append(nn.ReLU())
    network = nn.Sequential(*layers, nn.Conv2d(8, planes, 3, padding=1, bias=middle)).double().eval()
    fill(network, GAIN)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.mul_(0.01)  # as small as of real weights, so that epsilon counts
    return network


def write_torch(prefix: str, counted: bool) -> Callable[[nn.Sequential, Path], None]:
    """Write as the PyTorch releases do; before torch 0.4.1, batch normalisation did not count batches."""

    def write(layers: nn.Sequential, path: Path) -> None:
        state = {f"{prefix}{key}": held for key, held in layers.state_dict().items()}
        torch.save({key: held for key, held in state.items() if counted or "num_batches" not in key}, path)

    return write


def matconvnet(layers: nn.Sequential) -> Iterator[list[NDArray[np.float64]]]:
    """Weights of each layer: kernels with the last dimension left out if it is 1, deviations that include epsilon."""
    for layer in layers:
        weights = []
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            kernels = layer.weight.detach().permute(2, 3, 1, 0).numpy()
            weights = [kernels[..., 0] if kernels.shape[3] == 1 else kernels, layer.bias.detach().numpy()[:, None]]
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            moments = torch.stack([layer.running_mean, (layer.running_var + layer.eps).sqrt()], dim=1)
            weights = [*(held.detach().numpy()[:, None] for held in (layer.weight, layer.bias)), moments.numpy()]
        yield weights


def write_matlab(layers: nn.Sequential, path: Path) -> None:
    """A file of version 5."""
    cells = np.empty((1, len(layers)), object)
    for place, arrays in enumerate(matconvnet(layers)):
        weights = np.empty((1, len(arrays)), object)
        for number, array in enumerate(arrays):
            weights[0, number] = array
        cells[0, place] = {"type": "layer", "weights": weights, "stride": np.ones((1, 2))}
    savemat(path, {"net": {"layers": cells, "meta": {"sigma": 25.0}}})


def write_matlab_7_3(layers: nn.Sequential, path: Path) -> None:
    """As MATLAB writes HDF5: dimensions reversed, cells as references, texts as numbers, after 512 bytes of its own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        held = file.create_group("#refs#")

        def cell(where: h5py.Group, name: str, values: Sequence[h5py.Group | h5py.Dataset]) -> None:
            if values:
                references = np.array([[value.ref] for value in values], h5py.ref_dtype)
                where.create_dataset(name, data=references).attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                where.create_dataset(name, data=np.array([1, 0], np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)

        found = []
        for place, arrays in enumerate(matconvnet(layers)):
            layer = held.create_group(f"layer{place}")
            text = layer.create_dataset("type", data=np.array([[99], [111]], np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            cell(layer, "weights", [held.create_dataset(f"{place}_{n}", data=one.T) for n, one in enumerate(arrays)])
            found.append(layer)
        cell(file.create_group("net"), "layers", found)


# File, how it is written, epsilon, whether the first convolution and the others have a bias.
RELEASES: dict[str, tuple[str, Callable[[nn.Sequential, Path], None], float | None, tuple[bool, bool]]] = {
    "cszn/DnCNN": ("model.pth", write_torch("dncnn.", counted=True), 1e-4, (True, False)),
    "SaoYan/DnCNN-PyTorch": ("net.pth", write_torch("module.dncnn.", counted=False), 1e-5, (False, False)),
    "MatConvNet": ("sigma=25_Bnorm.mat", write_matlab, 1e-3, (True, True)),
    "MatConvNet, merged": ("sigma=25.mat", write_matlab, None, (True, True)),
    "MatConvNet, 7.3": ("sigma=25_Bnorm.mat", write_matlab_7_3, 1e-3, (True, True)),
    "MatConvNet, merged, 7.3": ("sigma=25.mat", write_matlab_7_3, None, (True, True)),
}


class TestDnCnn:
    @pytest.mark.parametrize("batch_norm", [False, True])
    @pytest.mark.parametrize("planes", ["gray", "colour"])
    def test_restores_the_official_image_under_the_official_names(self, planes: str, batch_norm: bool) -> None:
        """Of gray, the three equal planes of one stay equal."""
        label = f"dncnn{'_normalised' if batch_norm else ''}_{planes}"
        network = DnCnn(1, planes=planes, batch_norm=batch_norm)  # type: ignore[arg-type]
        fill(network, GAIN)
        assert list(network.state_dict()) == ORACLE[f"{label}_names"].tolist()
        assert sum(held.numel() for held in network.parameters()) == ORACLE[f"{label}_count"]
        given = image(1).expand(-1, 3, -1, -1) if planes == "gray" else image(3)
        assert_restores(network, given, np.broadcast_to(ORACLE[label], given.shape))

    @pytest.mark.parametrize("planes", ["gray", "colour"])
    def test_merges_batch_normalisation_on_loading(self, planes: str, tmp_path: Path) -> None:
        normalised = DnCnn(1, planes=planes, batch_norm=True)  # type: ignore[arg-type]
        merged = DnCnn(1, planes=planes).double()  # type: ignore[arg-type]
        fill(normalised, GAIN)
        torch.save(normalised.state_dict(), tmp_path / "dncnn.pth")
        told = load_published(merged, tmp_path / "dncnn.pth")
        assert told == "state_dict of a .pth, batch normalisation merged, KAIR's names"
        given = image(1).expand(-1, 3, -1, -1) if planes == "gray" else image(3)
        assert_restores(merged, given, np.broadcast_to(ORACLE[f"dncnn_normalised_{planes}"], given.shape))

    def test_a_merged_file_does_not_fit_a_network_that_normalises(self, tmp_path: Path) -> None:
        torch.save(DnCnn(1).state_dict(), tmp_path / "dncnn.pth")
        with pytest.raises(InputError, match=r"do not fit DnCnn .*missing model\.3\.weight"):
            load_published(DnCnn(1, batch_norm=True), tmp_path / "dncnn.pth")

    @pytest.mark.parametrize("planes", ["gray", "colour"])
    @pytest.mark.parametrize("batch_norm", [False, True])
    @pytest.mark.parametrize("release", RELEASES)
    def test_other_releases_do_what_their_layers_do(
        self, release: str, batch_norm: bool, planes: str, tmp_path: Path
    ) -> None:
        path, write, epsilon, (first, middle) = tmp_path / RELEASES[release][0], *RELEASES[release][1:]
        layers = released_layers(1 if planes == "gray" else 3, epsilon, first, middle)
        write(layers, path)
        network = DnCnn(1, 5, 8, planes, batch_norm).double()  # type: ignore[arg-type]
        if batch_norm and epsilon is None:
            with pytest.raises(InputError, match=r"do not fit DnCnn .*missing model\.3\.weight"):
                load_published(network, path)
            return
        load_published(network, path)
        given = image(1).expand(-1, 3, -1, -1) if planes == "gray" else image(3)
        with torch.no_grad():
            official = (given - layers(given[:, :1] if planes == "gray" else given)).numpy()
            np.testing.assert_allclose(network.eval()(given).numpy(), official, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda tensors: tensors.pop("dncnn.3.running_mean"), r"do not fit DnCnn .*missing model\."),
            (lambda tensors: tensors.update({"dncnn.2.weight": torch.ones(8, 8, 3)}), r"do not fit DnCnn .*model\."),
        ],
        ids=["without means", "of another shape"],
    )
    def test_another_releases_damaged_file_is_refused(
        self, change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
    ) -> None:
        tensors = {f"dncnn.{key}": held for key, held in released_layers(1, 1e-5, False, False).state_dict().items()}
        change(tensors)
        torch.save(tensors, tmp_path / "net.pth")
        with pytest.raises(InputError, match=message):
            load_published(DnCnn(1, 5, 8), tmp_path / "net.pth")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"MATLAB 5.0 MAT-file".ljust(300), "is not a MATLAB file, or is damaged"),
            (
                b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),
                r"is a MATLAB file of version 7\.3 \(HDF5\)",
            ),
            (HDF5.ljust(700, b"\xff"), "is not a MATLAB file, or is damaged"),
            (ends_its_reader(), "is not a MATLAB file, or is damaged"),
            (None, "no such checkpoint"),
        ],
        ids=["damaged", "7.3 without content", "7.3 damaged", "ends its reader", "missing"],
    )
    def test_a_matlab_file_that_can_not_be_read_is_refused(
        self, content: bytes | None, message: str, tmp_path: Path
    ) -> None:
        if content is not None:
            (tmp_path / "net.mat").write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_published(DnCnn(1, 5, 8), tmp_path / "net.mat")

    def test_a_bomb_is_refused_before_it_is_read(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "net.mat", "w") as file:
            file.create_dataset("net", (1 << 17, 1 << 17), np.float64, chunks=(64, 64), compression="gzip")
        with pytest.raises(InputError, match="refused as a bomb: unpacked, it has more than 100 times its size"):
            load_published(DnCnn(1, 5, 8), tmp_path / "net.mat")

    def test_gray_leaves_what_differs_from_gray_as_it_is(self) -> None:
        torch.manual_seed(0)
        network, coloured = DnCnn(1, layers=4, channels=8).double(), image(3)
        change = network(coloured) - coloured
        torch.testing.assert_close(change, change[:, :1].expand(-1, 3, -1, -1), rtol=0, atol=1e-12)
        level = (coloured * torch.tensor([0.299, 0.587, 0.114]).double().view(1, 3, 1, 1)).sum(1, keepdim=True)
        alone = network(level.expand(-1, 3, -1, -1)) - level
        torch.testing.assert_close(change, alone, rtol=0, atol=1e-9)

    def test_black_is_0_and_white_is_1(self) -> None:
        """Not the studio range of luma: a network of zeros gives the image back, and sees what it is given."""
        network = DnCnn(1, layers=3, channels=1)
        with torch.no_grad():
            for held in network.parameters():
                held.zero_()
            network.model[0].weight[0, 0, 1, 1] = 1
        levels = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(-1, 3, 2, -1)
        seen = network.enter(levels).features
        torch.testing.assert_close(seen, levels[:, :1], rtol=0, atol=1e-6)


# Multiply-adds for 1280x720 in the table of CARN's README.
COSTS = {
    ("carn", 2): 222.8e9,
    ("carn", 3): 118.8e9,
    ("carn", 4): 90.9e9,
    ("carn_m", 2): 91.2e9,
    ("carn_m", 3): 46.1e9,
    ("carn_m", 4): 32.5e9,
    ("vdsr", 2): 612.6e9,
    ("vdsr", 3): 612.6e9,
    ("vdsr", 4): 612.6e9,
}


@pytest.mark.parametrize(("name", "scale"), COSTS)
def test_costs_what_is_published(name: str, scale: int) -> None:
    with torch.device("meta"):
        network = BACKBONES[name](scale)
    assert count_flops(network) == pytest.approx(COSTS[name, scale], rel=0.002)


def test_dncnn_costs_its_weights_at_every_pixel() -> None:
    """555,137 parameters, of which 1,025 are biases."""
    assert count_flops(DnCnn(1)) == 554_112 * 720 * 1280


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_idn_costs_its_weights_at_every_pixel_of_its_input(scale: int) -> None:
    """551,040 of convolutions; 1.7 % below the 32.3 G of its successors' tables at x4, which count more than those."""
    assert count_flops(Idn(scale)) == 551_040 * -(-720 // scale) * -(-1280 // scale)


def idn_from_arrays(scale: int, arrays: dict[str, NDArray[np.float32]], path: Path) -> Idn:
    np.savez(path, **arrays)
    network = Idn(scale).double()
    assert load_published(network, path) == "arrays of a .npz, Caffe's names"
    return network.eval()


def assert_is_the_releases(network: Idn, luma: Tensor, last_layer: NDArray[np.float64], tolerance: float) -> None:
    """The release adds the last layer to the enlarged image, of which it leaves out scale - 1 rows and columns."""
    hidden = network.scale - 1
    enlarged = resize_batch(luma.double(), Fraction(network.scale))[0, 0, hidden:, hidden:].numpy()
    with torch.no_grad():
        restored = network.restore_luma(luma)[0, 0].double().numpy()
    assert restored.shape == tuple(side * network.scale for side in luma.shape[-2:])
    np.testing.assert_allclose(restored[hidden:, hidden:], enlarged + last_layer[0], rtol=0, atol=tolerance)


class TestIdn:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_restores_the_image_of_the_description_for_caffe(self, scale: int, tmp_path: Path) -> None:
        shapes = {name: tuple(held.shape) for name, held in caffe_names(Idn(scale)).items()}
        assert shapes.keys() == set(ORACLE["idn_names"].tolist())
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == 552_769
        words = {"0": "weight", "1": "bias"}
        arrays = {name: parameter(f"{name[:-1]}{words[name[-1]]}", shape).numpy() for name, shape in shapes.items()}
        network = idn_from_arrays(scale, arrays, tmp_path / "idn.npz")
        last = ORACLE[f"idn_x{scale}"]
        largest = float(np.abs(last).max())
        assert_is_the_releases(network, image(1), last, 1e-9 * largest)
        assert_is_the_releases(network.float(), image(1).float(), last, 1e-5 * largest)

    @pytest.mark.datasets
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_with_the_published_weights_too(self, scale: int, tmp_path: Path) -> None:
        if "CHECKPOINTS_DIR" not in os.environ:
            pytest.skip("CHECKPOINTS_DIR does not name the folder of idn_x2.npz and IDN_x2_deploy.prototxt, x3 and x4")
        folder = Path(os.environ["CHECKPOINTS_DIR"])
        arrays = dict(np.load(folder / f"idn_x{scale}.npz", allow_pickle=False))
        network = idn_from_arrays(scale, arrays, tmp_path / "idn.npz")
        luma = torch.from_numpy(closed_form("luma", (1, 1, 9, 11), 0.1, 0.9))
        description = (folder / f"IDN_x{scale}_deploy.prototxt").read_text()
        last = caffe_reference.run(description, arrays, luma[0].numpy())
        assert_is_the_releases(network, luma, last, 1e-9)
        assert_is_the_releases(network.float(), luma.float(), last, 1e-5)

    def test_what_can_not_be_cut_into_quarters_of_groups_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"24 channels can't be cut .*write a multiple of 16"):
            Idn(2, channels=24)
        with pytest.raises(InputError, match="scale 9 is not supported by idn: write 1 to 8"):
            Idn(9)


def caffe_names(network: Idn) -> dict[str, Tensor]:
    """Our tensors under Caffe's names, written down from its description."""
    named = {}
    for key, held in network.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        if layer.startswith("blocks."):
            _, block, *inside = layer.split(".")
            layer = f"conv{int(block) + 3}_{int(inside[1]) + 1}" if inside[0] == "conv" else f"down{int(block) + 1}"
        named[f"{layer}.{('weight', 'bias').index(kind)}"] = held
    return named
