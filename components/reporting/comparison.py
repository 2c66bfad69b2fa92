"""Side by side: the chosen places as restored by every network, and how far each is from the clean image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from components.images.metrics import to_luma
from components.reporting.findings import Findings
from components.reporting.pictures import Picture, error_map, error_scale, photograph
from components.reporting.places import Place, read_clean, read_restored
from components.reporting.wording import decibels
from components.tasks.task import Image

_OVERVIEW = 160
"""Longest side of the small picture that shows where a place lies."""


@dataclass(frozen=True)
class Panel:
    """One picture of a row.

    Attributes:
        name: of the network, `degraded` or `clean`.
        below: its PSNR, or what the picture is.
        picture: the place.
        under: the error map; for the degraded image, an overview of where the place lies; None for the clean one.
    """

    name: str
    below: str
    picture: Picture
    under: Picture | None


@dataclass(frozen=True)
class Comparison:
    """One place: what it shows, and its panels from degraded to clean."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Side:
    """All comparisons, and the one scale of their error maps.

    Attributes:
        comparisons: one per place.
        largest: error, in levels of luma (of 219), from which an error map has its lightest colour.
        scale: the colours of that scale.
    """

    comparisons: tuple[Comparison, ...]
    largest: float
    scale: Picture


@dataclass(frozen=True)
class _Cuts:
    """A place cut out of all images."""

    place: Place
    degraded: Image
    clean: Image
    overview: Image
    restored: dict[str, Image]
    errors: dict[str, NDArray[np.float64]]


def compare(findings: Findings, places: Sequence[Place], raw: Path) -> Side:
    """Cut the places out of every image, and draw all error maps on one scale.

    Error: absolute difference from the clean image in luma Y, 16..235. The common scale ends at the 99th percentile of
    all errors shown, rounded up to 5 levels, so that a few pixels do not darken the rest.
    """
    cuts = [_cut(findings, place, raw) for place in places]
    errors = np.concatenate([error.ravel() for cut in cuts for error in cut.errors.values()])
    largest = 5.0 * max(1, math.ceil(float(np.percentile(errors, 99)) / 5))
    comparisons = tuple(_comparison(findings, cut, largest, number) for number, cut in enumerate(cuts, 1))
    return Side(comparisons, largest, error_scale("error_scale.png", largest))


def _cut(findings: Findings, place: Place, raw: Path) -> _Cuts:
    degraded, clean = read_clean(findings, place.entry, raw)
    scale = findings.task.scale
    part = place.cut(clean)
    restored = {one.name: place.cut(read_restored(one, place.entry)) for one in findings.contenders}
    return _Cuts(
        place=place,
        degraded=place.cut(degraded, scale).repeat(scale, axis=0).repeat(scale, axis=1),
        clean=part,
        overview=_overview(clean, place),
        restored=restored,
        errors={name: np.abs(to_luma(image) - to_luma(part)) for name, image in restored.items()},
    )


def _comparison(findings: Findings, cut: _Cuts, largest: float, number: int) -> Comparison:
    place, scale = cut.place, findings.task.scale
    where = f"rows {place.top} to {place.top + place.height}, columns {place.left} to {place.left + place.width}"
    title = f"{place.entry.key}, {where}"
    file = f"place_{number}"
    small = f"nearest pixel, x{scale}" if scale > 1 else "input"
    panels = [
        Panel(
            "degraded",
            small,
            photograph(f"{file}_degraded.png", cut.degraded, f"{title}: degraded"),
            photograph(f"{file}_overview.png", cut.overview, f"{place.entry.key}: the whole image, the place framed"),
        )
    ]
    for index, (name, image) in enumerate(cut.restored.items(), 1):
        psnr = f"{decibels(findings.task.measure(image, cut.clean)['psnr'])} dB"
        error = cut.errors[name]
        told = f"{title}: error of {name}, {error.mean():.2f} levels on average"
        panels.append(
            Panel(
                name,
                psnr,
                photograph(f"{file}_{index}.png", image, f"{title}: {name}, {psnr}"),
                error_map(f"{file}_{index}_error.png", error, largest, told),
            )
        )
    panels.append(Panel("clean", "the original", photograph(f"{file}_clean.png", cut.clean, f"{title}: clean"), None))
    return Comparison(title, tuple(panels))


def _overview(clean: Image, place: Place) -> Image:
    shrink = max(1.0, max(clean.shape[:2]) / _OVERVIEW)
    height, width = (round(length / shrink) for length in clean.shape[:2])
    small: Image = np.ascontiguousarray(cv2.resize(clean, (width, height), interpolation=cv2.INTER_AREA))
    first = (round(place.left / shrink), round(place.top / shrink))
    last = (round((place.left + place.width) / shrink) - 1, round((place.top + place.height) / shrink) - 1)
    cv2.rectangle(small, first, last, (0, 0, 0), 3)
    cv2.rectangle(small, first, last, (255, 255, 255), 1)
    return small
