"""A preset of conf/ laid over the committed params.yaml."""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.graph.overrides import PARAMS_FILE, add_override_arguments
from pipeline.messages import PipelineError, did_you_mean

PRESETS = Path("conf/preset")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("preset", metavar="NAME", help=f"a file of {PRESETS}, without its ending")
    add_override_arguments(parser)
    parser.epilog = f"example: python -m pipeline preset bsds500. `git checkout {PARAMS_FILE} dvc.yaml` undoes it."


def run(arguments: argparse.Namespace) -> None:
    """Write the preset into params.yaml.

    Raises:
        PipelineError: no such preset, or a params.yaml with uncommitted changes, which would be lost.
    """
    from dvc.utils.serialize import loads_yaml  # noqa: PLC0415 -- DVC takes a second

    from pipeline.graph.overrides import parse_overrides  # noqa: PLC0415
    from pipeline.messages import say  # noqa: PLC0415
    from pipeline.project import refuse_unsound  # noqa: PLC0415
    from pipeline.working_copy.git import project_git  # noqa: PLC0415
    from pipeline.working_copy.params import set_params  # noqa: PLC0415

    git = project_git(Path())
    if git is None:
        raise PipelineError("no git repository: a preset is laid over the committed params.yaml.")
    text = git.run("show", f"HEAD:{PARAMS_FILE}")
    if Path(PARAMS_FILE).read_text(encoding="utf-8").strip() != text.strip():
        raise PipelineError(
            f"{PARAMS_FILE}: differs from the committed one, over which a preset is laid. Commit it, or "
            f"`git checkout {PARAMS_FILE} dvc.yaml`."
        )
    committed = loads_yaml(text)
    overrides = preset_overrides(Path(), committed, arguments.preset)
    set_params(Path(), overrides)
    written = loads_yaml(Path(PARAMS_FILE).read_text(encoding="utf-8"))
    set_params(Path(), parse_overrides(arguments.assignments, written))
    refuse_unsound(Path())
    say(f"{PARAMS_FILE}: {len(overrides)} values of the preset {arguments.preset}.")


def preset_overrides(folder: Path, params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a preset of `folder` changes in `params`: `{"a.b": value, "+a.new": value}`.

    Raises:
        PipelineError: no such preset, or one that names a missing file.
    """
    from hydra import compose, initialize_config_dir  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    names = sorted(path.stem for path in (folder / PRESETS).glob("*.yaml"))
    if name not in names:
        raise PipelineError(f"{PRESETS}: no preset {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}.")
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "conf").symlink_to((folder / "conf").absolute())
        (Path(place) / "params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(params))), encoding="utf-8")
        try:
            with initialize_config_dir(place, version_base=None):
                composed = compose("params", overrides=[f"+{PRESETS}={name}"])
        except HydraException as error:
            raise PipelineError(f"{PRESETS / name}.yaml: {' '.join(str(error).split())}") from None
    return dict(_differing(params, OmegaConf.to_container(composed)))


def _differing(before: Any, after: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in after.items():
        if key not in before:
            yield f"+{above}{key}", value
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping):
            yield from _differing(before[key], value, f"{above}{key}.")
        elif value != before[key]:
            yield f"{above}{key}", value
