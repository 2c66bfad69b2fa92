"""What is known before anything runs: each wrong value is a line that says what, where, and what to write."""

import copy
import typing
from contextlib import chdir
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
import yaml

from components import (
    build_lmdb,
    check_teacher,
    distill,
    evaluate,
    export,
    fetch,
    report,
    train_encoder,
    train_ensemble,
    train_privileged_teacher,
    train_teacher,
    validate,
)
from components.checking import names, sizes
from components.checking.networks import LARGEST, MOST
from components.checking.sections import BY_NAME, WHOLE, read_project
from components.checking.whole import refuse_faults
from components.images.datasets import EntryName
from components.run.errors import InputError
from components.tasks import TaskChoice, build_task
from tests.pipeline.presets import DEFAULT, PRESETS, composed

STEPS = (
    build_lmdb.build_lmdb,
    check_teacher.check_teacher,
    distill.distill,
    evaluate.evaluate,
    export.export,
    fetch.fetch,
    report.report,
    train_encoder.train_encoder,
    train_ensemble.train_ensemble,
    train_privileged_teacher.train_privileged_teacher,
    train_teacher.train_teacher,
    validate.validate,
)
FILE = {"files": [{"url": "file:x"}]}
TRAINING = ("students", "sr", "training")
UNBUILDABLE = f"more than {LARGEST:,} parameters or {MOST:,} tensors of them"
NAME = "a name is at most 100 letters, digits, _ and -"

