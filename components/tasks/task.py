"""A restoration task: what degrades an image, and the one protocol by which restored images are measured."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""`H W 3`, RGB, 0..255."""


class Task(ABC):
    """One restoration task.

    The protocol belongs to the task, so that a PSNR on luma is never compared with one on RGB by accident.

    Attributes:
        scale: clean size over degraded size; 1 for tasks of equal size.
        packed: whether the degraded images are made once, when the LMDB is built (True), or drawn for every crop.
        protocol: one line for the report: what PSNR and SSIM are computed on.
        gray: whether training crops are made gray, in floating point.
    """

    packed: ClassVar[bool]
    scale: int
    protocol: str
    gray: bool = False

    @abstractmethod
    def crop(self, clean: Image) -> Image:
        """Cut a clean image to the largest size that the task can degrade (a multiple of the scale), top left."""

    @abstractmethod
    def degrade(self, clean: Image, random: np.random.Generator) -> Image:
        """Degrade a clean image: `H W 3` -> `H/scale W/scale 3`. Only tasks that are random use `random`."""

    @abstractmethod
    def baseline(self, degraded: Image) -> Image:
        """Restore an image without any learning (bicubic upsampling, or the input itself)."""

    @abstractmethod
    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        """Scores `{"psnr": dB, "ssim": 0..1}` of one restored image by the task's published protocol.

        Raises:
            InputError: the two images differ in size.
        """
