"""The lists of dvc.yaml that one command writes: what each kind holds, and that a stale one is refused."""

import copy
from pathlib import Path

import pytest
import yaml

from components.dependencies.code import entries, files_of, modules_of
from components.dependencies.lists import list_dependencies, refuse_stale
from components.methods import METHODS
from components.run.errors import InputError

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def params():
    return copy.deepcopy(PARAMS)


def stages(params):
    return yaml.safe_load(list_dependencies(TEXT, params))["stages"]


def test_nothing_but_the_lists_changes(params):
    params["students"]["sr"]["backbone"] = {"name": "carn"}
    before, after = TEXT.splitlines(), list_dependencies(TEXT, params).splitlines()
    gone, new = set(before) - set(after), set(after) - set(before)
    assert new == {"      - components/backbones/carn.py"}
    assert gone == set()  # the teacher is an EDSR still
    comments = [line for line in before if "#" in line]
    assert [line for line in after if "#" in line] == comments


def test_a_network_is_listed_where_it_is_run_and_nowhere_else(params):
    params["students"]["sr"]["backbone"] = {"name": "uformer"}
    readers = {name for name, stage in stages(params).items() if "components/backbones/uformer.py" in stage["deps"]}
    assert readers == {
        "train_privileged_teacher",
        "distill",
        "distill_with_encoder",
        "distill_with_ensemble",
        "distill_with_privileged_teacher",
        "evaluate",
        "evaluate_with_encoder",
        "evaluate_with_ensemble",
        "evaluate_with_privileged_teacher",
        "export",
    }
    assert "components/backbones/parts/lewin.py" in stages(params)["evaluate"]["deps"]


def test_a_task_is_listed_by_what_it_is_whatever_it_is_called(params):
    params["run"]["tasks"] = ["sr_x4"]
    for section in ("tasks", "collections", "teachers", "students"):
        params[section]["sr_x4"] = params[section]["sr"]
    params["teachers"]["sr_x4_rcan"] = params["teachers"]["sr_rcan"]
    params["tasks"]["sr_x4"] = {"name": "sr", "scale": 4}
    assert "components/tasks/sr/__init__.py" in stages(params)["build_lmdb"]["deps"]


def test_another_member_seed_and_method_are_listed(params):
    params["run"] |= {"members": ["rcan", "carn"], "seeds": [7, 8]}
    params["teachers"]["sr_carn"] = {"backbone": {"name": "carn"}}
    params["reports"]["few_methods"]["methods"] = ["scratch", "fakd"]
    found = stages(params)
    assert "data/members/${item.task}/carn" in found["train_ensemble"]["deps"]
    assert "components/backbones/carn.py" in found["train_teacher_as_member"]["deps"]
    assert "data/students/${item.task}/fakd/7" in found["report"]["deps"]
    assert not [path for path in found["report"]["deps"] if "logits" in path]
    assert "methods.fakd" in found["report"]["params"]


def test_a_report_without_methods_reads_those_of_the_run(params):
    params["run"]["methods"] = {"teacher": ["scratch"], "encoder": ["dckd"]}
    deps = stages(params)["report_with_every_method"]["deps"]
    assert [path for path in deps if path.startswith("data/students")] == [
        "data/students/${item.task}/scratch/3",
        "data/students/${item.task}/dckd/3",
    ]


def test_a_source_of_checkpoints_or_kernels_is_listed_beside_those_of_datasets(params):
    params["collections"]["sr"] |= {"checkpoints": ["weights"], "kernels": ["motion"]}
    listed = stages(params)["fetch"]["params"]
    assert {"sources.weights", "sources.motion", "sources.photographs"} <= set(listed)
    assert "sources.div2k" not in listed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["students"]["sr"]["backbone"].update(name="edrs"), r"students\.sr\.backbone\.name: .*'edsr'"),
        (lambda p: p["collections"]["sr"].update(test=["photos"]), r"datasets: unknown name 'photos'"),
        (lambda p: p["run"].update(tasks=["srr"]), r"unknown name 'srr'. Did you mean 'sr'"),
        (lambda p: p["run"].update(seeds=[1, 1]), r"seeds: 1 is listed twice"),
        (lambda p: p["run"]["methods"].update(encoders=["x"]), r"unknown key 'encoders'. Did you mean 'encoder'"),
    ],
)
def test_params_that_name_what_is_not_there_are_refused_by_key(change, said, params):
    change(params)
    with pytest.raises(InputError, match=said):
        list_dependencies(TEXT, params)


def test_an_unknown_kind_of_list_is_refused_with_its_stage(params):
    text = TEXT.replace("# list: members", "# list: member", 1)
    with pytest.raises(InputError, match=r"stages\.train_ensemble: # list: unknown name 'member'.*'members'"):
        list_dependencies(text, params)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("      # end of list\n", "", "no `# end of list`"),
        ("# list: code of students\n", "# list: code of student\n", "unknown name 'student'. Did you mean 'students'"),
    ],
)
def test_a_list_that_is_not_whole_is_refused(before, after, said, params):
    with pytest.raises(InputError, match=said):
        list_dependencies(TEXT.replace(before, after, 1), params)


class TestStale:
    def test_is_refused_with_what_differs_and_the_command(self, params):
        params["collections"]["sr"]["training"] = ["t91"]
        with pytest.raises(InputError, match=r"datasets\.t91.*`python -m components list_dependencies`"):
            refuse_stale(TEXT, params)


class TestCode:
    def test_a_table_is_read_as_it_is_imported(self):
        assert entries("methods") == {name: method.__module__ for name, method in METHODS.items()}

    def test_a_step_runs_what_was_chosen_of_the_tables_and_no_telemetry(self):
        chosen = {"components.methods.dckd", "components.backbones.edsr", "components.tasks.sr"}
        files = files_of(modules_of(["components.distill"], chosen))
        assert {"components/methods/dckd.py", "components/methods/parts/dynamic_contrast.py"} <= set(files)
        assert not [file for file in files if "telemetry" in file or "dependencies" in file]
        assert not {"components/methods/fakd.py", "components/methods/__init__.py"} & set(files)
