"""Rain drawn over photographs: streaks at several distances, and the veil that distant rain forms."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.run.params import Params
from components.tasks.ranges import Amounts, Angles, Shares

_AIR = 200.0
"""Level of the veil: the light gray of an overcast sky."""
_SUBPIXELS = 4  # bits
_SHADES = 4


class Rain(Params):
    """How it rains; every image draws anew from each range.

    Attributes:
        angle: of the streaks in degrees from the vertical, positive to the right.
        length: of the nearest streaks in pixels.
        width: of the nearest streaks in pixels.
        density: nearest streaks per 1000 pixels.
        brightness: what the nearest streaks add, as a fraction of white, 0..1.
        depth: layers of distance. In layer k (1 the nearest), streaks are k times shorter, thinner and fainter, and
            there are k times as many.
        veil: share of the light that comes from the veil, 0..1.
    """

    angle: Angles = (-30.0, 30.0)
    length: Amounts = (15.0, 40.0)
    width: Amounts = (1.0, 2.0)
    density: Amounts = (1.0, 6.0)
    brightness: Shares = (0.2, 0.6)
    depth: int = Field(default=3, ge=1, le=10)
    veil: Shares = (0.0, 0.2)


def draw_rain(image: NDArray[np.uint8], rain: Rain, random: np.random.Generator) -> NDArray[np.uint8]:
    """Let it rain: `H W 3` -> `H W 3`, 0..255.

    Our own, on the heavy-rain model of Yang et al., "Deep Joint Rain Detection and Removal from a Single Image", 2017,
    equation 3: `(1 - veil) (clean + sum of the layers) + veil * air`, rounded and clipped. Streaks of a layer are
    parallel lines that begin anywhere in and around the image.
    """
    angle, length, width, density, brightness, veil = (
        random.uniform(*each)
        for each in (rain.angle, rain.length, rain.width, rain.density, rain.brightness, rain.veil)
    )
    streaks = np.zeros(image.shape[:2], np.float32)
    for layer in range(1, rain.depth + 1):
        drawn = _layer((image.shape[0], image.shape[1]), angle, length / layer, width / layer, density * layer, random)
        streaks += np.float32(brightness / layer) * drawn
    rained = (1 - veil) * (image + streaks[..., None]) + veil * _AIR
    rounded: NDArray[np.uint8] = np.rint(np.clip(rained, 0, 255)).astype(np.uint8)
    return rounded


def _layer(
    size: tuple[int, int], angle: float, length: float, width: float, density: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one layer, 0..255: lines of about the given length and angle (a degree or two off), in several shades."""
    reach = 0.75 * length
    height, breadth = (side + 2 * reach for side in size)
    count = int(random.poisson(density * height * breadth / 1000))
    middle = random.uniform(-reach, (breadth - reach, height - reach), (count, 2))
    slant = np.radians(angle + random.normal(0, 1, count))
    half = random.uniform(0.25, 0.75, count) * length
    along = np.stack([half * np.sin(slant), half * np.cos(slant)], axis=1)
    ends = np.rint(np.stack([middle - along, middle + along], axis=1) * (1 << _SUBPIXELS)).astype(np.int32)
    # A line is at least a pixel wide; a thinner one is fainter instead.
    brightest, thickness = 255 * min(width, 1.0), max(1, round(width))
    canvas = np.zeros(size, np.uint8)
    for shade, lines in enumerate(np.array_split(ends, _SHADES), start=1):  # brighter over fainter ones
        level = round(brightest * shade / _SHADES)
        cv2.polylines(canvas, list(lines), False, level, thickness, cv2.LINE_AA, _SUBPIXELS)
    return np.asarray(cv2.GaussianBlur(canvas, (3, 3), 0), np.uint8)
