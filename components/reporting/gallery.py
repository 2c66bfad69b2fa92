"""The gallery: whole test images as restored by every network, for the page's viewer to lay over one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.images.manifest import Entry
from components.reporting.findings import Findings, Quality
from components.reporting.pictures import Picture, whole_photograph
from components.reporting.places import choose_places, read_clean, read_restored
from components.reporting.wording import decibels, similarity
from components.tasks.task import Image
from components.telemetry.progress import progress


@dataclass(frozen=True)
class Limits:
    """How much of a test set the page holds.

    Attributes:
        images: largest number of images.
        side: a larger image is cut to a window of this many clean pixels a side.
        megabytes: no further image is taken once the page's pictures would exceed this.
    """

    images: int
    side: int
    megabytes: float


@dataclass(frozen=True)
class View:
    """One version of an image: its name, its PSNR and SSIM on the whole image if measured, and its pixels."""

    name: str
    psnr: str
    ssim: str
    picture: Picture


@dataclass(frozen=True)
class Shot:
    """One test image, or a window of it, from degraded to clean.

    Attributes:
        key: `dataset/name`.
        part: which part of it is shown; empty if all of it.
        width: in clean pixels.
        height: likewise.
        views: degraded, baseline, students, teacher, clean.
    """

    key: str
    part: str
    width: int
    height: int
    views: tuple[View, ...]


@dataclass(frozen=True)
class Gallery:
    """The images, and the rule by which they were chosen."""

    shots: tuple[Shot, ...]
    rule: str


def make_gallery(findings: Findings, limits: Limits, raw: Path) -> Gallery:
    """Choose test images by the rule, beginning with those on which the students lost most against the teacher."""
    shots: list[Shot] = []
    size = 0.0
    wanted = findings.worst_first[: limits.images]
    for number, entry in enumerate(progress(wanted, "gallery", len(wanted)), 1):
        shot = _shot(findings, entry, limits.side, raw, number)
        # Base64 takes four letters for three bytes.
        size += sum(len(view.picture.data) for view in shot.views) * 4 / 3 / 1e6
        if shots and size > limits.megabytes:
            break
        shots.append(shot)
    return Gallery(tuple(shots), _rule(findings, shots, limits))


def _rule(findings: Findings, shots: Sequence[Shot], limits: Limits) -> str:
    total = len(findings.tested)
    if len(shots) == total:
        taken = f"All {total} test images" if total > 1 else "The one test image"
    else:
        taken = (
            f"{len(shots)} of {total} test images, those on which the students lost most against the teacher (at most "
            f"{limits.images} images and about {limits.megabytes:g} MB)"
        )
    cut = ""
    if any(shot.part for shot in shots):
        cut = f"; an image of more than {limits.side} pixels a side is cut to where the networks differ most"
    return f"{taken}{cut}. Pictures are lossless WebP: every pixel is the one that was measured."


def _shot(findings: Findings, entry: Entry, side: int, raw: Path, number: int) -> Shot:
    (place,) = choose_places(findings, 1, side, [entry])
    degraded, clean = read_clean(findings, entry, raw)
    whole = (place.height, place.width) == clean.shape[:2]
    part = (
        ""
        if whole
        else f"rows {place.top} to {place.top + place.height}, columns {place.left} to {place.left + place.width}"
    )
    shown = place.cut(degraded, findings.task.scale)
    cuts: list[tuple[str, Quality | None, Image]] = [("degraded", None, shown)]
    cuts += [(one.name, one.images[entry.key], place.cut(read_restored(one, entry))) for one in findings.contenders]
    cuts.append(("clean", None, place.cut(clean)))
    views = tuple(
        _view(name, quality, image, f"gallery_{number}_{index}.webp", entry)
        for index, (name, quality, image) in enumerate(cuts)
    )
    return Shot(entry.key, part, place.width, place.height, views)


def _view(name: str, quality: Quality | None, image: Image, file: str, entry: Entry) -> View:
    scores = (decibels(quality.psnr), similarity(quality.ssim)) if quality else ("", "")
    return View(name, *scores, whole_photograph(file, image, f"{entry.key}: {name}"))
