"""Overrides: what differs between two params, as JSON, and written without touching anything else."""

import difflib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml, loads_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.graph.overrides import apply_overrides, as_json, changed, differing, read_json
from pipeline.messages import PipelineError

ROOT = Path(__file__).parents[3]
STEPS = "students.sr.training.steps"


@pytest.fixture
def params(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path / "params.yaml"


def lines_changed(before, after):
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in diff if line[0] in "+-" and line[:3] not in {"+++", "---"}]


def test_json_hands_overrides_on_unchanged():
    overrides = {STEPS: 1e-5, "+students.sr.new": {"a": [None, True, "ä"]}, "~students.sr.backbone": None}
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


def test_a_tilde_removes_a_key_from_a_block_and_from_a_flow(params):
    before = params.read_text()
    apply_overrides(params, {"~students.sr.training.ema_decay": None, "~students.sr.backbone.name": None})
    apply_overrides(params, {"~students.sr.backbone.blocks": None, "~validate.largest_aspect": None})
    assert lines_changed(before, params.read_text()) == [
        "-  largest_aspect: 4.0",
        "-    backbone: {name: edsr, channels: 16, blocks: 4}",
        "+    backbone: {channels: 16}",
        "-      ema_decay: 0.99",
    ]


def test_what_is_added_is_laid_out_as_the_rest(params):
    before = params.read_text()
    added = {"backbone": {"name": "edsr"}, "training": {"optimiser": {"name": "adam", "betas": [0.9, 0.99]}}}
    more = {"training": {"steps": 500000, "batch": 16, "patch": 24, "learning_rate": 0.0000001, "ema_decay": 0.99}}
    apply_overrides(params, {"+students.denoise": added, "+students.derain": more})
    assert lines_changed(before, params.read_text()) == [
        "+  denoise:",
        "+    backbone: {name: edsr}",
        "+    training: {optimiser: {name: adam, betas: [0.9, 0.99]}}",
        "+  derain:",
        "+    training:",
        "+      steps: 500000",
        "+      batch: 16",
        "+      patch: 24",
        "+      learning_rate: 1.0e-07",
        "+      ema_decay: 0.99",
    ]


def test_a_text_with_a_comma_fits_into_a_flow(params):
    before = params.read_text()
    apply_overrides(params, {"publications.sr.source": "FAKD, table 3", "+publications.sr.a, b": "x: {y}"})
    assert lines_changed(before, params.read_text()) == [
        "-  sr: {source: '', sets: {}}",
        "+  sr: {source: 'FAKD, table 3', sets: {}, 'a, b': 'x: {y}'}",
    ]


def test_an_unknown_key_in_the_file_leaves_it_as_it_is(params):
    before = params.read_bytes()
    with pytest.raises(PipelineError, match=r"unknown key 'step'\. Did you mean 'steps'"):
        apply_overrides(params, {"students.sr.training.batch": 2, "students.sr.training.step": 3})
    assert params.read_bytes() == before


def test_a_number_that_dvc_wrote_stands_in_no_overrides_way(params):
    """DVC writes 0.000001 as `1e-06`, which YAML 1.1 reads as a text."""
    params.write_text(params.read_text().replace("minimum: 0.000001", "minimum: 1e-06"))
    before = params.read_text()
    apply_overrides(params, {STEPS: 3})
    assert lines_changed(before, params.read_text()) == ["-      steps: 2000", "+      steps: 3"]


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
GONE = ["~a", "~a.b", "~a.c", "~a.d", "~block", "~block.list", "~block.empty", "~block.text", "~last"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), VALUES)
def test_every_reader_finds_what_was_set_and_all_else_as_it_was(tmp_path, key, value):
    path = tmp_path / "params.yaml"
    path.write_text(SMALL, encoding="utf-8")
    apply_overrides(path, {key: value})
    text = path.read_text(encoding="utf-8")
    assert loads_yaml(text) == yaml.safe_load(text) == changed(yaml.safe_load(SMALL), {key: value})


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from("ab."), VALUES), st.dictionaries(st.sampled_from("ab."), VALUES))
def test_differing_values_make_the_one_of_the_other(before, after):
    overrides = read_json(as_json(dict(differing({"all": before}, {"all": after}))))
    made = changed({"all": before}, overrides)
    assert json.dumps(made, sort_keys=True) == json.dumps({"all": after}, sort_keys=True)
    assert not dict(differing(made, {"all": after}))


@pytest.mark.parametrize("key", KEYS + GONE)
def test_comments_survive_wherever_the_value_stands(key, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SMALL, encoding="utf-8")
    apply_overrides(path, {key: 7})
    text = path.read_text(encoding="utf-8")
    for comment in ("# é\n", "# behind\n", "# behind a key\n", "# a comment of the next one\n"):
        assert comment in text or (key == "~a" and "behind" in comment)
    assert yaml.safe_load(text) == load_yaml(str(path)) == changed(yaml.safe_load(SMALL), {key: 7})


def test_what_is_written_once_but_used_twice_changes_in_one_place_only(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: &x {b: 1}\nc: *x\n")
    apply_overrides(path, {"c.b": 2})
    assert load_yaml(str(path)) == {"a": {"b": 1}, "c": {"b": 2}}
