"""All that can be known of a project before anything of it runs, from its files alone."""

from collections.abc import Iterator

from components.checking import names, sizes
from components.checking.networks import Networks
from components.checking.sections import Project, read_project
from components.dependencies.lists import GRAPH_FILE, refuse_stale
from components.run.errors import InputError
from components.run.params import MethodsByNeed, read_params


def refuse_faults() -> None:
    """Refuse the project in the working directory if a stage of its run must fail.

    Raises:
        InputError: one line for each fault, of the first kind that has any: later kinds would repeat it.
    """
    params = read_params()
    project = read_project(params)
    for kind in (names.missing_entries, names.misfits, _sizes, _networks):
        if faults := list(dict.fromkeys(kind(project))):
            raise InputError("\n".join(faults))
    if GRAPH_FILE.is_file():
        refuse_stale(GRAPH_FILE.read_text(encoding="utf-8"), params)


def _sizes(project: Project) -> Iterator[str]:
    for task in project.run.tasks:
        yield from sizes.misfits(project, task)


def _networks(project: Project) -> Iterator[str]:
    for task in project.run.tasks:
        networks = Networks(project, task)
        yield from sizes.network_misfits(project, networks, task)
        for group in MethodsByNeed.model_fields:
            for name in getattr(project.run.methods, group):
                method = networks.method(name, group)
                if method:
                    yield from sizes.batch_misfits(project, task, name, method)
        yield from networks.faults
