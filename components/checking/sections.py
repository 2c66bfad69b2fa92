"""Every section of params.yaml with its type: what a key may be called, and what its value may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.build_lmdb import Packing
from components.export import Calibration
from components.images.datasets import Collection, Dataset, EntryName, Source
from components.methods import MethodChoice
from components.report import Report
from components.reporting.publication import Publication
from components.run.errors import InputError, unknown_name
from components.run.params import PARAMS_FILE, Run, typed
from components.run.step import named
from components.tasks import TaskChoice, build_task
from components.tasks.task import Task
from components.train_encoder import EncoderRecipe
from components.train_ensemble import EnsembleRecipe
from components.train_privileged_teacher import PrivilegedRecipe
from components.training.networks import Student, Teacher
from components.validate import Validation

WHOLE: dict[str, Any] = {"run": Run, "validate": Validation, "export": Calibration}
"""Sections that are values themselves."""

BY_NAME: dict[str, Any] = {
    "sources": Source,
    "datasets": Dataset,
    "collections": Collection,
    "tasks": TaskChoice,
    "packings": Packing,
    "teachers": Teacher,
    "ensembles": EnsembleRecipe,
    "encoders": EncoderRecipe,
    "students": Student,
    "privileged_teachers": PrivilegedRecipe,
    "methods": MethodChoice,
    "publications": Publication,
    "reports": Report,
}
"""Sections that hold entries by name."""


@dataclass(frozen=True)
class Project:
    """The values of params.yaml, all of them typed.

    Attributes:
        sections: values of `WHOLE` by section, mappings of entries by section of `BY_NAME`.
    """

    sections: Mapping[str, Any]

    @property
    def run(self) -> Run:
        """What the run covers."""
        found: Run = self.sections["run"]
        return found

    def entry(self, section: str, name: str) -> Any:
        """An entry that `names` found."""
        return self.sections[section][name]

    def restoration(self, task: str) -> Task:
        """A task of the run, built."""
        return build_task(self.entry("tasks", task))


def read_project(values: Mapping[str, Any]) -> Project:
    """Type the whole of params.yaml.

    Raises:
        InputError: one line for each section or key that is unknown or missing, and each value that does not fit.
    """
    known = {**WHOLE, **BY_NAME}
    faults = [_unknown(str(name), known) for name in values if name not in known]
    faults += [f"{PARAMS_FILE}: {name}: missing; write the section." for name in known if name not in values]
    found: dict[str, Any] = {}
    for name in known:
        if name not in values:
            continue
        where = f"{PARAMS_FILE}: {name}"
        try:
            if name in WHOLE:
                found[name] = typed(WHOLE[name], values[name], where)
                continue
            entries = typed(dict[EntryName, Any], values[name], where)
        except InputError as error:
            faults.append(str(error))
            continue
        found[name] = {}
        for entry, value in entries.items():
            try:
                found[name][entry] = typed(BY_NAME[name], named(BY_NAME[name], value, entry), f"{where}.{entry}")
            except InputError as error:
                faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))
    return Project(found)


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    hint = " A preset is laid over the file by `python -m pipeline preset NAME`." if "preset" in name else ""
    return f"{unknown_name(f'{PARAMS_FILE}: sections', name, known)}{hint}"
