"""`--set` is DVC's `-S`: the same values in the file, or a refusal that says what to write."""

import argparse
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides as dvc_applies
from dvc.utils.serialize import load_yaml
from omegaconf.errors import OmegaConfBaseException

from pipeline.graph.assignments import add_set_argument, assigned, parse_overrides
from pipeline.graph.overrides import apply_overrides, as_json, read_json
from pipeline.messages import PipelineError

ROOT = Path(__file__).parents[3]
PARAMS = load_yaml(str(ROOT / "params.yaml"))
STEPS = "students.sr.training.steps"

TAKEN = [
    # numbers, truth, nothing
    "students.sr.training.steps=500",
    "students.sr.training.learning_rate=1e-5",
    "students.sr.training.schedule.minimum=0.0000001",
    "teachers.sr.training.learning_rate=-0.5",
    "teachers.sr.training.steps=1_000",
    "teachers.sr.training.batch=.5",
    "teachers.sr.training.patch=12e3",
    "teachers.sr.training=null",
    "encoders.sr.checkpoint=null",
    "methods.srkd.normalise=False",
    # texts
    "validate.smallest_training_side=on",
    "validate.smallest_test_side=yes",
    "validate.largest_aspect='1e-5'",
    'validate.near_duplicate_bits="12e4567"',
    "teachers.sr.checkpoint=photographs/x.pt",
    "sources.t91.files.0.url=file:$DATASETS_DIR/T91.tar.gz",
    "sources.t91.files.0.licence=2020-01-01",
    'sources.t91.files.0.author="He et al. (2020): {x}, #y"',
    "sources.set5.files.0.author='it\\'s'",
    "sources.set5.files.0.licence=",
    "sources.set14.files.0.author=Zeyde: Elad",
    "sources.set14.files.0.licence=a\\,b",
    # lists
    "run.tasks=[sr, denoise]",
    "run.seeds=[]",
    "run.members=[rcan,'1',null]",
    "methods.dckd.tap_weights.1=7",
    "methods.skd.depths=[[1],{a:2}]",
    # a mapping is merged
    "methods.dckd.weights={reconstruction:2.0}",
    "students.sr.backbone={name: rcan, channels: 8}",
    "methods.fakd={weights:{spatial:0.1},pool:mean}",
    "methods.csd.wide={}",
    # added, added or replaced, removed
    "+students.sr.training.precision=bf16",
    "+tasks.deblur={shake:{}}",
    "+sources.own.files=[{url:'file:$D/x.zip',unpack:true}]",
    "+methods.mtkd={new:1}",
    "++methods.mtkd.levels=2",
    "++methods.pisr.new.deep=[1]",
    "~students.sr.backbone.blocks",
    "~methods.scratch",
    "~run.methods.ensemble",
    "~packings.sr.step=120",
    "~export.crops",
    "~export.crop_side",
]


def test_the_values_are_those_that_dvc_writes(tmp_path: Path) -> None:
    """On the project's own file, all at once; the overrides as pods get them."""
    ours, dvcs = tmp_path / "ours.yaml", tmp_path / "dvcs.yaml"
    for copy in (ours, dvcs):
        shutil.copy(ROOT / "params.yaml", copy)
    dvc_applies(str(dvcs), TAKEN)
    apply_overrides(ours, read_json(as_json(parse_overrides(TAKEN, PARAMS))))
    expected = load_yaml(str(dvcs))
    assert load_yaml(str(ours)) == expected
    assert yaml.safe_load(ours.read_text()) == expected  # as YAML 1.1 too
    assert expected != PARAMS


REFUSED = [
    ("students.sr.trainign.steps=3", "students.sr: unknown key 'trainign'. Did you mean 'training'?"),
    ("studens.sr=3", "params.yaml has no section 'studens'. Did you mean 'students'?"),
    ("~students.sr.training.step", "unknown key 'step'. Did you mean 'steps'?"),
    (
        "methods.dckd.weights={reconstrction:1.0}",
        "methods.dckd.weights: unknown key 'reconstrction'. Did you mean 'rec",
    ),
    ("methods.dckd={weights:{codez:1.0}}", "methods.dckd.weights: unknown key 'codez'. Did you mean 'codes'?"),
    (f"{STEPS}.more=3", f"{STEPS}: expected a section with the key 'more', found"),
    ("methods.dckd.tap_weights.9=1", "methods.dckd.tap_weights: a list of 5 entries has no entry '9'"),
    (f"+{STEPS}=3", "An item is already at"),
    (STEPS, "expected KEY=VALUE"),
    (f"{STEPS}=[", "expected KEY=VALUE"),
    (f"{STEPS}=He (2020)", "Put quotes around a text"),
    (f"{STEPS}=a=b", "Put quotes around a text"),
    ("~methods.dckd.tap_weights.0", "set the whole list"),
    (f"~{STEPS}=3", "is 2000 and not 3"),
    (f"{STEPS}='${{nowhere.at_all}}'", "nowhere.at_all"),
    ("+students@sr=3", "config group"),
]
# DVC takes these, and they would do harm: several values, a section that no step reads, what JSON can't hold.
REFUSED_HERE = [
    ("=3", "no section ''"),
    (f"{STEPS}=100,200", "`dvc exp run --queue -S` takes them"),
    (f"{STEPS}=choice(a,b)", "`dvc exp run --queue -S` takes them"),
    (f"{STEPS}=range(1,3)", "`dvc exp run --queue -S` takes them"),
    (f"{STEPS}=nan", "JSON can't hold"),
    ("+conf/preset=bsds500", "write `--preset bsds500`"),
    ("+preset=bsds500", "write `--preset bsds500`"),
    ("preset=bsds500", "write `--preset bsds500`"),
    ("++studens.sr=3", "Did you mean 'students'?"),
]


@pytest.mark.parametrize(("assignment", "told"), REFUSED + REFUSED_HERE)
def test_a_mistake_is_named_with_its_place(assignment: str, told: str) -> None:
    with pytest.raises(PipelineError, match=r"^--set ") as error:
        assigned(PARAMS, [assignment])
    assert told in str(error.value)
    assert f"--set {assignment}: " in str(error.value)


@pytest.mark.parametrize("assignment", [assignment for assignment, _ in REFUSED])
def test_dvc_refuses_it_too(assignment: str, tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text(as_json(PARAMS))
    with pytest.raises((DvcException, OmegaConfBaseException, TypeError)):
        dvc_applies(str(path), [assignment])


@pytest.mark.parametrize("text", ["FAKD, table 3", "Zhang et al., 2018", "a,b"])
def test_a_text_with_commas_is_one_text(text: str) -> None:
    assert parse_overrides([f"publications.sr.source={text}"], PARAMS) == {"publications.sr.source": text}


def test_a_mapping_needs_no_blanks_and_keeps_its_other_keys() -> None:
    found = assigned(PARAMS, ["methods.dckd.weights={reconstruction:3.0}"])
    assert found["methods"]["dckd"]["weights"] == PARAMS["methods"]["dckd"]["weights"] | {"reconstruction": 3.0}


def test_only_what_differs_is_an_override() -> None:
    assignments = [f"{STEPS}=1", f"{STEPS}=7", "run.seeds=[3]", "students.sr.backbone={name:edsr,channels:17}"]
    assert parse_overrides(assignments, PARAMS) == {STEPS: 7, "students.sr.backbone.channels": 17}


def test_the_flag_is_repeatable() -> None:
    parser = argparse.ArgumentParser()
    add_set_argument(parser)
    assert parser.parse_args(["--set", "a=1", "--set", "b=2"]).assignments == ["a=1", "b=2"]
