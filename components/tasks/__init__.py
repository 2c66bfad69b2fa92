"""Restoration tasks, one per file. To add one, add its file and a line here."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import model_validator

from components.run.params import Choice, build, fits
from components.tasks.deblur import Deblurring
from components.tasks.denoise import Denoising
from components.tasks.derain import Deraining
from components.tasks.sr import SuperResolution
from components.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "sr": SuperResolution,
    "denoise": Denoising,
    "derain": Deraining,
    "deblur": Deblurring,
}


class TaskChoice(Choice):
    """A task of the table and its arguments, checked."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits(TASKS, self)
        build("tasks", TASKS, self)  # what a signature can't express, a task checks when it is built
        return self


def build_task(choice: TaskChoice, raw: Path | None = None) -> Task:
    """Build the task that params name.

    Args:
        choice: the task and its arguments.
        raw: folder of fetched sources, given by steps that degrade whole images; the task reads what it needs there.

    Raises:
        InputError: a file that the task needs is missing or is not what it should be.
    """
    task = build("tasks", TASKS, choice)
    if raw is not None:
        task.prepare(raw)
    return task