WRONG = {
    "unknown keys": [
        (("preset",), "bsds500", "sections: unknown name 'preset'. There are: collections, "),
        (("student",), {}, "sections: unknown name 'student'. Did you mean 'students'?"),
        (("validate", "smallest_side"), 1, "validate: unknown key 'smallest_side'. Did you mean"),
        ((*TRAINING, "setps"), 1, "students.sr.training: unknown key 'setps'. Did you mean 'steps'?"),
        ((*TRAINING, "optimiser", "beta"), 1, "students.sr.training.optimiser: unknown key 'beta'. Did you mean"),
        (("datasets", "div2k_training", "exlude"), [], "datasets.div2k_training: unknown key 'exlude'. Did you mean"),
        (("methods", "dckd", "negatives", "bank", "nois"), 1, "methods.dckd.negatives.bank: unknown key 'nois'."),
        (("reports", "few_methods", "crop"), 1, "reports.few_methods: unknown key 'crop'. Did you mean 'crops'?"),
    ],
    "sections against each other": [
        (("run", "tasks"), ["srr"], "tasks: unknown name 'srr'. Did you mean 'sr'?"),
        (("run", "members"), ["carn"], "teachers: unknown name 'sr_carn'. Did you mean"),
        (("run", "members"), [], "run.members: missing; the methods of run.methods.ensemble (mtkd) need further"),
        (("run", "methods", "teacher"), ["scrath"], "methods: unknown name 'scrath'. Did you mean 'scratch'?"),
        (("datasets", "set5", "source"), "set6", "datasets.set5.source: unknown name 'set6'. Did you mean 'set5'?"),
        (("sources", "set5", "files"), [{"url": "/a.zip"}], "sources.set5.files.0: /a.zip: no url; for a file on this"),
        (
            ("sources", "set5", "files"),
            [{"url": "htp://h/a"}],
            "sources.set5.files.0: scheme of htp://h/a: unknown",
        ),
        (("collections", "sr", "test"), ["set6"], "collections.sr.test: unknown name 'set6'. Did you mean 'set5'?"),
        (("collections", "sr", "checkpoints"), ["rcan"], "collections.sr.checkpoints: unknown name 'rcan'."),
        (("teachers", "sr", "expected", "dataset"), "set5", "teachers.sr.expected.dataset: unknown name 'set5'."),
        (("teachers", "sr", "expected"), None, "teachers.sr.expected: missing; write {dataset: ..."),
        (("teachers", "sr", "checkpoint"), "set5/x.pt", "teachers.sr: give either checkpoint"),
        (("reports", "few_methods", "reference"), "fakd", "reports.few_methods.reference: unknown name 'fakd'."),
        (
            ("reports", "few_methods", "methods"),
            ["scratch", "skdd"],
            "few_methods.methods: unknown name 'skdd'",
        ),
        (("publications", "sr", "sets"), {"set5": {}}, "publications.sr.sets: unknown name 'set5'."),
    ],
    "sizes": [
        (("validate", "smallest_test_side"), 10, "validate.smallest_test_side: 10: the task sr can't measure images"),
        ((*TRAINING, "patch"), 200, "students.sr.training.patch: 200 degraded pixels are 400 clean ones, more than a"),
        (("packings", "sr", "size"), 241, "packings.sr.size: 241 is not a multiple of the scale 2: write 242."),
        ((*TRAINING, "batch"), 10**9, "students.sr.training: batch and patch: the images of one step take "),
        (("encoders", "sr", "training", "patch"), 25, "encoders.sr.training.patch: 25 degraded pixels are 50 clean"),
        ((*TRAINING, "batch"), 1, "students.sr.training.batch: 1 is less than the 2 samples that the method csd"),
    ],
    "networks": [
        (("students", "sr", "backbone"), {"name": "nafnet"}, "students.sr.backbone: nafnet: scale 2 is not supported"),
        (("teachers", "sr", "backbone", "channels"), 10**9, f"teachers.sr.backbone: {UNBUILDABLE}"),
        (("encoders", "sr", "network", "groups"), 7, "encoders.sr.network: can't be built: num_channels (8) must be"),
        (("ensembles", "sr", "aggregator", "heads"), 5, "ensembles.sr.aggregator: heads: 5 can't share 24 channels"),
        (("methods", "csd", "wide", "channels"), 8, "methods.csd.wide: head.0.weight is (16, 3, 3, 3) in the student"),
        (("methods", "dckd", "tap_weights"), [1], "methods.dckd.tap_weights: 1 weights, but the encoder has 5 levels"),
        (("privileged_teachers", "sr", "encoder"), {"channels": 10**9}, "privileged_teachers.sr.encoder: more than"),
    ],
    "truth values": [
        ((*TRAINING, "steps"), True, "students.sr.training.steps: expected a number, not true."),
        ((*TRAINING, "learning_rate"), True, "students.sr.training.learning_rate: expected a number, not true."),
        ((*TRAINING, "optimiser", "betas"), [False, 0.9], "optimiser.betas.0: expected a number, not false."),
        (
            ("methods", "logits", "weights", "logits"),
            True,
            "logits.weights.logits: expected a number, not true",
        ),
        (("run", "seeds"), [True], "run.seeds.0: expected a number, not true."),
        (
            ("teachers", "sr", "backbone", "channels"),
            True,
            "sr.backbone.channels: expected a number, not true",
        ),
        (("tasks", "sr", "gray"), 1, "tasks.sr.gray: expected true or false, not 1."),
    ],
    "names that are paths": [
        (("sources", "../../x"), FILE, f"sources: {NAME}, since it becomes that of a folder; found '../../x'."),
        (("sources", "/etc/x"), FILE, f"sources: {NAME}"),
        (("datasets", "a\nb"), {"source": "set5", "clean": ["*"]}, f"datasets: {NAME}"),
        (("datasets", "set5", "source"), "../set5", f"datasets.set5.source: {NAME}"),
        (("collections", "sr", "test"), ["/etc"], f"collections.sr.test.0: {NAME}"),
        (("sources", "x" * 101), FILE, f"sources: {NAME}"),
        (("reports", ".."), DEFAULT["reports"]["few_methods"], f"reports: {NAME}"),
        (("encoders", "sr", "checkpoint"), "../x", "encoders.sr: give either checkpoint"),
    ],
    "numbers out of any sense": [
        (("methods", "logits", "weights", "logits"), -1e9, "methods.logits.weights.logits: Input should be greater"),
        (("privileged_teachers", "sr", "weights", "imitation"), -1, "privileged_teachers.sr.weights.imitation: Input"),
        (("teachers", "sr", "training", "seed"), 2**70, "teachers.sr.training.seed: 1180591620717411303424 is no"),
        (("run", "seeds"), [2**70], "run.seeds.0: Input should be less than"),
        ((*TRAINING, "learning_rate"), 1e6, "students.sr.training.learning_rate: Input should be less than or equal"),
        ((*TRAINING, "learning_rate"), float("nan"), "students.sr.training.learning_rate: nan is no number"),
        (("ensembles", "sr", "tolerance"), float("inf"), "ensembles.sr.tolerance: inf is no number to compute with"),
        (("methods", "mtkd", "levels"), 10**9, "methods.mtkd.levels: Input should be less than or equal to 16"),
        (("encoders", "sr", "network", "multipliers"), [], "multipliers: Tuple should have at least 1 item"),
    ],
}


