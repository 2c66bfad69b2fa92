"""The two images of one entry of the manifest, as a task works on them."""

from pathlib import Path

from components.images.files import read_image
from components.images.manifest import Entry
from components.images.picture_files import refuse_no_file
from components.run.errors import InputError
from components.run.files import sha256_of
from components.tasks.task import Image, Task


def refuse_changed(entry: Entry, raw: Path) -> None:
    """Compare the clean file with the manifest.

    Raises:
        InputError: it is missing, damaged, or another one than `validate` saw.
    """
    path = raw / entry.clean
    refuse_no_file(path)
    if (found := sha256_of(path)) != entry.sha256:
        read_image(path)  # says so if it is damaged
        raise _other(path, f"its sha256 is {found}, not {entry.sha256}")


def read_clean(entry: Entry, raw: Path, task: Task) -> Image:
    """The clean image.

    Raises:
        InputError: a broken image, or not of the size that the manifest says.
    """
    image = read_image(raw / entry.clean)
    if image.shape[:2] != (entry.height, entry.width):
        raise _other(
            raw / entry.clean, f"it has {_described(image.shape)}, not {_described((entry.height, entry.width))}"
        )
    return task.crop(image)


def _other(path: Path, why: str) -> InputError:
    return InputError(f"{path}: is not the file of the manifest: {why}. Run `validate` again, or fetch the file again.")


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
