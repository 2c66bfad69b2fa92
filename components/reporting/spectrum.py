"""What a student lost against its teacher, by frequency: radially averaged spectra of errors.

For two images A and B in luma, `H W`, 16..235, the power of their difference at frequency f, in cycles per pixel, is

    P(f) = |F(A - B)(f)|^2 / (H W)^2,

where F is the discrete Fourier transform, so that the sum over all f is the mean squared error (Parseval). A band holds
all f whose length |f| lies between its ends, in any direction; its power is their sum, whose root is a distance in
levels of luma. The spectra of a set are the means over its images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.images.manifest import Entry
from components.images.metrics import to_luma
from components.reporting.findings import Contender, Findings
from components.reporting.places import read_restored
from components.tasks.task import Image

BANDS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Ends of the bands in cycles per pixel; the last band reaches the corners, at 0.71."""
RINGS = 24
"""Rings of the curves, from 0 to 0.5 cycles per pixel, the finest stripes along an axis."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Error of one network, as the mean over the test images.

    Attributes:
        bands: power of its difference from the clean image by band, in squared levels.
        to_teacher: the same for its difference from the teacher's image.
        rings: mean power density by ring, of its difference from the clean image; 0 if no image has frequencies there.
        rings_to_teacher: the same for its difference from the teacher's image.
    """

    bands: tuple[float, ...]
    to_teacher: tuple[float, ...]
    rings: tuple[float, ...]
    rings_to_teacher: tuple[float, ...]


def spectra(
    findings: Findings, entries: Iterable[Entry], read_original: Callable[[Entry], Image]
) -> dict[str, Spectrum]:
    """Spectrum of each student and the teacher, by name.

    Args:
        findings: the networks and where their images lie.
        entries: the test images to use.
        read_original: reads the clean image of an entry, in the size of the restored ones.
    """
    networks: tuple[Contender, ...] = (*findings.students, findings.teacher)
    found: dict[str, list[tuple[Values, ...]]] = {one.name: [] for one in networks}
    for entry in entries:
        clean, teacher = to_luma(read_original(entry)), to_luma(read_restored(findings.teacher, entry))
        for network in networks:
            luma = teacher if network is findings.teacher else to_luma(read_restored(network, entry))
            found[network.name].append((*radial(luma - clean), *radial(luma - teacher)))
    return {name: _mean(values) for name, values in found.items()}


def radial(difference: Values) -> tuple[Values, Values]:
    """Power by band (sums), and by ring (means over the frequencies in it), of a difference `H W`."""
    height, width = difference.shape
    power = np.abs(np.fft.fft2(difference)) ** 2 / (height * width) ** 2
    length = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.fftfreq(width)).ravel()
    bands, _ = np.histogram(length, BANDS, weights=power.ravel())
    ends = np.linspace(0, 0.5, RINGS + 1)
    counts, _ = np.histogram(length, ends)
    rings, _ = np.histogram(length, ends, weights=power.ravel())
    # Times the number of pixels: a density, which does not depend on the image's size.
    return bands, rings / np.maximum(counts, 1) * height * width


def _mean(values: list[tuple[Values, ...]]) -> Spectrum:
    bands, rings, to_teacher, rings_to_teacher = (
        tuple(float(value) for value in np.mean(part, axis=0)) for part in zip(*values, strict=True)
    )
    return Spectrum(bands, to_teacher, rings, rings_to_teacher)
