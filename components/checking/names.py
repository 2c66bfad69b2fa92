"""Every section of params.yaml against the others: what one names, another must define."""

from collections.abc import Iterable, Iterator, Mapping

from components.checking.sections import Project
from components.fetching.sources import stored_name
from components.images.datasets import Collection, Source
from components.run.errors import InputError, unknown_name
from components.run.params import PARAMS_FILE
from components.train_ensemble import MAIN

BY_TASK = (
    "collections",
    "packings",
    "teachers",
    "ensembles",
    "encoders",
    "students",
    "privileged_teachers",
    "publications",
)
"""Sections that have an entry for each task of the run."""


def missing_entries(project: Project) -> Iterator[str]:
    """What the run names and no section defines; with these, nothing else can be looked up."""
    run, sections = project.run, project.sections
    yield from _unknown("tasks", run.tasks, sections["tasks"])
    for task in (one for one in run.tasks if one in sections["tasks"]):
        for section in BY_TASK:
            yield from _unknown(section, [task], sections[section])
        for member in run.members:
            yield from _unknown("teachers", [f"{task}_{member}"], sections["teachers"])
    yield from _unknown("methods", run.all_methods, sections["methods"])
    for name, dataset in sections["datasets"].items():
        yield from _unknown(f"datasets.{name}.source", [dataset.source], sections["sources"])
    for task, collection in sections["collections"].items():
        for split, dataset in collection.datasets():
            yield from _unknown(f"collections.{task}.{split}", [dataset], sections["datasets"])
        for kind in ("checkpoints", "kernels"):
            yield from _unknown(f"collections.{task}.{kind}", getattr(collection, kind), sections["sources"])


def misfits(project: Project) -> Iterator[str]:
    """Names that are defined, but not where the run looks for them."""
    run = project.run
    yield from _urls(project.sections["sources"])
    for task in run.tasks:
        collection: Collection = project.entry("collections", task)
        yield from _checkpoints(project, task, collection)
        expected = project.entry("teachers", task).expected
        if expected is None:
            yield (
                f"{PARAMS_FILE}: teachers.{task}.expected: missing; write {{dataset: ..., psnr: ..., tolerance: ...}} "
                "of a test set."
            )
        else:
            yield from _unknown(f"teachers.{task}.expected.dataset", [expected.dataset], collection.test)
        sets = project.entry("publications", task).sets
        yield from _unknown(f"publications.{task}.sets", sets, collection.test)
        for name, figures in sets.items():
            known = ("teacher", "bicubic", "input", *project.sections["methods"])
            yield from _unknown(f"publications.{task}.sets.{name}", figures, known)
    for name, report in project.sections["reports"].items():
        shown = report.methods or run.all_methods
        yield from _unknown(f"reports.{name}.methods", shown, run.all_methods)
        yield from _unknown(f"reports.{name}.reference", [report.reference], shown)
    if MAIN in run.members:
        yield f"{PARAMS_FILE}: run.members: {MAIN!r} is the task's own teacher; name further ones."
    if run.methods.ensemble and not run.members:
        yield (
            f"{PARAMS_FILE}: run.members: missing; the methods of run.methods.ensemble "
            f"({', '.join(run.methods.ensemble)}) need further teachers: name some, or take the methods out."
        )


def _checkpoints(project: Project, task: str, collection: Collection) -> Iterator[str]:
    """Files of published weights and kernels, `SOURCE/FILE`, whose sources the task's collection has to fetch."""
    choice = project.entry("tasks", task)
    fetched = {project.entry("datasets", name).source for _, name in collection.datasets()}
    given = {f"teachers.{task}.checkpoint": project.entry("teachers", task).checkpoint}
    given |= {
        f"teachers.{task}_{member}.checkpoint": project.entry("teachers", f"{task}_{member}").checkpoint
        for member in project.run.members
    }
    given[f"encoders.{task}.checkpoint"] = project.entry("encoders", task).checkpoint
    for place, file in given.items():
        if file is not None:
            yield from _sources(place, file, {*fetched, *collection.checkpoints}, f"collections.{task}.checkpoints")
    fetched.update(collection.kernels)
    for file in choice.arguments.get("kernels", ()):
        yield from _sources(f"tasks.{task}.kernels", file, fetched, f"collections.{task}.kernels")


def _urls(sources: Mapping[str, Source]) -> Iterator[str]:
    for name, source in sources.items():
        for index, file in enumerate(source.files):
            try:
                stored_name(file)
            except InputError as error:
                yield f"{PARAMS_FILE}: sources.{name}.files.{index}: {error}"


def _sources(place: str, file: str, fetched: Iterable[str], section: str) -> Iterator[str]:
    source, slash, rest = file.partition("/")
    if not (slash and rest) or ".." in rest.split("/"):
        yield f"{PARAMS_FILE}: {place}: {file!r} is no file of a source; write SOURCE/FILE."
    elif source not in fetched:
        yield f"{unknown_name(f'{PARAMS_FILE}: {place}', source, fetched)} List the source in {section}."


def _unknown(place: str, names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    table = list(known)
    yield from (str(unknown_name(f"{PARAMS_FILE}: {place}", name, table)) for name in names if name not in table)
