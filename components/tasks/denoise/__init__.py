"""Denoising: white Gaussian noise that is drawn, or real noise from pairs of photographs."""

from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from components.images.metrics import PEAK, psnr, ssim, volume_ssim
from components.images.pixels import Degraded, to_float
from components.run.errors import InputError
from components.tasks.ranges import Amounts
from components.tasks.task import EqualSize, Image

Level = Annotated[float, Field(ge=0, le=PEAK)]


class Denoising(EqualSize):
    """Remove noise.

    Gaussian noise is drawn for every training crop, and for test images as published (Restormer, SwinIR, KAIR): with
    `np.random.seed(0)` set anew for each image, N(0, (sigma/255)^2) is added to float32 in [0, 1], neither clipped nor
    rounded. The restored image is rounded to 8 bits; PSNR is on RGB. SSIM is BasicSR's, the mean over the channels; the
    papers report none.

    Without `sigma` the noise is real (SIDD): every image has a noisy file. SSIM is then MATLAB's, of the volume, as in
    SIDD's tables. Restormer and NAFNet measure before rounding, we measure after it.

    Args:
        sigma: standard deviation of the noise in levels of 255: one, or the ends of the range from which each training
            crop draws its own (a blind network: [0, 50]).
        test_sigma: the same for test and validation images; by default `sigma`, which must then not be a range.
        gray: makes the images gray first: luma rounded to 8 bits, three equal planes with equal noise. Scores are those
            of one plane. Noisy files must already be gray.
    """

    packed = False

    def __init__(
        self, sigma: Level | Amounts | None = None, test_sigma: Level | None = None, gray: bool = False
    ) -> None:
        low, high = sigma if isinstance(sigma, tuple) else (sigma or 0.0, sigma or 0.0)
        if sigma is None and (gray or test_sigma is not None):
            raise InputError("sigma: missing; real noise, only from files, allows neither `gray` nor `test_sigma`.")
        if test_sigma is None and low < high:
            raise InputError(f"test_sigma: missing; sigma is a range, [{low:g}, {high:g}]: write one for the test.")
        self._range, self._gray = (low, high), gray
        self._real = sigma is None
        self.degrades = not self._real
        self._test_sigma = high if test_sigma is None else test_sigma
        colours = "gray" if gray else "RGB"
        self.protocol = (
            f"{colours}, 8 bits, real noise; SSIM of the volume"
            if self._real
            else f"{colours}, 8 bits, noise of sigma {self._test_sigma:g}, not clipped; SSIM averaged over channels"
        )

    def crop(self, clean: Image) -> Image:
        """The whole image, gray if `gray` is set."""
        return _gray(clean) if self._gray else clean

    def degrade(self, clean: Image, random: np.random.Generator) -> Degraded:
        """Draw the strength that training uses, then add noise of it."""
        self._refuse_real()
        low, high = self._range
        sigma = low if low == high else random.uniform(low, high)
        noise = random.standard_normal(self._shape(clean), dtype=np.float32)
        noise *= np.float32(sigma / PEAK)
        return np.add(to_float(clean), noise)

    def degrade_for_test(self, clean: Image, random: np.random.Generator) -> Degraded:  # noqa: ARG002 - as published
        """Add the published noise: the same for images of the same size, whatever `random` is."""
        self._refuse_real()
        published = np.random.RandomState(0)
        noise = published.normal(0, self._test_sigma / PEAK, self._shape(clean))
        return (to_float(clean) + noise).astype(np.float32)

    def measure(self, restored: Image, clean: Image) -> dict[str, float]:
        """PSNR in dB and SSIM on RGB."""
        similarity = volume_ssim if self._real else ssim
        return {"psnr": psnr(restored, clean), "ssim": similarity(restored, clean)}

    def _shape(self, clean: Image) -> tuple[int, int, int]:
        return (*clean.shape[:2], 1 if self._gray else 3)

    def _refuse_real(self) -> None:
        if self._real:
            raise InputError(
                "the task denoise has no `sigma`, so it makes no noise: write one, or datasets with `degraded` files."
            )


def _gray(image: Image) -> Image:
    """Luma from black 0 to white 255 on three planes, rounded as by `cv2.imread` in gray mode."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
