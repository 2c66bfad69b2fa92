"""Deraining: pairs of images, or rain drawn over clean ones; measured on luma."""

from typing import Literal

import numpy as np

from components.images.metrics import psnr, ssim, to_luma, to_rounded_luma
from components.run.errors import InputError
from components.tasks.derain.rain import Rain, draw_rain
from components.tasks.task import EqualSize, Image

_LUMA = {"rounded": to_rounded_luma, "float": to_luma}


class Deraining(EqualSize):
    """Remove rain.

    Protocol of the Rain13K tables (Test100, Rain100H, Rain100L, Test2800, Test1200): PSNR and Wang's SSIM on luma Y of
    the image rounded to 8 bits, no border cropped.

    Args:
        luma: `rounded` to whole levels, as by MATLAB's `rgb2ycbcr` of uint8 in the scripts of MPRNet and Restormer,
            whose tables papers copy; or `float`, unrounded as in Python evaluations (including DCKD's, judging by its
            teacher's score), which scores a little higher.
        rain: draws rain over clean images that have no rainy file, anew for every training crop.
    """

    packed = False

    def __init__(self, luma: Literal["rounded", "float"] = "rounded", rain: Rain | None = None) -> None:
        self._luma, self._rain = _LUMA[luma], rain
        self.degrades = rain is not None
        kind = "rounded to 8 bits" if luma == "rounded" else "not rounded"
        self.protocol = f"luma Y {kind}, of 8-bit images; no border cropped"

    def degrade(self, clean: Image, random: np.random.Generator) -> Image:
        """Draw rain over an image."""
        if self._rain is None:
            raise InputError(
                "the task derain has no `rain`, so it makes none: write `rain: {}`, or datasets with `degraded` files."
            )
        return draw_rain(clean, self._rain, random)

    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        """PSNR in dB and SSIM on luma."""
        first, second = self._luma(restored), self._luma(clean)
        return {"psnr": psnr(first, second), "ssim": ssim(first, second)}
