"""What the small networks' published weights reach here, next to what is published for them.

Each is measured twice: by this project's protocol (`components/tasks/sr.py`: 8-bit colour images in and out, the
benchmarks' own low resolution), and by its release's own, which explains what differs between the first and the
published figure. Run it from the project's folder: `python -m benchmarks.published_weights`; it takes minutes per
network (`--networks` chooses).
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.backbones.parts.luma import LumaBackbone
from components.backbones.weights import load_published
from components.fetching.archives import unpack
from components.images.bicubic_tensors import resize_batch
from components.images.files import read_image
from components.images.metrics import crop_border, psnr, to_luma
from components.tasks import TaskChoice, build_task
from components.tasks.evaluation import network_restorer
from components.tasks.task import Image, Task

Values = NDArray[np.float64]

SETS = ("Set5", "Set14")
DENOISING = TaskChoice.model_validate({"name": "denoise", "sigma": 25, "gray": True})


class PublishedNetwork(NamedTuple):
    """A network with published weights.

    Attributes:
        files: name of the file at each scale.
        release: PSNR of a clean image by the release's protocol, from the network, the clean and the degraded image
            and the scale; None where it is this project's.
        published: mean PSNR by scale and set, and its source.
    """

    files: dict[int, str]
    release: Callable[[Backbone, Image, Image, int], float] | None
    published: dict[tuple[int, str], tuple[float, str]]


def task(scale: int) -> Task:
    """Super-resolution by a scale: this project's protocol."""
    return build_task(TaskChoice.model_validate({"name": "sr", "scale": scale}))


def restored_luma(network: Backbone, luma: Values) -> Values:
    """Luma of 0..255 -> restored luma of 0..255, neither rounded nor clipped."""
    if not isinstance(network, LumaBackbone):
        raise TypeError(f"{type(network).__name__} restores no luma")
    with torch.inference_mode():
        restored = network.restore_luma(planes(luma).float() / 255)
    values: Values = restored[0, 0].double().numpy() * 255
    return values


def planes(values: Values) -> Tensor:
    """`H W` -> `1 1 H W`, float64."""
    return torch.from_numpy(values)[None, None]


def matlab_reduced(luma: Values, scale: int) -> Values:
    """MATLAB's bicubic reduction of an image of doubles, which is not rounded."""
    values: Values = resize_batch(planes(luma), Fraction(1, scale))[0, 0].numpy()
    return values


def script_luma(clean: Image) -> Values:
    """Luma as MATLAB scripts take it: of a gray image the image itself, in 0..255 instead of luma's 16..235.

    Its error is 255/219 as large, 1.32 dB, which lowers the mean of Set14 by 0.09 dB (`bridge` is gray).
    """
    gray = np.ptp(clean, axis=2).max() == 0
    return clean[..., 0].astype(np.float64) if gray else to_luma(clean)


