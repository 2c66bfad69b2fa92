"""Deblurring: pairs of images, or clean ones blurred by motion kernels; measured on RGB."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.images.metrics import psnr, volume_ssim
from components.run.errors import InputError
from components.tasks.deblur.kernels import Kernel, blur, read_kernels
from components.tasks.deblur.shake import Shake, draw_kernel
from components.tasks.task import EqualSize, Image


class Deblurring(EqualSize):
    """Remove motion blur.

    Protocol of the GoPro and HIDE tables: the image rounded to 8 bits, no border cropped, PSNR on RGB, and MATLAB's
    SSIM of the volume `H W 3` (`components.images.metrics.volume_ssim`).

    Clean images without a blurry file can be blurred by kernels from files when the image store is built: the kernels
    are few, training steps need not read them, and whole images are blurred (the packing's `variants` applies several
    kernels to each). Or random camera shake is drawn for every training crop, which is cut with its surroundings: no
    kernel is seen twice, at ten times the cost of a slice of the store.

    Args:
        kernels: files of motion kernels, each SOURCE/FILE (`.mat` or a gray image); their sources are named in the
            collection's `kernels`, unless a dataset names them.
        shake: draws random kernels instead.
        noise: standard deviation of the read noise that is added to the blurred image before it is rounded, in levels.
    """

    def __init__(
        self,
        kernels: tuple[str, ...] = (),
        shake: Shake | None = None,
        noise: Annotated[float, Field(ge=0, le=255)] = 0.0,
    ) -> None:
        if kernels and shake:
            raise InputError("shake: kernels are already given; write either `kernels` or `shake`.")
        self._files, self._shake, self._noise = kernels, shake, noise
        self._kernels: list[Kernel] = []
        self.packed = bool(kernels)
        self.degrades = bool(kernels) or shake is not None
        self.margin = shake.size // 2 if shake else 0
        self.protocol = "RGB, 8 bits; SSIM of the volume"

    def prepare(self, raw: Path) -> None:
        """Read the kernels."""
        self._kernels = [kernel for file in self._files for kernel in read_kernels(raw / file)]

    def degrade(self, clean: Image, random: np.random.Generator) -> Image:
        """Blur by one kernel, add read noise, round to 8 bits."""
        blurred = blur(clean, self._kernel(random))
        if self._noise:
            blurred += np.float32(self._noise) * random.standard_normal(blurred.shape, dtype=np.float32)
        return np.rint(np.clip(blurred, 0, 255)).astype(np.uint8)

    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        """PSNR in dB and SSIM on RGB."""
        return {"psnr": psnr(restored, clean), "ssim": volume_ssim(restored, clean)}

    def _kernel(self, random: np.random.Generator) -> Kernel:
        if self._shake:
            return draw_kernel(self._shake, random)
        if not self._kernels:
            raise InputError(
                "the task deblur has neither `kernels` nor `shake`, so it makes no blur: write `shake: {}`, or "
                "datasets with `degraded` files."
            )
        return self._kernels[int(random.integers(len(self._kernels)))]
