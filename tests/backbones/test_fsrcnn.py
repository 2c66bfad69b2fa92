"""FSRCNN: its counts, its published weights, and the scores that they reach."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.backbones.cost import count_flops, count_parameters
from components.backbones.fsrcnn import Fsrcnn
from components.backbones.weights import load_published
from components.images.bicubic import downscale
from components.images.files import read_image
from components.tasks.evaluation import network_restorer
from components.tasks.sr import SuperResolution


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_has_the_published_number_of_parameters_at_every_scale(scale: int) -> None:
    assert count_parameters(Fsrcnn(scale)) == 12_809
    assert count_parameters(Fsrcnn(scale, slopes="shared")) == 12_644


def test_is_fsrcnn_56_12_4_unless_told_otherwise() -> None:
    shapes = [tuple(value.shape) for value in Fsrcnn(2).parameters() if value.dim() == 4]
    assert shapes == [(56, 1, 5, 5), (12, 56, 1, 1), *[(12, 12, 3, 3)] * 4, (56, 12, 1, 1), (56, 1, 9, 9)]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_costs_its_weights_at_every_pixel_of_the_luma_alone(scale: int) -> None:
    """12,464 weights of convolutions (table 1 of the paper: without slopes and biases)."""
    pixels = -(-720 // scale) * -(-1280 // scale)
    assert count_flops(Fsrcnn(scale)) == 12_464 * pixels


@pytest.fixture(scope="module")
def checkpoints() -> Path:
    if "CHECKPOINTS_DIR" not in os.environ:
        pytest.skip("CHECKPOINTS_DIR does not name the folder of fsrcnn_x2.pth, fsrcnn_x3.pth and fsrcnn_x4.pth")
    return Path(os.environ["CHECKPOINTS_DIR"])


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "DATASETS_DIR" not in os.environ:
        pytest.skip("DATASETS_DIR does not name the folder of Set5.tar and Set14.tar")
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("Set5", "Set14"):
        with tarfile.open(Path(os.environ["DATASETS_DIR"], f"{name}.tar")) as archive:
            archive.extractall(folder, filter="data")
    return folder


def published(checkpoints: Path, scale: int) -> Fsrcnn:
    network = Fsrcnn(scale)
    load_published(network, checkpoints / f"fsrcnn_x{scale}.pth")
    return network.eval()


# On Set5 yjn870's README; on Set14 FSRCNN's row in ASSL's tables, of other weights. What still differs there: borders,
# coefficients of luma, the low resolution (PIL's bicubic) and rounding.
SCORES = {(2, "Set5"): (37.12, 0.03), (4, "Set5"): (30.50, 0.03), (2, "Set14"): (32.63, 0.15)}


@pytest.mark.datasets
class TestPublishedWeights:
    @pytest.mark.parametrize(("scale", "dataset"), SCORES)
    def test_reach_the_published_scores(self, scale: int, dataset: str, checkpoints: Path, benchmarks: Path) -> None:
        task, restorer = SuperResolution(scale), network_restorer(published(checkpoints, scale))  # type: ignore[arg-type]
        scores = []
        for path in sorted((benchmarks / dataset / "HR").glob("*.png")):
            degraded = read_image(benchmarks / dataset / f"LR_bicubic/X{scale}/{path.stem}x{scale}.png")
            scores.append(task.measure(restorer(degraded), task.crop(read_image(path)))["psnr"])
        expected, tolerance = SCORES[scale, dataset]
        assert np.mean(scores) == pytest.approx(expected, abs=tolerance)

    def test_of_x3_reach_theirs_where_images_are_made_a_multiple_as_there(
        self, checkpoints: Path, benchmarks: Path
    ) -> None:
        """By resizing the clean images to it, which smoothes them, not by a crop; only bird is one of 3 by itself."""
        task, restorer = SuperResolution(3), network_restorer(published(checkpoints, 3))
        resized: list[float] = []
        cropped: list[float] = []
        for path in sorted((benchmarks / "Set5" / "HR").glob("*.png")):
            image = read_image(path)
            size = (image.shape[1] // 3 * 3, image.shape[0] // 3 * 3)
            smooth = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
            for clean, scores in ((smooth, resized), (task.crop(image), cropped)):
                scores.append(task.measure(restorer(downscale(clean, 3)), clean)["psnr"])
        assert np.mean(resized) == pytest.approx(33.22, abs=0.05)
        assert np.mean(cropped) < np.mean(resized) - 0.5

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_have_our_names(self, scale: int, checkpoints: Path) -> None:
        stored = torch.load(checkpoints / f"fsrcnn_x{scale}.pth", map_location="cpu", weights_only=True)
        network = published(checkpoints, scale)
        assert network.state_dict().keys() == stored.keys()
        assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())
