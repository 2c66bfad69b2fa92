"""Restoration tasks, one a file. To add one: its file and a line here."""

from collections.abc import Callable

from components.tasks.sr import SuperResolution
from components.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "sr": SuperResolution,
}
