"""A step reads params.yaml as DVC does, and so do presets; values that DVC's `-S` takes for others are refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml, loads_yaml
from omegaconf import OmegaConf

from components.fetch import fetch
from components.run.errors import InputError
from components.run.params import read_params
from components.run.step import parse
from components.run.yaml_values import NotYamlError, read_yaml
from tests.bounded import bounded

ROOT = Path(__file__).parents[2]
CONF = sorted((ROOT / "conf").rglob("*.yaml"))

MEANT = {
    "1e-06": 1e-06,  # as DVC writes 0.000001
    "1e5": 1e5,
    "1.0e-06": 1e-06,
    ".5": 0.5,
    "5.": 5.0,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "1_000": 1000,
    "1:30": "1:30",
    "yes": "yes",
    "no": "no",
    "on": "on",
    "off": "off",
    "y": "y",
    "true": True,
    "null": None,
    "'1e-06'": "1e-06",
}


@pytest.mark.parametrize("text", MEANT)
def test_a_step_finds_the_value_that_dvc_compares(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"a: {text}\n")
    found = read_params(tmp_path / "params.yaml")["a"]
    assert (type(found), found) == (type(MEANT[text]), MEANT[text])
    assert loads_yaml(f"a: {text}\n") == {"a": found}


def test_the_whole_file_is_what_dvc_reads() -> None:
    assert repr(read_params(ROOT / "params.yaml")) == repr(load_yaml(str(ROOT / "params.yaml")))


@pytest.mark.parametrize("file", CONF, ids=[str(file.relative_to(ROOT)) for file in CONF])
def test_hydra_reads_presets_as_dvc_reads_params(file: Path) -> None:
    """Hydra reads YAML 1.1: there `yes` is true, 010 is 8 and 1:30 is 90. Write true, 8 or 90, or put quotes round."""
    text = file.read_text(encoding="utf-8")
    assert repr(OmegaConf.to_container(OmegaConf.create(text))) == repr(loads_yaml(text) or {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", 'line 2: while constructing a mapping, found duplicate key "a"'),
        ("a: {b: 1, b: 1}", 'line 1: while constructing a mapping, found duplicate key "b"'),
        ("a: 2020-13-01", "what looks like a date or number is none (month must be in 1..12); put quotes around it"),
        ("a: -_", "what looks like a date or number is none"),
        ("a: [", "line 1: while parsing a flow node, expected the node content"),
        ("a: *b", "line 1: found undefined alias 'b'"),
        ("a: 1\n---\na: 2", "line 2: expected a single document in the stream, but found another document"),
        ("a: !!python/object:x 1", "line 1: could not determine a constructor for the tag"),
        ("\x01", "special characters are not allowed"),
    ],
)
def test_what_is_no_yaml_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(NotYamlError) as refused:
        read_yaml(text)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_read_may_be_changed() -> None:
    read_yaml("a: [1]")["a"].append(2)
    assert read_yaml("a: [1]") == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 2024-01-01", "params.yaml: a: YAML takes this for a date, '2024-01-01'; put quotes around it."),
        ("a: [1, 2024-01-01 10:00:00]", "params.yaml: a.1: YAML takes this for a date, '2024-01-01 10:00:00'; put"),
        ("a: {b: !!binary aGk=}", "params.yaml: a.b: YAML takes this for no text and no number"),
        ("a: !!set {b}", "params.yaml: a: YAML takes this for no text and no number"),
        ("a: {null: x}", "params.yaml: a: YAML takes a key for nothing, 'None'; put quotes around it."),
        ("a: {~: x}", "params.yaml: a: YAML takes a key for nothing"),
        ("a: {true: x}", "params.yaml: a: YAML takes a key for a truth value, 'True'"),
        ("a: {1_000: x}", "params.yaml: a: YAML takes a key for a number, '1000'"),
        ("a: {0o10: x}", "params.yaml: a: YAML takes a key for a number, '8'"),
        ("a: {.5: x}", "params.yaml: a: YAML takes a key for a number, '0.5'"),
        ("2024-01-01: x", "params.yaml: YAML takes a key for a date, '2024-01-01'; put quotes around it."),
        ("2024: x", "params.yaml: YAML takes a key for a number, '2024'"),
    ],
)
def test_what_yaml_takes_for_something_else_is_refused(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text)
    said = ""
    try:
        read_params()
    except InputError as refused:
        said = str(refused)
    assert said.startswith(told)


SOURCE = "sources: {one: {files: [{url: URL}]}}\n"
FETCH = ["--raw", "raw", "--params", "params.yaml"]


def test_a_variable_in_braces_is_refused_by_a_step_and_by_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SETS", str(tmp_path))
    Path("params.yaml").write_text(SOURCE.replace("URL", "'file:${SETS}/x'"))
    with pytest.raises(InputError) as refused:
        parse(fetch, FETCH)
    assert str(refused.value) == (
        "params.yaml: sources.one.files.0.url: `dvc exp run -S` takes `${` for a reference; write $NAME without "
        "braces. Found 'file:${SETS}/x'."
    )
    Path("dvc.yaml").write_text("stages: {one: {cmd: echo > out, params: [sources], outs: [out]}}\n")
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"], check=True)
    words = ("exp", "run", "--set-param", "+other=1")
    done = subprocess.run([sys.executable, "-m", "dvc", *words], text=True, capture_output=True, check=False)
    assert done.returncode
    assert re.search(r"Interpolation key '(SETS)' not found", done.stderr)


@pytest.mark.parametrize("url", ["file:$SETS/x", "file:/a/$$x", "file:{a}/$b"])
def test_other_dollar_signs_are_left_to_the_source(url: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(SOURCE.replace("URL", f"'{url}'"))
    assert read_params(tmp_path / "params.yaml")["sources"]["one"]["files"][0]["url"] == url


def growing(first: str, line: str, times: int) -> str:
    """Lines each of which refers ten times to the one before."""
    lines = [f"a{n}: &a{n} {line.format(', '.join([f'*a{n - 1}'] * 10), n=n)}" for n in range(1, times)]
    return "\n".join([f"a0: &a0 {first}", *lines]) + "\n"


TOO_MUCH = "line .*: its aliases .* stand for more than 1000000 characters, or for themselves; write out what is meant"
BOMBS = {
    "lists": (growing("[1]", "[{}]", 12), TOO_MUCH),
    "mappings": (growing("{x: 1}", "{{k: [{}]}}", 12), TOO_MUCH),
    "merged mappings": (growing("{x: 1}", "{{<<: [{}], k{n}: 1}}", 8), TOO_MUCH),
    "a long text": (f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 1000)}]\n", TOO_MUCH),
    "itself": ("a: &a [1, *a]\n", TOO_MUCH),
    "depth": ("[" * 900, "brackets or lists within each other too deeply"),
    "a key of lists": ("? [[1]]\n: 2\n", "a key that is a list or a mapping; write a word or a number"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_in_params_is_refused_by_a_step(kind: str, tmp_path: Path) -> None:
    text, reason = BOMBS[kind]
    (tmp_path / "params.yaml").write_text(text)
    ended = bounded(parse, fetch, ["--params", str(tmp_path / "params.yaml"), "--raw", "raw"])
    assert isinstance(ended.error, InputError), ended
    assert re.search(rf"params.yaml: not valid YAML: {reason}", str(ended.error))
    assert ended.seconds < 20
    assert ended.memory < 100 << 20


def test_aliases_are_read() -> None:
    assert read_yaml("a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}\n") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": [{"x": 1}, {"x": 1}]},
    }
