"""dvc.yaml against the code: every stage lists what its step imports and reads, and nothing breaks a cluster."""

import ast
import importlib
import inspect
import re
import typing
from pathlib import Path, PurePosixPath

import grimp
import pytest
import yaml

from components.backbones import BACKBONES
from components.dependencies.lists import list_dependencies
from components.methods import METHODS
from components.tasks import TASKS
from components.training.networks import Teacher
from pipeline.graph.graph import Stage, read_graph

ROOT = Path(__file__).parents[3]
GRAPH = read_graph(ROOT)
STAGES = pytest.mark.parametrize("stage", GRAPH, ids=[stage.name for stage in GRAPH])
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PATHS = (Path, Path | None)
TABLES = {"components.methods": METHODS, "components.backbones": BACKBONES, "components.tasks": TASKS}
# Nothing comes back from these.
WITHOUT_EFFECT = ("components.telemetry", "components.dependencies")
# Sections of params.yaml whose networks a step runs; the others run none.
NETWORKS = {
    "train_teacher": ["teacher"],
    "check_teacher": ["teacher"],
    "train_ensemble": ["teacher", "members"],
    "train_privileged_teacher": ["student"],
    "distill": ["student", "teacher"],
    "distill_with_ensemble": ["student", "teacher", "members"],
    "evaluate": ["student"],
    "export": ["student", "teacher"],
}
IMPORTS = grimp.build_graph("components", cache_dir=None)

# Parts of a section that a stage reads alone, so that another gate does not train a teacher again.
PARTS = {
    "train_teacher": {"teachers": {"backbone", "checkpoint", "training"}},
    "check_teacher": {"teachers": {"expected"}},
    "train_privileged_teacher": {"students": {"backbone"}},
    "train_ensemble": {"run": {"members"}},
    "report": {"run": {"seeds"}},
}
# Sections of which a stage reads the entries that others name.
NAMED = ("sources", "datasets", "methods")


def step_of(stage: Stage) -> str:
    return stage.command.split()[3]


def flags_of(stage: Stage) -> dict[str, str]:
    """`{argument: what follows its flag}`."""
    words = stage.command.split()[4:]
    assert all(flag.startswith("--") for flag in words[::2])
    return {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}


def signature_of(stage: Stage) -> dict[str, typing.Any]:
    name = step_of(stage)
    step = getattr(importlib.import_module(f"components.{name}"), name)
    hints = typing.get_type_hints(step)
    return {name: hints[name] for name in inspect.signature(step).parameters}


