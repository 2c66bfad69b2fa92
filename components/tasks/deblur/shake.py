"""Camera shake: random paths of a camera during the exposure, drawn as motion kernels."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from components.run.params import Params
from components.tasks.deblur.kernels import Kernel
from components.tasks.ranges import Amounts

_STEPS = 128


class Shake(Params):
    """How a hand shakes a camera; every kernel draws anew from each range.

    Attributes:
        size: side of the kernel in pixels, odd; longer paths are shrunk to fit.
        length: of the path in pixels.
        impulses: expected number of sudden reversals in an exposure.
        tremor: standard deviation of the random change of velocity per step, relative to speed; 0 draws straight lines.
        pull: of the hand back to its start: change of velocity per step at the kernel's edge, relative to speed.
    """

    size: int = Field(default=25, ge=3, le=255)
    length: Amounts = (5.0, 40.0)
    impulses: Amounts = (0.0, 2.0)
    tremor: Amounts = (0.0, 0.3)
    pull: Amounts = (0.0, 0.3)

    @field_validator("size")
    @classmethod
    def _is_odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"a kernel needs a middle: write an odd number, {size - 1} or {size + 1}")
        return size


def draw_kernel(shake: Shake, random: np.random.Generator) -> Kernel:
    """Draw one kernel: `size size`, sum 1, its centre of mass in the middle so that nothing is shifted.

    The path is our own, after Boracchi and Foi, "Modeling the Performance of Image Restoration From Motion Blur", 2012,
    section III: a particle of constant speed whose velocity has inertia and is changed by Gaussian tremor, by a pull
    back to the start, and by rare impulses that nearly reverse it. Every part of the path is exposed for equally long.
    """
    points = _path(shake, random)
    points -= points.mean(axis=0)
    reach = (shake.size - 3) / 2
    points *= min(1.0, reach / max(float(np.abs(points).max()), 1e-9))
    return _drawn(points + shake.size // 2, shake.size)


def _path(shake: Shake, random: np.random.Generator) -> NDArray[np.float64]:
    """Positions `steps 2` in pixels."""
    length, impulses, tremor, pull = (
        random.uniform(*each) for each in (shake.length, shake.impulses, shake.tremor, shake.pull)
    )
    changes = tremor * (random.standard_normal(_STEPS) + 1j * random.standard_normal(_STEPS))
    turns = np.where(
        random.random(_STEPS) < impulses / _STEPS, np.exp(1j * (np.pi + random.uniform(-0.5, 0.5, _STEPS))), 0
    )
    step, pull = length / _STEPS, 2 * pull / shake.size
    velocity, position = complex(np.exp(2j * np.pi * random.random())), 0j
    positions = []
    for change, turn in zip(changes.tolist(), turns.tolist(), strict=True):
        velocity += change - pull * position + 2 * velocity * turn
        velocity /= abs(velocity) or 1.0
        position += step * velocity
        positions.append(position)
    path = np.array(positions)
    return np.stack([path.imag, path.real], axis=1)


def _drawn(points: NDArray[np.float64], size: int) -> Kernel:
    """Distribute each point over the four pixels around it."""
    corners = np.floor(points).astype(np.intp)
    (down, right) = (points - corners).T
    kernel = np.zeros(size * size)
    for row, rows in ((0, 1 - down), (1, down)):
        for column, columns in ((0, 1 - right), (1, right)):
            places = (corners[:, 0] + row) * size + corners[:, 1] + column
            kernel += np.bincount(places, rows * columns, size * size)
    return kernel.reshape(size, size) / len(points)
