"""Published weights of small networks reach the published scores, through the project's own protocol.

The whole table is `python -m benchmarks.published_weights`; what differs from the published figures is explained there.
"""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.published_weights import by_unrounded_luma
from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.backbones.weights import load_published
from components.images.files import read_image
from components.images.metrics import psnr, quantise
from components.tasks.evaluation import network_restorer
from components.tasks.sr import SuperResolution

pytestmark = pytest.mark.datasets


@pytest.fixture(scope="module")
def checkpoints() -> Path:
    if "CHECKPOINTS_DIR" not in os.environ:
        pytest.skip("CHECKPOINTS_DIR does not name the folder of idn_x4.npz, carn_m.pth and their kin")
    return Path(os.environ["CHECKPOINTS_DIR"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Set5.tar and CBSD68.tar")
    folder = tmp_path_factory.mktemp("images")
    for name in ("Set5", "CBSD68"):
        with tarfile.open(Path(os.environ["DATASETS_DIR"], f"{name}.tar")) as archive:
            archive.extractall(folder, filter="data")
    return folder


def published(name: str, scale: int, path: Path) -> Backbone:
    network = build_backbone(BackboneChoice.model_validate({"name": name}), scale)
    load_published(network, path)
    return network.eval().to(memory_format=torch.channels_last)


def scores(network: Backbone, images: Path, names: tuple[str, ...] = ("*",)) -> float:
    """Mean PSNR on Set5, or on the images named."""
    scale = network.scale
    task, restorer = SuperResolution(scale), network_restorer(network)  # type: ignore[arg-type]
    found = []
    for path in sorted(path for name in names for path in (images / "Set5" / "HR").glob(f"{name}.png")):
        degraded = read_image(images / "Set5" / f"LR_bicubic/X{scale}" / f"{path.stem}x{scale}.png")
        found.append(task.measure(restorer(degraded), task.crop(read_image(path)))["psnr"])
    return float(np.mean(found))


# Zheng222/IDN-tensorflow's README (which has the paper's figures), and the table in CARN's. The released CARN-M is not
# the table's: it has 414,787 parameters, the table's 412K.
@pytest.mark.parametrize(
    ("name", "file", "expected", "tolerance"),
    [("idn", "idn_x4.npz", 31.82, 0.02), ("carn_m", "carn_m.pth", 31.92, 0.05)],
)
def test_set5_x4(name: str, file: str, expected: float, tolerance: float, checkpoints: Path, images: Path) -> None:
    assert scores(published(name, 4, checkpoints / file), images) == pytest.approx(expected, abs=tolerance)


# What twtygqyy/pytorch-vdsr, commit 514b021, gives for its own butterfly (`Set5_mat`, `eval.py`).
BUTTERFLY = {2: 34.72220, 3: 30.02494, 4: 27.36889}


def test_vdsr_of_one_file_at_every_scale(checkpoints: Path, images: Path) -> None:
    """As there by the release's protocol; images of 8 bits, as here, cost it up to 0.2 dB."""
    clean = read_image(images / "Set5/HR/butterfly.png")
    for scale, expected in BUTTERFLY.items():
        network = published("vdsr", scale, checkpoints / "vdsr_multiscale.npz")
        assert by_unrounded_luma(network, clean, clean, scale) == pytest.approx(expected, abs=0.01)
    here = scores(network, images, ("butterfly",))
    assert expected - 0.2 < here < expected


def noisy(path: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Three equal planes of a gray crop with noise of sigma 25, and the clean gray crop."""
    gray = np.rint(read_image(path)[100:260, 100:260] @ np.array([0.298936, 0.587043, 0.114021]))
    noise = np.random.RandomState(0).normal(0, 25 / 255, gray.shape)
    return torch.from_numpy(gray / 255 + noise).float().expand(1, 3, -1, -1), gray


def test_dncnn_takes_the_noise_off_gray_images(checkpoints: Path, images: Path) -> None:
    """From 20.2 dB to about BSD68's 29.23 dB; three crops are no benchmark."""
    network = published("dncnn", 1, checkpoints / "dncnn_25_gray.pth")
    found = []
    for name in ("0005", "0010", "0020"):
        given, gray = noisy(images / "CBSD68" / f"{name}.png")
        with torch.no_grad():
            restored = network(given)[0, 0].double().numpy()
        found.append(psnr(quantise(restored).astype(np.float64), gray))
    assert np.mean(found) == pytest.approx(29.23, abs=1.5)


@pytest.mark.parametrize(
    ("name", "file", "scale"),
    [("idn", "idn_x4.npz", 4), ("vdsr", "vdsr_multiscale.npz", 4), ("carn_m", "carn_m.pth", 4)],
)
def test_bf16_costs_less_than_a_fiftieth_of_a_db(
    name: str, file: str, scale: int, checkpoints: Path, images: Path
) -> None:
    network = published(name, scale, checkpoints / file)
    clean = SuperResolution(4).crop(read_image(images / "Set5/HR/butterfly.png"))
    degraded = read_image(images / "Set5/LR_bicubic/X4/butterflyx4.png")
    restorer = network_restorer(network)
    single = restorer(degraded)
    with torch.autocast("cpu", torch.bfloat16):
        half = restorer(degraded)
    measure = SuperResolution(4).measure
    assert not np.array_equal(single, half)
    assert measure(half, clean)["psnr"] == pytest.approx(measure(single, clean)["psnr"], abs=0.02)


def test_bf16_costs_dncnn_less_than_a_fiftieth_of_a_db(checkpoints: Path, images: Path) -> None:
    """Where 29 dB are reached; smooth images, at 37 dB, lose 0.06."""
    network = published("dncnn", 1, checkpoints / "dncnn_25_gray.pth")
    given, gray = noisy(images / "CBSD68/0020.png")
    with torch.no_grad():
        single = network(given)[0, 0].double().numpy()
        with torch.autocast("cpu", torch.bfloat16):
            half = network(given)[0, 0].double().numpy()
    assert psnr(half * 255, gray) == pytest.approx(psnr(single * 255, gray), abs=0.02)