def covers(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def file_of(module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def chosen(stage: Stage) -> set[str]:
    """Modules of the tables' entries that a stage is for: its task, its method, and the networks that it runs."""
    flags, task = flags_of(stage), stage.name.partition("@")[2].partition("-")[0]
    found = {TASKS[PARAMS["tasks"][task].get("name", task)].__module__}
    if method := flags.get("method"):
        found.add(METHODS[method].__module__)
    for kind in NETWORKS.get(stage.name.partition("@")[0], NETWORKS.get(step_of(stage), [])):
        if kind == "members":
            entries = [PARAMS["teachers"][f"{task}_{name}"] for name in PARAMS["run"]["members"]]
        else:
            named = flags.get(kind, "")
            section = PARAMS[f"{kind}s"]
            entries = [section[named if named in section else task]]
        found |= {BACKBONES[entry["backbone"]["name"]].__module__ for entry in entries}
    return found


def says_nothing(module: str) -> bool:
    """Whether a package's own file is a docstring alone."""
    return len(ast.parse((ROOT / file_of(module)).read_text(encoding="utf-8")).body) <= 1


def imported(stage: Stage) -> set[str]:
    """Files that the stage's step runs: all that it imports, straight or not, and the packages around them.

    Tables import every entry, and a stage runs those that it is for. They, and what has no effect, are exempt by name.
    """
    others = {entry.__module__ for table in TABLES.values() for entry in table.values()} - chosen(stage)
    found: set[str] = set()
    waiting = [f"components.{step_of(stage)}"]
    while waiting:
        module = waiting.pop()
        if module in found or module.startswith(WITHOUT_EFFECT):
            continue
        found.add(module)
        above = IMPORTS.find_modules_directly_imported_by(module)
        if module in TABLES:
            above -= others
        waiting += [*above, module.rpartition(".")[0]] if module.count(".") > 1 else above
    return {file_of(module) for module in found - TABLES.keys() if not says_nothing(module)}


def test_every_stage_has_its_own_name() -> None:
    names = [stage.name for stage in GRAPH]
    assert len(set(names)) == len(names)


@STAGES
class TestEveryStage:
    def test_is_named_after_the_step_that_it_runs(self, stage: Stage) -> None:
        assert stage.command.split()[:3] == ["python", "-m", "components"]
        assert re.split("_with_|_as_", stage.name.partition("@")[0])[0] == step_of(stage)
        assert (ROOT / "components" / f"{step_of(stage)}.py").is_file()

    def test_depends_on_something(self, stage: Stage) -> None:
        assert stage.dependencies
        assert stage.params

    def test_runs_only_when_something_changed(self, stage: Stage) -> None:
        assert not stage.always_changed

    def test_has_outputs_that_are_cached_and_removed_before_it_runs(self, stage: Stage) -> None:
        """What is not cached can't be handed to another machine; what persists isn't made from its inputs alone."""
        assert stage.outputs
        for output in stage.outputs:
            assert output.cached, output.path
            assert not output.persisted, output.path

    def test_reads_and_writes_inside_of_the_project_only(self, stage: Stage) -> None:
        for path in (*stage.dependencies, *(output.path for output in stage.outputs)):
            assert "://" not in path
            assert not PurePosixPath(path).is_absolute()
            assert ".." not in PurePosixPath(path).parts

    def test_writes_under_data_only(self, stage: Stage) -> None:
        assert all(output.path.startswith("data/") for output in stage.outputs)

    def test_reads_no_file_that_no_stage_writes(self, stage: Stage) -> None:
        written = [output.path for other in GRAPH for output in other.outputs]
        for path in stage.dependencies:
            if path.startswith("data/"):
                assert path in written
            else:
                assert (ROOT / path).exists()

    def test_lists_every_file_of_data_that_its_command_names(self, stage: Stage) -> None:
        """A path that is neither read nor written by the graph would silently go stale."""
        untracked = {"docs", "speed"}  # what carries a time is kept beside the outputs, unhashed
        known = [*stage.dependencies, *(output.path for output in stage.outputs)]
        for name, value in flags_of(stage).items():
            if value.startswith("data/") and name not in untracked:
                folder = [path for path in known if covers(value, path)]  # a folder of several outputs
                assert folder or any(covers(path, value) for path in known), f"--{name} {value}"

    def test_lists_every_module_that_its_step_imports(self, stage: Stage) -> None:
        missing = [
            path for path in sorted(imported(stage)) if not any(covers(folder, path) for folder in stage.dependencies)
        ]
        assert missing == [], f"dvc.yaml: {stage.name}: a change of these would not run it again"

    def test_lists_no_code_that_its_step_does_not_import(self, stage: Stage) -> None:
        used = imported(stage)
        listed = [path for path in stage.dependencies if path.startswith("components/")]
        assert [folder for folder in listed if not any(covers(folder, path) for path in used)] == []
        assert not any(covers(path, "components/telemetry/progress.py") for path in listed)

    def test_lists_the_sections_of_its_steps_signature_and_nothing_else(self, stage: Stage) -> None:
        flags, expected = flags_of(stage), set()
        for name, kind in signature_of(stage).items():
            if kind not in (*PATHS, int) and name not in NAMED:
                section = f"{name}s.{flags[name]}" if name in flags else name
                parts = PARTS.get(step_of(stage), {}).get(section.partition(".")[0])
                expected |= {f"{section}.{part}" for part in parts} if parts else {section}
        listed = set(stage.params)
        if stage.name.startswith("report"):  # every teacher is at hand there, to say how the task's own was trained
            expected = expected - {"teachers"} | {f"teachers.{flags['task']}"}
        if flags.get("report") == "every_method":
            expected.add("run.methods")
        assert {key for key in {*listed, *expected} if key.partition(".")[0] not in NAMED} == {
            key for key in listed & expected if key.partition(".")[0] not in NAMED
        }

    def test_lists_the_entries_that_its_collection_and_report_name(self, stage: Stage) -> None:
        """And no other: an entry that nothing names runs nothing again."""
        listed = {key for key in stage.params if key.partition(".")[0] in NAMED}
        expected, signature, flags = set(), signature_of(stage), flags_of(stage)
        if "datasets" in signature:
            collection = PARAMS["collections"][flags["collection"]]
            datasets = {name for split in ("training", "validation", "test") for name in collection[split]}
            sources = {PARAMS["datasets"][name]["source"] for name in datasets}
            sources |= {*collection.get("checkpoints", []), *collection.get("kernels", [])}
            expected = {f"datasets.{name}" for name in datasets} | {f"sources.{name}" for name in sources}
        if "methods" in signature:
            named = PARAMS["reports"][flags["report"]].get("methods", METHODS)
            expected |= {f"methods.{name}" for name in named}
        if "method" in flags:
            expected.add(f"methods.{flags['method']}")
        assert listed == expected

    def test_gives_every_file_of_its_steps_signature(self, stage: Stage) -> None:
        flags, signature = flags_of(stage), signature_of(stage)
        assert {name for name, kind in signature.items() if kind is Path} <= flags.keys() <= signature.keys()


def test_what_is_listed_and_not_imported_is_bounded() -> None:
    """Pairs of a step and a file that would run it again for nothing; without folders in the lists there were none,
    at a line of dvc.yaml for every file."""
    pairs = set()
    for stage in GRAPH:
        used, listed = imported(stage), [path for path in stage.dependencies if path.startswith("components/")]
        files = {path for folder in listed for path in python_files(folder)}
        pairs |= {(step_of(stage), path) for path in files - used}
        if flags_of(stage).get("method"):
            pairs -= {(step_of(stage), path) for path in used}
    assert len(pairs) <= 75, sorted(pairs)


def python_files(path: str) -> list[str]:
    found = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
    return [file.relative_to(ROOT).as_posix() for file in found if not says_nothing(module_of(file))]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_stage_depends_on_a_folder_over_several_outputs() -> None:
    """In a fresh clone DVC takes such a folder for unchanged, whatever its outputs are, and pulls nothing."""
    outputs = {output.path for stage in GRAPH for output in stage.outputs}
    for stage in GRAPH:
        for path in stage.dependencies:
            assert not [output for output in outputs if output != path and covers(path, output)], (stage.name, path)


def test_the_lists_of_dvc_yaml_are_up_to_date() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert list_dependencies(text, PARAMS) == text


def test_parts_of_a_section_are_the_whole_of_it_together() -> None:
    listed = PARTS["train_teacher"]["teachers"] | PARTS["check_teacher"]["teachers"]
    assert listed == set(Teacher.model_fields)


def test_every_method_has_an_entry_in_params() -> None:
    assert METHODS.keys() <= PARAMS["methods"].keys()


def test_every_method_is_distilled_and_evaluated_for_every_task() -> None:
    tasks, seeds = PARAMS["run"]["tasks"], PARAMS["run"]["seeds"]
    pairs = {f"{task}-{method}-{seed}" for task in tasks for method in METHODS for seed in seeds}
    for step in ("distill", "evaluate"):
        assert {stage.name.partition("@")[2] for stage in GRAPH if step_of(stage) == step} == pairs


def test_no_student_is_distilled_before_the_gate() -> None:
    for stage in GRAPH:
        if step_of(stage) == "distill":
            task = stage.name.partition("@")[2].partition("-")[0]
            assert f"check_teacher@{task}" in stage.upstream


def test_an_ensemble_waits_for_each_of_its_teachers() -> None:
    for stage in GRAPH:
        if step_of(stage) == "train_ensemble":
            task = stage.name.partition("@")[2]
            members = {f"train_teacher_as_member@{task}-{name}" for name in PARAMS["run"]["members"]}
            assert members | {f"train_teacher@{task}", f"check_teacher@{task}"} <= set(stage.upstream)


def test_a_stage_comes_after_those_whose_outputs_it_reads() -> None:
    writer = {output.path: stage.name for stage in GRAPH for output in stage.outputs}
    for stage in GRAPH:
        assert set(stage.upstream) == {writer[path] for path in stage.dependencies if path in writer}


def test_one_methods_file_is_read_by_its_own_distillation_only() -> None:
    for name, method in METHODS.items():
        path = file_of(method.__module__)
        readers = {stage.name for stage in GRAPH if any(covers(folder, path) for folder in stage.dependencies)}
        distilled = {stage.name for stage in GRAPH if flags_of(stage).get("method") == name}
        # A teacher is trained without a teacher, which is the method `scratch`.
        taught = {stage.name for stage in GRAPH if step_of(stage) == "train_teacher"} if name == "scratch" else set()
        assert readers == distilled | taught


def test_scores_are_metrics() -> None:
    for stage in GRAPH:
        for output in stage.outputs:
            assert output.metric == (output.path.startswith("data/scores/") and output.path.endswith(".json"))
