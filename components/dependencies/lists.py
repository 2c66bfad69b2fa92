"""Write the lists of dvc.yaml that DVC can't interpolate: which code, entries and results a stage depends on.

A list is enclosed by two comments, the first of which says what it holds:

* `# list: code of students, teachers`: files of networks and tasks that the stage's step runs; these sections of
  params.yaml say which networks it loads;
* `# list: sources and datasets`: keys of the sources and datasets that the collections of the run's tasks name;
* `# list: methods of REPORT`: keys of the methods that a report shows;
* `# list: results of REPORT`: what `distill` and `evaluate` write for each of these methods;
* `# list: members`: the further teachers of the ensemble.

`python -m components list_dependencies` writes them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.dependencies.code import entries, files_of, modules_of
from components.images.datasets import Collection, Dataset
from components.run.errors import InputError, unknown_name
from components.run.params import PARAMS_FILE, Run, section, typed
from components.run.yaml_values import read_yaml

GRAPH_FILE = Path("dvc.yaml")
COMMAND = "python -m components list_dependencies"

_LIST = re.compile(r"(?P<indent> +)# list: (?P<what>[^\n]*)\n(?P<lines>(?: +- [^\n]*\n)*)(?= +# end of list\n)")
_BEGIN = re.compile(r"^ +# list: ", re.MULTILINE)
_STEP = re.compile(r"python -m components (?P<step>\w+)")
_EXACT = ("components/backbones/", "components/tasks/")
"""Folders whose files are listed one by one, because a new file there must not rerun anything."""


def list_dependencies(text: str, params: Mapping[str, Any]) -> str:
    """Return the text of dvc.yaml with its lists as `params` require; everything else is unchanged.

    Raises:
        InputError: a list of an unknown kind, or `params` that name something they do not define.
    """
    stages = read_yaml(text)["stages"]
    if len(_LIST.findall(text)) != len(_BEGIN.findall(text)):
        raise InputError(f"{GRAPH_FILE}: a `# list:` has other lines than `- ENTRY`, or no `# end of list` after them.")

    def written(found: re.Match[str]) -> str:
        stage = _stage_at(text, found.start())
        kind, _, rest = found["what"].partition(" of ")
        if kind not in LISTS:
            raise unknown_name(f"{GRAPH_FILE}: stages.{stage}: # list", kind, LISTS)
        command = _STEP.search(str(stages[stage].get("cmd", "")))
        module = f"components.{command['step']}" if command else ""
        lines = LISTS[kind](params, module, rest)
        return f"{found['indent']}# list: {found['what']}\n" + "".join(f"{found['indent']}- {line}\n" for line in lines)

    return _LIST.sub(written, text)


def refuse_stale(text: str, params: Mapping[str, Any]) -> None:
    """Refuse a dvc.yaml whose lists do not match `params`: DVC would miss changes of what is not listed.

    Raises:
        InputError: a list that differs.
    """
    wanted = list_dependencies(text, params)
    if wanted != text:
        here, there = set(text.splitlines()), set(wanted.splitlines())
        named = ", ".join(line.strip(" -") for line in sorted(there - here) + sorted(here - there))
        raise InputError(
            f"{GRAPH_FILE}: its lists of dependencies do not match {PARAMS_FILE} ({named or 'their order'}): "
            f"run `{COMMAND}`."
        )


def _code(params: Mapping[str, Any], module: str, sections: str) -> list[str]:
    """Files of networks and tasks that a step runs."""
    tasks = _run(params).tasks
    kinds = [dict(section(params, "tasks", task)).get("name", task) for task in tasks]
    chosen = [_entry("tasks", kind, f"tasks.{task}") for task, kind in zip(tasks, kinds, strict=True)]
    for name in filter(None, sections.split(", ")):
        if name not in _NETWORKS:
            raise unknown_name(f"{GRAPH_FILE}: # list: code of", name, _NETWORKS)
        for key in _NETWORKS[name](params, tasks):
            where = section(params, *key.split("."))
            chosen.append(_entry("backbones", str(section(where, "backbone", "name")), f"{key}.backbone"))
    return [file for file in files_of(modules_of([module], chosen)) if file.startswith(_EXACT)]


def _entry(table: str, name: str, key: str) -> str:
    if name not in entries(table):
        raise unknown_name(f"{PARAMS_FILE}: {key}.name", name, entries(table))
    return entries(table)[name]


def _members(params: Mapping[str, Any], tasks: Iterable[str]) -> list[str]:
    return [f"teachers.{task}_{member}" for task in tasks for member in _run(params).members]


_NETWORKS: Mapping[str, Callable[[Mapping[str, Any], Iterable[str]], list[str]]] = {
    "students": lambda _, tasks: [f"students.{task}" for task in tasks],
    "teachers": lambda _, tasks: [f"teachers.{task}" for task in tasks],
    "members": _members,
}


def _declared(params: Mapping[str, Any], _module: str, _rest: str) -> Iterator[str]:
    """Keys of the sources and datasets that the collections of the run's tasks name."""
    sources: dict[str, None] = {}
    datasets: dict[str, None] = {}
    for task in _run(params).tasks:
        where = f"{PARAMS_FILE}: collections.{task}"
        collection = typed(Collection, section(params, "collections", task), where)
        for _, name in collection.datasets():
            found = typed(Dataset, section(params, "datasets", name), f"{PARAMS_FILE}: datasets.{name}")
            datasets[name], sources[found.source] = None, None
        sources |= dict.fromkeys([*collection.checkpoints, *collection.kernels])
    yield from (f"sources.{name}" for name in sources)
    yield from (f"datasets.{name}" for name in datasets)


def _methods(params: Mapping[str, Any], _module: str, report: str) -> list[str]:
    return [f"methods.{name}" for name in _reported(params, report)]


def _results(params: Mapping[str, Any], _module: str, report: str) -> Iterator[str]:
    """What a report reads of each method, listed one by one: DVC only pulls a folder that is itself an output."""
    for method in _reported(params, report):
        for seed in _run(params).seeds[:1]:  # the page shows the first
            yield f"data/students/${{item.task}}/{method}/{seed}"
            yield f"data/scores/${{item.task}}/{method}/{seed}.json"
            yield f"data/scores/${{item.task}}/{method}/{seed}"


def _ensemble(params: Mapping[str, Any], _module: str, _rest: str) -> list[str]:
    return [f"data/members/${{item.task}}/{name}" for name in _run(params).members]


def _reported(params: Mapping[str, Any], report: str) -> tuple[str, ...]:
    named = section(params, "reports", report).get("methods")
    return tuple(named) if named else _run(params).all_methods


def _run(params: Mapping[str, Any]) -> Run:
    found: Run = typed(Run, section(params, "run"), f"{PARAMS_FILE}: run")
    return found


LISTS: Mapping[str, Callable[[Mapping[str, Any], str, str], Iterable[str]]] = {
    "code": _code,
    "sources and datasets": _declared,
    "methods": _methods,
    "results": _results,
    "members": _ensemble,
}


def _stage_at(text: str, position: int) -> str:
    """Name of the stage whose text contains a position."""
    return str(re.findall(r"^  (\w+):", text[:position], re.MULTILINE)[-1])
