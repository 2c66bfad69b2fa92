"""The params that a command asks for: a preset of conf/ over the committed params.yaml, and single values over that."""

import argparse
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yaml import YAMLError

from pipeline.graph.assignments import add_set_argument, assigned, refuse_new_sections
from pipeline.graph.overrides import PARAMS_FILE, differing
from pipeline.messages import PipelineError, did_you_mean
from pipeline.project import refuse_unsound
from pipeline.working_copy.git import Git
from pipeline.working_copy.params import set_params
from pipeline.working_copy.workspace import WorkingCopy

PRESETS = Path("conf/preset")
_WRITTEN = Path(".cache/pipeline/preset")
"""Holds the hash of the params.yaml that `preset` wrote last."""


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--preset` and `--set` to a command."""
    parser.add_argument(
        "--preset", default="", metavar="NAME", help=f"a file of {PRESETS}, laid over the committed {PARAMS_FILE}"
    )
    add_set_argument(parser)


def override(copy: WorkingCopy, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write what the flags ask for into a working copy, its lists of dependencies too.

    Args:
        copy: a working copy of the revision that is asked for.
        arguments: the flags of `add_override_arguments`.

    Returns:
        The overrides, as every task of a run takes them.

    Raises:
        PipelineError: no such preset or key, a preset over edits that are not committed, or params that no step takes.
    """
    from dvc.utils.serialize import loads_yaml  # noqa: PLC0415 -- DVC takes a second

    file = copy.folder / PARAMS_FILE
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    params = loads_yaml(text) or {}
    wanted = params
    if arguments.preset:
        if copy.git and not copy.commit:
            wanted = loads_yaml(committed_text(copy.git, text))
        wanted = composed(copy.folder, wanted, arguments.preset)
    overrides = dict(differing(params, assigned(wanted, arguments.assignments)))
    set_params(copy.folder, overrides)
    refuse_unsound(copy.folder)
    return overrides


def committed_text(git: Git, text: str) -> str:
    """The committed params.yaml, over which presets are laid.

    Args:
        git: of the project in the working directory.
        text: the params.yaml in it.

    Raises:
        PipelineError: `text` has edits that are not committed and that no preset made: they would be lost.
    """
    if git.commit("HEAD") is None or not git.run("ls-tree", "HEAD", PARAMS_FILE):
        raise PipelineError(f"{PARAMS_FILE}: a preset is laid over the committed one; commit it first.")
    committed = git.run("show", f"HEAD:{PARAMS_FILE}") + "\n"
    known = {_hash(committed), _WRITTEN.read_text(encoding="utf-8") if _WRITTEN.exists() else ""}
    if _hash(text) not in known:
        raise PipelineError(
            f"{PARAMS_FILE}: has edits that are not committed, and a preset is laid over the committed one. Commit "
            f"them, or drop them by `git checkout {PARAMS_FILE} dvc.yaml`."
        )
    return committed


def remember(text: str) -> None:
    """Note that a preset made this params.yaml, so that another may take its place."""
    _WRITTEN.parent.mkdir(parents=True, exist_ok=True)
    _WRITTEN.write_text(_hash(text), encoding="utf-8")


def _hash(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def composed(folder: Path, params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`params` with a preset of `folder` laid over them by Hydra, its `defaults` lists too.

    Raises:
        PipelineError: no such preset, one that names a missing file, or one with a section that `params` do not have.
    """
    from hydra import compose, initialize_config_dir  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    names = sorted(path.stem for path in (folder / PRESETS).glob("*.yaml"))
    if name not in names:
        raise PipelineError(f"{PRESETS}: no preset {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}.")
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "conf").symlink_to((folder / "conf").absolute())
        (Path(place) / PARAMS_FILE).write_text(OmegaConf.to_yaml(OmegaConf.create(dict(params))), encoding="utf-8")
        try:
            with initialize_config_dir(place, version_base=None):
                found = compose(Path(PARAMS_FILE).stem, overrides=[f"+{PRESETS}={name}"])
        except (HydraException, YAMLError) as error:
            reason = str(error).partition("Config search path:")[0]
            raise PipelineError(f"{PRESETS / name}.yaml: {' '.join(reason.split())}") from None
    _refuse_misread(folder, f"{PRESETS / name}.yaml")
    values: Any = OmegaConf.to_container(found)
    if PRESETS.parts[0] in values:
        raise PipelineError(f"{PRESETS / name}.yaml: its first line must be `# @package _global_`.")
    refuse_new_sections(params, values, f"{PRESETS / name}.yaml")
    return dict(values)


def _refuse_misread(folder: Path, file: str) -> None:
    """Refuse values of a preset, and of the files that it is laid over, that Hydra's YAML 1.1 takes for others.

    Raises:
        PipelineError: names the first, such as `on`, 010 or 1:30.
    """
    from dvc.utils.serialize import loads_yaml  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    text = (folder / file).read_text(encoding="utf-8")
    plain = loads_yaml(text) or {}
    for key, value in differing(plain, OmegaConf.to_container(OmegaConf.create(text))):
        raise PipelineError(
            f"{file}: {key}: what stands there is taken for {value!r} in a preset: write that, or put quotes around a "
            "text."
        )
    for entry in plain.get("defaults", ()):
        _refuse_misread(folder, f"{str(entry).lstrip('/').partition('@')[0]}.yaml")
