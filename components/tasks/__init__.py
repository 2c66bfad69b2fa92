"""Restoration tasks, one a file. To add one: its file and a line here."""

from collections.abc import Callable
from typing import Self

from pydantic import model_validator

from components.run.params import Choice, build, fits
from components.tasks.sr import SuperResolution
from components.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "sr": SuperResolution,
}


class TaskChoice(Choice):
    """A task of the table and its arguments, checked."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits(TASKS, self)
        return self


def build_task(choice: TaskChoice) -> Task:
    """Build the task that params name."""
    return build("tasks", TASKS, choice)
