"""Super-resolution from MATLAB-bicubic low resolution, measured on luma."""

from typing import Literal

import numpy as np

from components.images.bicubic import downscale, upscale
from components.images.metrics import crop_border, psnr, ssim, to_luma
from components.images.pixels import Degraded, to_bytes
from components.run.errors import InputError
from components.tasks.task import Image, Task


class SuperResolution(Task):
    """Enlarge by a whole factor.

    Protocol of the field (BasicSR's convention): the restored image is rounded to 8 bits, `scale` pixels are cropped
    from each side, PSNR and SSIM are computed on unrounded luma Y.

    Args:
        scale: 2, 3, 4 or 8.
        gray: trains on gray images with the luma of the photographs, as in published luma networks (FSRCNN, VDSR,
            IDN, PISR): red, green and blue are equal, so the L1 of RGB is the L1 of luma in 16..235 times
            255/219. They are made from the 8-bit colours and not rounded again. Nothing else changes: test images
            keep their colours, and the protocol measures luma anyway.
    """

    packed = True

    def __init__(self, scale: Literal[2, 3, 4, 8], gray: bool = False) -> None:
        if scale not in {2, 3, 4, 8}:
            raise InputError(f"super-resolution by {scale} is not supported: write scale 2, 3, 4 or 8")
        self.scale, self.gray = scale, gray
        self.protocol = f"luma Y, 8 bits, {scale} pixels cropped from each side"

    def crop(self, clean: Image) -> Image:
        """Cut to a multiple of the scale."""
        height, width = (side - side % self.scale for side in clean.shape[:2])
        return clean[:height, :width]

    def degrade(self, clean: Image, random: np.random.Generator) -> Image:  # noqa: ARG002 - nothing is drawn
        """MATLAB's antialiased bicubic reduction."""
        return downscale(clean, self.scale)

    def baseline(self, degraded: Degraded) -> Image:
        """MATLAB's bicubic enlargement."""
        return upscale(to_bytes(degraded), self.scale)

    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        """PSNR in dB and SSIM on luma, inside the border; a clean image larger than the restored one is cropped."""
        clean = clean[: restored.shape[0], : restored.shape[1]]
        first, second = (to_luma(crop_border(image, self.scale)) for image in (restored, clean))
        return {"psnr": psnr(first, second), "ssim": ssim(first, second)}
