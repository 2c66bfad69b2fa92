"""`--set`: typed by YAML, checked against params.yaml, written without touching anything else."""

import argparse
import difflib
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides as dvc_override
from dvc.utils.serialize import load_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.graph.overrides import (
    add_override_arguments,
    apply_overrides,
    as_json,
    changed,
    parse_overrides,
    read_json,
)
from pipeline.messages import PipelineError

ROOT = Path(__file__).parents[3]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STEPS = "students.sr.training.steps"


@pytest.fixture
def params(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path / "params.yaml"


def lines_changed(before, after):
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in diff if line[0] in "+-" and line[:3] not in {"+++", "---"}]


def test_values_are_yaml():
    texts = {"500": 500, "1e-5": 1e-5, "null": None, "true": True, "on": "on", "[a, 1]": ["a", 1], "{b: 2}": {"b": 2}}
    for text, value in texts.items():
        assert parse_overrides([f"{STEPS}={text}"], PARAMS) == {STEPS: value}


def test_a_value_may_hold_an_equals_sign():
    assert parse_overrides([f"{STEPS}=a=b"], PARAMS) == {STEPS: "a=b"}


def test_the_last_of_two_assignments_counts():
    assert parse_overrides([f"{STEPS}=1", f"{STEPS}=2"], PARAMS) == {STEPS: 2}


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("students.sr.trainign.steps=3", "students.sr: unknown key 'trainign'. Did you mean 'training'?"),
        ("studens.sr=3", "sections: unknown key 'studens'. Did you mean 'students'?"),
        (f"{STEPS}.more=3", f"{STEPS}: expected a section with the key 'more', found"),
        ("methods.dckd.tap_weights.9=1", "methods.dckd.tap_weights: a list of 5 entries has no entry '9'"),
        (STEPS, "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        (f"{STEPS}=[", "not valid YAML"),
        (f"{STEPS}=2020-01-01", "JSON can't hold this value"),
        (f"{STEPS}=.nan", "JSON can't hold this value"),
        ("teachers.sr.checkpoint=${W}/x.pt", "teachers.sr.checkpoint: `dvc exp run -S` takes `${` for a reference"),
        (f"{STEPS}=[{{a: '???'}}]", f"{STEPS}.0.a: `dvc exp run -S` takes '???' for a missing value; write another."),
    ],
)
def test_a_mistake_is_named_with_its_place(assignment, told):
    with pytest.raises(PipelineError, match=r"^--set ") as error:
        parse_overrides([assignment], PARAMS)
    assert told in str(error.value)


def test_json_hands_overrides_on_unchanged():
    overrides = {STEPS: 1e-5, "+students.sr.new": {"a": [None, True, "ä"]}}
    assert read_json(as_json(overrides)) == overrides
    assert read_json("") == {}


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_other_json_is_refused(text):
    with pytest.raises(PipelineError, match="--overrides: "):
        read_json(text)


def test_without_overrides_the_file_stays(params):
    before = params.stat()
    apply_overrides(params, {})
    assert params.stat().st_mtime_ns == before.st_mtime_ns


def test_an_override_changes_one_line_and_no_comment(params):
    before = params.read_text()
    apply_overrides(params, {"teachers.sr.checkpoint": "set/x.pt"})
    assert lines_changed(before, params.read_text()) == [
        "-    checkpoint:                # null, or SOURCE/FILE of published weights; then `training: null`",
        "+    checkpoint: set/x.pt                # null, or SOURCE/FILE of published weights; then `training: null`",
    ]


def test_a_plus_adds_a_key_to_a_block_and_to_a_flow(params):
    before = params.read_text()
    apply_overrides(params, {"+students.sr.training.precision": "bf16", "+students.sr.backbone.scale": 2})
    assert lines_changed(before, params.read_text()) == [
        "-    backbone: {name: edsr, channels: 16, blocks: 4}",
        "+    backbone: {name: edsr, channels: 16, blocks: 4, scale: 2}",
        "+      precision: bf16",
    ]


def test_an_unknown_key_in_the_file_leaves_it_as_it_is(params):
    before = params.read_bytes()
    with pytest.raises(PipelineError, match="unknown key 'step'"):
        apply_overrides(params, {"students.sr.training.batch": 2, "students.sr.training.step": 3})
    assert params.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (STEPS, "500"),
        ("students.sr.training.learning_rate", "1e-05"),
        ("students.sr.backbone", "{name: rcan, channels: 8}"),
        ("run.tasks", "[sr, denoise]"),
        ("methods.scratch.weights.reconstruction", "0"),
    ],
)
def test_the_values_are_those_of_dvcs_own_overrides(key, text, params, tmp_path):
    other = tmp_path / "other.yaml"
    shutil.copy(params, other)
    dvc_override(str(other), [f"{key}={text.replace(': ', ':')}"])
    apply_overrides(params, parse_overrides([f"{key}={text}"], PARAMS))
    expected = load_yaml(str(other))
    if key == "students.sr.backbone":
        expected["students"]["sr"]["backbone"] = {"name": "rcan", "channels": 8}  # Hydra merges mappings
    assert load_yaml(str(params)) == expected


SMALL = """\
# é
a: {b: 1, c: [1, 2], d: {}}   # behind
block:
  list:
  - x
  - "y: z"
  empty:
  text: |
    several
    lines
  # a comment of the next one
noted:   # behind a key
- x
last: 'q'
"""
KEYS = ["a", "a.b", "a.c", "a.c.1", "a.d", "block", "block.list", "block.list.0", "block.list.1", "noted"]
KEYS += ["block.empty", "block.text", "last", "+a.new", "+a.d.new", "+block.new", "+new"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), VALUES)
def test_dvc_reads_what_was_set_and_all_else_as_it_was(tmp_path, key, value):
    path = tmp_path / "params.yaml"
    path.write_text(SMALL, encoding="utf-8")
    apply_overrides(path, {key: value})
    assert load_yaml(str(path)) == changed(yaml.safe_load(SMALL), {key: value})


@pytest.mark.parametrize("key", KEYS)
def test_comments_survive_wherever_the_value_stands(key, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SMALL, encoding="utf-8")
    apply_overrides(path, {key: 7})
    text = path.read_text(encoding="utf-8")
    for comment in ("# é\n", "# behind\n", "# behind a key\n", "# a comment of the next one\n"):
        assert comment in text
    assert yaml.safe_load(text) == load_yaml(str(path)) == changed(yaml.safe_load(SMALL), {key: 7})


def test_what_is_written_once_but_used_twice_changes_in_one_place_only(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: &x {b: 1}\nc: *x\n")
    apply_overrides(path, {"c.b": 2})
    assert load_yaml(str(path)) == {"a": {"b": 1}, "c": {"b": 2}}


def test_the_flag_is_repeatable():
    parser = argparse.ArgumentParser()
    add_override_arguments(parser)
    assert parser.parse_args(["--set", "a=1", "--set", "b=2"]).assignments == ["a=1", "b=2"]
