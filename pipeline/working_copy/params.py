"""Change values in a folder's params.yaml, and what follows from them in dvc.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.graph.overrides import PARAMS_FILE, apply_overrides
from pipeline.project import write_lists


def set_params(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write overrides into the params.yaml of a project, and its lists of dependencies into dvc.yaml.

    Args:
        folder: the project.
        overrides: `{"a.b": value}`; a key that is new begins with `+`, one to remove with `~`.

    Raises:
        PipelineError: a key that the file does not have, or lists that can't be made from the new values.
    """
    if overrides:
        apply_overrides(folder / PARAMS_FILE, overrides)
        write_lists(folder)
