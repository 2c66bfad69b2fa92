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
