"""Every preset, composed as Hydra composes it, fits every stage of the graph."""

import importlib
import re
import shlex
import shutil
from itertools import pairwise
from typing import Any

import pytest
import torch
import yaml

from components.backbones import BackboneChoice, build_backbone
from components.backbones.cost import count_parameters
from components.images.datasets import Collection, Dataset, Source
from components.reporting.publication import Publication
from components.run import step as step_module
from components.run.params import typed
from components.run.step import parse
from components.training.recipe import Recipe
from pipeline.graph.graph import read_graph
from tests.pipeline.presets import DEFAULT, PRESETS, ROOT, composed, tasks_of

TASKS = ["sr", "denoise", "derain", "deblur"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """Of each task, the distinct commands of its stages: step and the flags that name params."""
    project = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "dvc.yaml", project)
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (project / "params.yaml").write_text(yaml.safe_dump(DEFAULT | {"run": DEFAULT["run"] | {"tasks": TASKS}}))
    found: dict[str, set[tuple[str, ...]]] = {task: set() for task in TASKS}
    for stage in read_graph(project):
        words = shlex.split(stage.command)[3:]
        # fetch names the collection alone
        task = next(word for flag, word in pairwise(words) if flag in {"--task", "--collection"})
        # Files are named alike in all methods, because only what comes from params.yaml matters.
        found[task].add(tuple("file" if "/" in word else word for word in words))
    return {task: sorted(map(list, chosen)) for task, chosen in found.items()}


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What every step reads as params.yaml."""
    values: dict[str, Any] = {}
    monkeypatch.setattr(step_module, "read_params", lambda _: values)
    return values


@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_takes_the_preset(
    preset: str, commands: dict[str, list[list[str]]], params: dict[str, Any]
) -> None:
    params.update(composed(preset))
    for task in tasks_of(params):
        for name, *flags in commands[task]:
            step = getattr(importlib.import_module(f"components.{name}"), name)
            assert parse(step, flags)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_file_has_an_origin_and_every_published_figure_a_set_that_is_tested(preset: str) -> None:
    values = composed(preset)
    for task in tasks_of(values):
        collection = typed(Collection, values["collections"][task], task)
        names = {name for _, name in collection.datasets()}
        datasets = {name: typed(Dataset, values["datasets"][name], name) for name in names}
        for source in {*(dataset.source for dataset in datasets.values()), *collection.checkpoints}:
            typed(Source, values["sources"][source], source)
        for teacher in ("", *(f"_{name}" for name in values["run"]["members"])):
            checkpoint = values["teachers"][task + teacher]["checkpoint"]
            assert checkpoint is None or checkpoint.partition("/")[0] in collection.checkpoints
        checkpoint = values["encoders"][task]["checkpoint"]
        assert checkpoint is None or checkpoint.partition("/")[0] in collection.checkpoints
        assert values["teachers"][task]["expected"]["dataset"] in collection.test
        publication = typed(Publication, values["publications"][task], task)
        assert set(publication.sets) <= set(collection.test)
        assert bool(publication.sets) == bool(publication.source)
        for rows in publication.sets.values():
            assert set(rows) <= {"teacher", *values["methods"]}


def test_every_part_says_what_it_is_and_is_used() -> None:
    texts = {path: path.read_text() for path in (ROOT / "conf").rglob("*.yaml")}
    used = {name for text in texts.values() for name in re.findall(r"^  - /conf/(\w+/\w+)", text, re.MULTILINE)}
    for path, text in texts.items():
        assert re.match(r"(# @package _global_\n)?(# |defaults:|source:)", text), f"{path}: no comment"
    parts = {f"{path.parent.name}/{path.stem}" for path in texts if path.parent.name != "preset"}
    assert parts - used == set()


def test_the_two_readings_of_dckd_differ_where_paper_and_release_do() -> None:
    paper, released = (composed(name) for name in ("dckd_paper", "dckd_released"))
    assert "label_consistency" not in paper["methods"]["dckd"]["weights"]
    assert released["methods"]["dckd"]["weights"]["label_consistency"] == 1
    assert paper["methods"]["dckd"]["history"]["source"] == "student"
    assert released["methods"]["dckd"]["history"]["source"] == "ema"
    assert (paper["students"]["sr"]["training"]["batch"], released["students"]["sr"]["training"]["batch"]) == (16, 64)
    assert paper["students"]["sr"]["training"]["schedule"]["milestones"] == [100_000, 200_000]
    assert released["students"]["sr"]["training"]["schedule"]["name"] == "constant"
    for preset in (paper, released):
        assert preset["methods"]["dckd"]["weights"]["contrastive"] == 0.1
        assert preset["methods"]["dckd"]["weights"]["codes"] == 0.001


@pytest.mark.parametrize(
    ("preset", "reconstruction", "logits"), [("bsds500", 1, 1), ("logits_convex", 0.5, 0.5), ("logits_weighted", 5, 1)]
)
def test_logits_is_the_sum_but_where_a_variant_is_asked_for(preset: str, reconstruction: float, logits: float) -> None:
    weights = composed(preset)["methods"]["logits"]["weights"]
    assert weights == {"reconstruction": reconstruction, "logits": logits}


def test_fakd_has_the_ratios_of_0_5_and_0_5_and_10_on_images_of_255() -> None:
    values = composed("fakd_paper")
    weights = values["methods"]["fakd"]["weights"]
    assert {name: weight * 255 for name, weight in weights.items()} == pytest.approx(
        {"reconstruction": 0.5 * 255, "logits": 0.5 * 255, "spatial": 10}
    )
    training = values["students"]["sr"]["training"]
    assert (training["steps"], training["schedule"]["milestones"], training["schedule"]["factor"]) == (
        200_000,
        [150_000],
        0.5,
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pisr_trains_luma_a_million_steps_twice_on_crops_of_192_pixels(scale: int) -> None:
    values = composed(f"pisr_fsrcnn_x{scale}")
    assert values["tasks"]["sr"] == {"scale": scale, "gray": True}
    for section in ("privileged_teachers", "students"):
        training = values[section]["sr"]["training"]
        assert (training["steps"], training["batch"], training["patch"] * scale) == (1_000_000, 16, 192)
        assert (training["learning_rate"], training["schedule"]["minimum"]) == (1e-3, 1e-5)
        assert training["schedule"]["name"] == "cosine"
    # The released sums are of luma: of gray images, the L1 of red, green and blue is 255/219 of it.
    for weights, name, released in (
        (values["privileged_teachers"]["sr"]["weights"], "imitation", 1e-4),
        (values["methods"]["pisr"]["weights"], "variational", 1e-6),
    ):
        assert weights["reconstruction"] * 255 / 219 == pytest.approx(1)
        assert weights[name] == released


@pytest.mark.parametrize(
    ("preset", "network"), [(f"fakd_{network}_x{scale}", network) for network in ("rcan", "san") for scale in (2, 3, 8)]
)
def test_fakd_trains_all_students_alike(preset: str, network: str) -> None:
    paper, values = composed("fakd_paper"), composed(preset)
    assert values["students"]["sr"]["training"] == paper["students"]["sr"]["training"]
    assert values["methods"]["fakd"] == paper["methods"]["fakd"]
    assert {values[section]["sr"]["backbone"]["name"] for section in ("teachers", "students")} == {network}


@pytest.mark.parametrize("preset", ["dckd_restormer_gopro", "dckd_restormer_derain", "skd_restormer_denoise"])
def test_restormers_recipe_grows_as_its_options_say(preset: str) -> None:
    """`iters`, `gt_sizes` and 8 processes of `mini_batch_sizes`."""
    values = composed(preset)
    (task,) = tasks_of(values)
    recipe = typed(Recipe, values["students"][task]["training"], preset)
    ends = [92_000, 156_000, 204_000, 240_000, 276_000, 300_000]
    found = [(len(recipe.sizes.samples(end)), recipe.sizes.patch(recipe.sizes.samples(end)[0])) for end in ends]
    assert found == [(64, 128), (40, 160), (32, 192), (16, 256), (8, 320), (8, 384)]
    assert (recipe.steps, recipe.grad_clip_norm, recipe.optimiser.weight_decay) == (300_000, 0.01, 1e-4)
    # Mixup is for denoising alone.
    assert (recipe.mixup is not None) == (task == "denoise")


@pytest.mark.parametrize(
    ("preset", "task", "teacher", "student"),
    [
        ("dckd_paper_rcan_x2", "sr", 15_444_643, 5_023_603),
        ("dckd_paper_rcan_x3", "sr", 15_629_283, 5_208_243),
        ("dckd_paper", "sr", 15_592_355, 5_171_315),
        ("dckd_paper_swinir_x2", "sr", 11_752_487, 1_087_727),
        ("dckd_paper_swinir_x3", "sr", 11_937_127, 1_272_367),
        ("dckd_paper_swinir_x4", "sr", 11_900_199, 1_235_439),
        ("dckd_nafnet_gopro", "deblur", 17_111_907, 2_683_059),
        ("dckd_restormer_gopro", "deblur", 26_126_644, 3_813_230),
        ("dckd_restormer_derain", "derain", 26_126_644, 3_813_230),
        ("skd_restormer_denoise", "denoise", 26_111_668, None),
        ("fakd_san_x4", "sr", 15_862_560, 4_997_594),
        ("fakd_rcan_x8", "sr", 15_740_067, 5_319_027),
    ],
)
def test_networks_are_those_of_the_tables(preset: str, task: str, teacher: int, student: int | None) -> None:
    """By their published numbers of parameters, counted without memory for them."""
    values = composed(preset)
    for section, expected in (("teachers", teacher), ("students", student)):
        choice = BackboneChoice(**values[section][task]["backbone"])
        with torch.device("meta"):
            network = build_backbone(choice, values["tasks"][task].get("scale", 1))
        assert expected in {count_parameters(network), None}
