"""Old names of keys are refused with one line that says what to write instead."""

import copy
from pathlib import Path

import pytest
import yaml

from components.distill import distill
from components.run.errors import InputError
from components.run.params import bind
from components.run.renamed import RENAMED
from components.train_encoder import train_encoder
from components.train_ensemble import train_ensemble
from components.train_privileged_teacher import train_privileged_teacher
from components.train_teacher import train_teacher
from tests.small_project import SmallProject

ROOT = Path(__file__).parents[2]

SWINIR = {"name": "swinir", "channels": 12, "depths": [2], "heads": 2}

# An old name, a section that has the key by its new one or may have it, the step that reads it, and with which method.
PLACES = [
    ("average_decay", "teachers.sr.training", train_teacher, None),
    ("average_decay", "students.sr.training", distill, "logits"),
    ("average_decay", "students.sr.training", train_privileged_teacher, None),
    ("average_decay", "ensembles.sr.training", train_ensemble, None),
    ("clip_norm", "students.sr.training", distill, "logits"),
    ("warm_up", "students.sr.training.schedule", distill, "logits"),
    ("progression", "encoders.sr.training", train_encoder, None),
    ("dropped", "teachers.sr.backbone", train_teacher, None),
    ("dropped", "ensembles.sr.aggregator", train_ensemble, None),
    ("keep", "methods.dckd.history", distill, "dckd"),
    ("symmetry_probability", "methods.dckd", distill, "dckd"),
    ("symmetry_probability", "methods.dukd", distill, "dukd"),
    ("committees", "", train_ensemble, None),
    ("committees", "", distill, "logits"),
]


@pytest.mark.parametrize(("old", "place", "step", "method"), PLACES)
def test_an_old_name_is_refused_once_with_the_new_one(old, place, step, method, tmp_path):
    project = SmallProject(tmp_path)
    project.params = copy.deepcopy(project.params)  # recipes share their schedule
    project.params["teachers"]["sr"]["backbone"] = dict(SWINIR)
    section = project.params
    for key in filter(None, place.split(".")):
        section = section[key]
    section[old] = section.pop(RENAMED[old], 1)
    with pytest.raises(InputError) as caught:
        project.arguments(step, method)
    assert str(caught.value).removeprefix(f"{tmp_path}/") == (
        f"params.yaml: {f'{place}.{old}'.removeprefix('.')}: this key is now called {RENAMED[old]}; write that."
    )


def test_every_old_name_has_a_place():
    assert {old for old, *_ in PLACES} == RENAMED.keys()


def test_a_section_is_refused_by_its_old_name_beside_the_new_one(tmp_path):
    project = SmallProject(tmp_path)
    project.params["committees"] = {"sr": {"tolerance": 0.0}}
    with pytest.raises(InputError, match=r"params\.yaml: committees: this key is now called ensembles; write that\.$"):
        project.arguments(train_ensemble)


def test_other_faults_are_told_beside_it(tmp_path):
    project = SmallProject(tmp_path)
    recipe = project.params["students"]["sr"]["training"]
    recipe["average_decay"] = recipe.pop("ema_decay")
    del recipe["steps"]
    with pytest.raises(InputError) as caught:
        project.arguments(distill, "logits")
    assert sorted(str(caught.value).splitlines()) == [
        "params.yaml: students.sr.training.average_decay: this key is now called ema_decay; write that.",
        "params.yaml: students.sr.training.steps: missing; write a value for it.",
    ]


def shared(share: int = 1) -> int:
    return share


def test_an_old_name_is_any_unknown_key_where_the_new_one_is_unknown_too():
    with pytest.raises(InputError, match=r"^x: unknown key 'keep'\. There are: share\.$"):
        bind("x", shared, {"keep": 1})


def names_in(value):
    if isinstance(value, dict):
        return set(value) | {name for one in value.values() for name in names_in(one)}
    return {name for one in value for name in names_in(one)} if isinstance(value, list) else set()


def test_no_committed_file_has_an_old_name():
    for file in [ROOT / "params.yaml", *ROOT.glob("conf/**/*.yaml")]:
        assert not names_in(yaml.safe_load(file.read_text())) & RENAMED.keys(), file


@pytest.mark.parametrize(
    ("section", "key", "value", "step", "place"),
    [
        ("students.sr.training", "seed", 3, distill, "run.seeds"),
        ("ensembles.sr", "members", ["rcan"], train_ensemble, "run.members"),
    ],
)
def test_a_key_that_moved_is_refused_with_its_new_place(section, key, value, step, place, tmp_path):
    project = SmallProject(tmp_path)
    found = project.params
    for name in section.split("."):
        found = found[name]
    found[key] = value
    with pytest.raises(InputError) as caught:
        project.arguments(step, "logits")
    assert str(caught.value) == f"params.yaml: {section}.{key}: this has moved to {place}; write it there."