def by_pillow(network: Backbone, clean: Image, _: Image, scale: int) -> float:
    """FSRCNN by yjn870: clean image resized to a multiple, reduced by Pillow, its luma, no border, nothing rounded."""
    height, width = (side // scale for side in clean.shape[:2])
    large = Pillow.fromarray(clean).resize((width * scale, height * scale), Pillow.Resampling.BICUBIC)
    small = large.resize((width, height), Pillow.Resampling.BICUBIC)
    target, given = (np.array(image) @ np.array([64.738, 129.057, 25.064]) / 256 + 16 for image in (large, small))
    return psnr(np.clip(restored_luma(network, given), 0, 255), target)


def by_unrounded_luma(network: Backbone, clean: Image, _: Image, scale: int) -> float:
    """VDSR by twtygqyy: luma of doubles, cut to multiples of 2, then 3, then 4, reduced and never rounded."""
    for factor in range(2, scale + 1):
        clean = task(factor).crop(clean)
    target = script_luma(clean)
    restored = np.clip(restored_luma(network, matlab_reduced(target, scale)), 0, 255)
    return psnr(crop_border(restored, scale), crop_border(target, scale))


def by_rounded_luma(network: Backbone, clean: Image, _: Image, scale: int) -> float:
    """IDN by Zheng222: luma rounded to 8 bits, its reduction not rounded, the restored one rounded.

    How it reads Set14's gray `bridge` is not known: as three planes, here, the means are 0.1 dB above the published
    ones at every scale; as one plane, 0.1 below. Three planes whose error is measured in levels of gray would fit.
    """
    target = np.rint(to_luma(task(scale).crop(clean)))
    restored = np.rint(np.clip(restored_luma(network, matlab_reduced(target, scale)), 0, 255))
    return psnr(crop_border(restored, scale), crop_border(target, scale))


def by_cut_bytes(network: Backbone, clean: Image, degraded: Image, scale: int) -> float:
    """CARN by nmhkahn: as here, but the image is cut, not rounded, to 8 bits, and MATLAB rounds the luma of bytes."""
    with torch.inference_mode():
        image = torch.from_numpy(degraded).permute(2, 0, 1)[None].float() / 255
        restored = (network(image)[0].permute(1, 2, 0).double().numpy() * 255).clip(0, 255).astype(np.uint8)
    pair = (restored, task(scale).crop(clean))
    first, second = (np.rint(to_luma(crop_border(each, scale))) for each in pair)
    return psnr(first, second)


CARN, IDN, FSRCNN = "CARN's README", "IDN-tensorflow's README", "yjn870's README"
OWN_CODE = "its own code, this protocol"
NETWORKS = {
    "fsrcnn": PublishedNetwork(
        {scale: f"fsrcnn_x{scale}.pth" for scale in (2, 3, 4)},
        by_pillow,
        {
            (2, "Set5"): (37.12, FSRCNN),
            (3, "Set5"): (33.22, FSRCNN),
            (4, "Set5"): (30.50, FSRCNN),
            (2, "Set14"): (32.63, CARN),
            (3, "Set14"): (29.43, CARN),
            (4, "Set14"): (27.59, CARN),
        },
    ),
    "vdsr": PublishedNetwork(
        dict.fromkeys((2, 3, 4), "vdsr_multiscale.npz"),
        by_unrounded_luma,
        {
            **{(scale, "Set5"): (value, "twtygqyy's README") for scale, value in ((2, 37.65), (3, 33.77), (4, 31.45))},
            (2, "Set14"): (33.03, CARN),
            (3, "Set14"): (29.77, CARN),
            (4, "Set14"): (28.01, CARN),
        },
    ),
    "idn": PublishedNetwork(
        {scale: f"idn_x{scale}.npz" for scale in (2, 3, 4)},
        by_rounded_luma,
        {
            (2, "Set5"): (37.83, IDN),
            (3, "Set5"): (34.11, IDN),
            (4, "Set5"): (31.82, IDN),
            (2, "Set14"): (33.30, IDN),
            (3, "Set14"): (29.99, IDN),
            (4, "Set14"): (28.25, IDN),
        },
    ),
    "carn_m": PublishedNetwork(
        dict.fromkeys((2, 3, 4), "carn_m.pth"),
        by_cut_bytes,
        {
            (2, "Set5"): (37.53, CARN),
            (3, "Set5"): (33.99, CARN),
            (4, "Set5"): (31.92, CARN),
            (2, "Set14"): (33.26, CARN),
            (3, "Set14"): (30.08, CARN),
            (4, "Set14"): (28.42, CARN),
        },
    ),
    "rlfn": PublishedNetwork(
        {scale: f"rlfn_x{scale}.pth" for scale in (2, 4)},
        None,
        {
            (2, "Set5"): (38.066, OWN_CODE),
            (2, "Set14"): (33.718, OWN_CODE),
            (4, "Set5"): (32.238, OWN_CODE),
            (4, "Set14"): (28.620, OWN_CODE),
        },
    ),
    "span": PublishedNetwork(
        {4: "span_x4.pth"}, None, {(4, "Set5"): (31.739, OWN_CODE), (4, "Set14"): (28.401, OWN_CODE)}
    ),
    "efdn": PublishedNetwork(
        {4: "efdn_x4.pth"}, None, {(4, "Set5"): (32.08, "its paper"), (4, "Set14"): (28.58, "its paper")}
    ),
}


def main() -> None:
    """Measure the networks that are asked for, and print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, default=os.environ.get("CHECKPOINTS_DIR"), help="folder of weights")
    parser.add_argument("--datasets", type=Path, default=os.environ.get("DATASETS_DIR"), help="folder of archives")
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, "dncnn"], default=[*NETWORKS, "dncnn"])
    flags = parser.parse_args()
    if flags.checkpoints is None or flags.datasets is None:
        parser.error("name the folders by --checkpoints and --datasets, or by CHECKPOINTS_DIR and DATASETS_DIR")
    with tempfile.TemporaryDirectory() as folder:
        images = unpacked(flags.datasets, Path(folder))
        print("| network | set | here | release's protocol | published | from |")
        print("|---|---|---|---|---|---|")
        for name in flags.networks:
            if name == "dncnn":
                print_row("dncnn, sigma 25", "CBSD68, gray", *dncnn(flags.checkpoints, images), 29.23, "its README")
            else:
                table(name, flags.checkpoints, images)


def unpacked(archives: Path, folder: Path) -> Path:
    """Unpack the benchmarks' images."""
    for name in (*SETS, "CBSD68"):
        unpack(archives / f"{name}.tar", folder, f"{name}.tar")
    return folder


def load(name: str, scale: int, path: Path) -> Backbone:
    """A network of the table with published weights."""
    network = build_backbone(BackboneChoice.model_validate({"name": name}), scale)
    load_published(network, path)
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # much faster on a CPU
    return network


def pairs(images: Path, dataset: str, scale: int) -> Iterator[tuple[Image, Image]]:
    """Clean and degraded images of a set."""
    for path in sorted((images / dataset / "HR").glob("*.png")):
        yield read_image(path), read_image(images / dataset / f"LR_bicubic/X{scale}" / f"{path.stem}x{scale}.png")


def table(name: str, checkpoints: Path, images: Path) -> None:
    """Print the rows of one network."""
    entry = NETWORKS[name]
    for scale, file in entry.files.items():
        network = load(name, scale, checkpoints / file)
        restorer, protocol = network_restorer(network), task(scale)
        for dataset in SETS:
            here, release = [], []
            for clean, degraded in pairs(images, dataset, scale):
                here.append(protocol.measure(restorer(degraded), protocol.crop(clean))["psnr"])
                if entry.release:
                    release.append(entry.release(network, clean, degraded, scale))
            print_row(f"{name} x{scale}", dataset, here, release or here, *entry.published[scale, dataset])


def dncnn(checkpoints: Path, images: Path) -> tuple[list[float], list[float]]:
    """PSNR of gray CBSD68 at sigma 25: by this project's protocol, and as its release (KAIR) measures, before rounding.

    KAIR reads gray images that MATLAB made from colours; OpenCV, used here, rounds a few pixels to another level.
    """
    network, protocol = load("dncnn", 1, checkpoints / "dncnn_25_gray.pth"), build_task(DENOISING)
    restorer, unused = network_restorer(network), np.random.default_rng(0)
    here, release = [], []
    for path in sorted((images / "CBSD68").glob("*.png")):
        clean = protocol.crop(read_image(path))
        noisy = protocol.degrade_for_test(clean, unused)
        here.append(protocol.measure(restorer(noisy), clean)["psnr"])
        with torch.inference_mode():
            restored = network(torch.from_numpy(noisy).permute(2, 0, 1)[None])[0, 0].double().numpy()
        release.append(psnr(np.clip(restored, 0, 1) * 255, clean[..., 0].astype(np.float64)))
    return here, release


def print_row(
    network: str, dataset: str, here: Sequence[float], release: Sequence[float], published: float, source: str
) -> None:
    """One row of the table."""
    means = (f"{statistics.fmean(scores):.3f}" for scores in (here, release))
    print(f"| {network} | {dataset} | {' | '.join(means)} | {published:.3f} | {source} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
