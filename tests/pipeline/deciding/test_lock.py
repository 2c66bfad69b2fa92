"""Fragments of dvc.lock: whole or refused, and merged to the bytes that `dvc repro` leaves."""

from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, parse_yaml

from pipeline.deciding.lock import entry_of, fragment_text, lock_text, merge, read_fragments, read_lock
from pipeline.messages import PipelineError

ROOT = Path(__file__).parents[3]
REAL = ROOT / "dvc.lock"


def stage(name, digest="0", size=4):
    out = {"path": f"data/{name}", "hash": "md5", "md5": digest * 32, "size": size}
    return entry_of(name, {"cmd": f"python -m components {name} {'word ' * 20}", "outs": [out]})


def fragment(folder, name, **entries):
    path = folder / name
    path.write_text(fragment_text(entries))
    return path


def test_the_projects_own_lock_is_read_as_yaml_reads_it_and_written_back_byte_for_byte():
    entries = read_lock(REAL)
    assert list(entries) == list(yaml.safe_load(REAL.read_text())["stages"])
    assert lock_text(entries) == REAL.read_text()


def test_an_entry_is_written_as_dvc_writes_it():
    values = parse_yaml(REAL.read_text(), "dvc.lock")["stages"]
    assert lock_text({name: entry_of(name, value) for name, value in values.items()}) == REAL.read_text()


def test_a_quoted_name_is_a_name(tmp_path):
    (tmp_path / "dvc.lock").write_text(dumps_yaml({"schema": "2.0", "stages": {"on": {"cmd": "x"}, "1": {"cmd": "x"}}}))
    assert list(read_lock(tmp_path / "dvc.lock")) == ["on", "1"]


def test_an_absent_or_empty_lock_has_no_entries(tmp_path):
    assert read_lock(tmp_path / "dvc.lock") == {}
    (tmp_path / "dvc.lock").touch()
    assert read_lock(tmp_path / "dvc.lock") == {}


def test_a_fragment_truncated_anywhere_is_refused(tmp_path):
    whole = fragment(tmp_path, "a", first=stage("first"), second=stage("second")).read_text()
    assert list(read_lock(tmp_path / "a")) == ["first", "second"]
    for length in range(1, len(whole)):
        (tmp_path / "a").write_text(whole[:length])
        with pytest.raises(PipelineError, match=r"a: truncated or damaged|a: holds no stage"):
            read_fragments([tmp_path / "a"])


@pytest.mark.parametrize(
    "text",
    [
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n    - path: o\n      md5: 0123\n",
        "schema: '2.0'\nstages:\n  a:\n    outs: []\n",
        "schema: '2.0'\nstages:\n  a: [\n",
        "stages: 3\n",
        "{}",
        "\x00",
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\ndatasets: []\n",
    ],
)
def test_what_is_no_whole_lock_is_refused_without_a_seal_too(text, tmp_path):
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(PipelineError, match=r"dvc\.lock: truncated or damaged"):
        read_lock(tmp_path / "dvc.lock")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "dvc.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match="can't be read"):
        read_lock(tmp_path / "dvc.lock")


def test_fragments_may_repeat_what_others_say(tmp_path):
    first, left, right = stage("first"), stage("left"), stage("right")
    found = read_fragments(
        [fragment(tmp_path, "a", first=first, left=left), fragment(tmp_path, "b", first=first, right=right)]
    )
    assert found == {"first": first, "left": left, "right": right}


def test_fragments_that_differ_are_refused_with_the_stage_and_both_files(tmp_path):
    one = fragment(tmp_path, "one", same=stage("same"), first=stage("first"))
    other = fragment(tmp_path, "other", same=stage("same"), first=stage("first", "1"))
    with pytest.raises(PipelineError, match="disagree about stage 'first'") as told:
        read_fragments([one, other])
    assert str(one) in str(told.value)
    assert str(other) in str(told.value)


def test_a_missing_and_an_empty_fragment_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"--upstream .*/gone: no such file"):
        read_fragments([tmp_path / "gone"])
    (tmp_path / "empty").touch()
    with pytest.raises(PipelineError, match=r"--upstream .*/empty: holds no stage"):
        read_fragments([tmp_path / "empty"])


def test_merging_updates_in_place_and_appends_in_the_order_of_the_run():
    base = {"b": "old b", "gone": "old gone", "a": "old a"}
    merged = merge(base, {"d": "new d", "a": "new a", "c": "new c"}, ["a", "b", "c", "d"])
    assert list(merged.items()) == [
        ("b", "old b"),
        ("gone", "old gone"),
        ("a", "new a"),
        ("c", "new c"),
        ("d", "new d"),
    ]


def test_merging_takes_no_stage_that_the_graph_does_not_have():
    assert merge({}, {"a": "x", "other": "y"}, ["a"]) == {"a": "x"}
