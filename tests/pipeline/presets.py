"""Presets composed as Hydra composes them, each once."""

import copy
import functools
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "conf/preset").glob("*.yaml"))
DEFAULT = yaml.safe_load((ROOT / "params.yaml").read_text())


def composed(preset: str) -> dict[str, Any]:
    """The params of a preset, a copy of one's own."""
    return copy.deepcopy(_composed(preset))


@functools.cache
def _composed(preset: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT), version_base=None):
        values = OmegaConf.to_container(compose("params", overrides=[f"+conf/preset={preset}"]), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def tasks_of(values: dict[str, Any]) -> list[str]:
    tasks: list[str] = values["run"]["tasks"]
    return tasks
