"""Every preset, composed as DVC composes it, fits every stage of the graph."""

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from components.run.step import parse
from pipeline.graph import read_graph

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "conf/preset").glob("*.yaml"))


def composed(preset: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT), version_base=None):
        values = OmegaConf.to_container(compose("params", overrides=[f"+conf/preset={preset}"]), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_takes_the_preset(preset: str, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(composed(preset)))
    for stage in read_graph(ROOT):
        words = shlex.split(stage.command)
        step = getattr(importlib.import_module(words[2]), words[2].rpartition(".")[2])
        assert parse(step, [*words[3:], "--params", str(params)])


def test_the_two_readings_of_dckd_differ_where_paper_and_release_do() -> None:
    paper, released = (composed(name) for name in ("dckd_paper", "dckd_released"))
    assert "label_consistency" not in paper["methods"]["dckd"]["weights"]
    assert released["methods"]["dckd"]["weights"]["label_consistency"] == 1
    assert paper["methods"]["dckd"]["history"]["source"] == "student"
    assert released["methods"]["dckd"]["history"]["source"] == "average"
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
