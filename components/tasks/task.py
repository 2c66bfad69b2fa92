"""A restoration task: what degrades an image, and the one protocol by which restored images are measured."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.images.pixels import Degraded, to_bytes

Image = NDArray[np.uint8]
"""`H W 3`, RGB, 0..255."""


class Task(ABC):
    """One restoration task.

    The protocol belongs to the task, so that a PSNR on luma is never compared with one on RGB by accident.
    Clean and restored images are uint8. Degraded ones may be floating point (`components.images.pixels.Degraded`):
    noise that was never stored is neither clipped nor rounded, and networks must not see it otherwise.

    Attributes:
        scale: clean size over degraded size; 1 for tasks of equal size.
        packed: whether the degraded images are made once, when the LMDB is built (True; they are uint8 then), or drawn
            for every crop.
        degrades: whether it can degrade at all; otherwise every image needs a degraded file.
        margin: degraded pixels around a training crop that `degrade` needs to see, so that a crop is degraded as it
            would be within its image; they are cut off afterwards.
        protocol: one line for the report: what PSNR and SSIM are computed on.
        gray: whether training crops are made gray, in floating point.
    """

    packed: bool
    scale: int
    protocol: str
    gray: bool = False
    degrades: bool = True
    margin: int = 0

    def prepare(self, raw: Path) -> None:  # noqa: B027 - most tasks need no file
        """Read what the task needs from the fetched sources in `raw` (motion kernels) before it can degrade.

        Raises:
            InputError: a file is missing or is not what it should be.
        """

    @abstractmethod
    def crop(self, clean: Image) -> Image:
        """The part of a clean image that the task uses: the largest it can degrade, top left; gray if the task is."""

    @abstractmethod
    def degrade(self, clean: Image, random: np.random.Generator) -> Degraded:
        """Degrade a clean image: `H W 3` -> `H/scale W/scale 3`. Only random tasks use `random`.

        Raises:
            InputError: the task has no degradation of its own; its images come in pairs.
        """

    def degrade_for_test(self, clean: Image, random: np.random.Generator) -> Degraded:
        """Degrade an image to be measured: as the protocol says, or as in training if it does not say how."""
        return self.degrade(clean, random)

    @abstractmethod
    def baseline(self, degraded: Degraded) -> Image:
        """Restore an image without any learning (bicubic upsampling, or the input itself)."""

    @abstractmethod
    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        """Scores `{"psnr": dB, "ssim": 0..1}` of one restored image by the task's published protocol.

        Raises:
            InputError: the two images differ in size.
        """


class EqualSize(Task):
    """A task whose degraded image has the size of the clean one: its baseline is the input, rounded to 8 bits."""

    scale = 1

    def crop(self, clean: Image) -> Image:
        """The whole image."""
        return clean

    def baseline(self, degraded: Degraded) -> Image:
        """The input itself."""
        return to_bytes(degraded)
