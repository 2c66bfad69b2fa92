"""The two images of one entry of the manifest, as a task works on them."""

from pathlib import Path

from components.images.files import read_image
from components.images.manifest import Entry
from components.run.errors import InputError
from components.tasks.task import Image, Task


def read_clean(entry: Entry, raw: Path, task: Task) -> Image:
    """The clean image.

    Raises:
        InputError: a broken image.
    """
    return task.crop(read_image(raw / entry.clean))


def read_degraded(entry: Entry, raw: Path, clean: Image, task: Task) -> Image:
    """The degraded file of an entry that has one.

    Raises:
        InputError: a broken image, or its size is not the clean image's divided by the task's scale.
    """
    degraded = read_image(raw / entry.degraded)
    wanted = clean.shape[0] // task.scale, clean.shape[1] // task.scale
    if degraded.shape[:2] != wanted:
        raise InputError(
            f"{raw / entry.degraded}: {_described(degraded.shape)}, but its clean partner {raw / entry.clean} has "
            f"{_described(clean.shape)}: at scale {task.scale} it must have {_described(wanted)}."
        )
    return degraded


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