def faults(values, folder):
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    with chdir(folder):
        try:
            refuse_faults()
        except InputError as error:
            return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    ("place", "value", "told"), [one for kind in WRONG.values() for one in kind], ids=lambda value: str(value)[:40]
)
def test_a_wrong_value_is_one_line_before_anything_runs(place, value, told, tmp_path):
    values = copy.deepcopy(DEFAULT)
    *above, last = place
    reduce(getitem, above, values)[last] = value
    found = faults(values, tmp_path)
    assert [line for line in found if line.startswith("params.yaml: ") and told in line], found
    assert len(found) <= 3, found  # one value may miss in several sections


def test_every_kind_of_fault_has_five_members_at_least():
    assert {kind: len(cases) for kind, cases in WRONG.items() if len(cases) < 5} == {}


def test_the_project_as_it_is_has_no_fault(tmp_path):
    assert faults(DEFAULT, tmp_path) == []


def test_every_section_that_a_step_reads_is_typed_as_there():
    """And no other section is: what no step reads would be ignored."""
    read = {}
    for step in STEPS:
        for name, kind in typing.get_type_hints(step, include_extras=True).items():
            if kind not in (Path, Path | None, int, type(None)):
                read.setdefault(name, []).append(kind)
    sections = {**WHOLE, **BY_NAME}
    for name, kinds in read.items():
        kind = sections.get(name, sections.get(f"{name}s"))
        for one in kinds:
            loose = typing.get_origin(one) is dict
            assert one in (kind, dict[EntryName, kind]) or loose, (name, one)
    assert {name for name in sections if name not in read and name.removesuffix("s") not in read} == set()


@pytest.mark.parametrize(
    ("task", "smallest"),
    [
        ({"name": "sr", "scale": 2}, 16),
        ({"name": "sr", "scale": 4}, 20),
        ({"name": "denoise", "sigma": 25}, 11),
        ({"name": "deblur", "shake": {}}, 1),
    ],
)
def test_the_smallest_image_is_what_the_window_and_the_border_leave(task, smallest):
    """SSIM's window has 11 pixels a side; x2 cuts to a multiple and crops 2 pixels from each side."""
    assert sizes.smallest_measured(build_task(TaskChoice(**task))) == smallest


@pytest.mark.parametrize("preset", PRESETS)
def test_the_names_and_sizes_of_every_preset_fit(preset):
    project = read_project(composed(preset))
    assert [*names.missing_entries(project), *names.misfits(project)] == []
    assert [fault for task in project.run.tasks for fault in sizes.misfits(project, task)] == []


# One for each encoder of a task, and PISR's, whose teacher is the network itself.
OF_EACH_ENCODER = (
    "srkd_reading",
    "mtkd_edsr_x4",
    "deblur_photographs",
    "derain_photographs",
    "denoise_photographs",
    "skd_restormer_derain",
    "skd_uformer_deblur",
    "skd_uformer_denoise",
    "pisr_fsrcnn_x3",
)


def test_a_preset_of_each_kind_of_encoder_is_listed():
    def encoder(preset):
        values = composed(preset)
        (task,) = values["run"]["tasks"]
        return task, values["encoders"][task]["network"].get("name")

    assert {encoder(preset) for preset in PRESETS} == {encoder(preset) for preset in OF_EACH_ENCODER}


@pytest.mark.parametrize("preset", OF_EACH_ENCODER)
def test_a_preset_of_each_kind_of_encoder_passes_whole(preset, tmp_path):
    assert faults(composed(preset), tmp_path) == []
