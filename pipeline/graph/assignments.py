"""`--set KEY=VALUE`: DVC's own grammar of `dvc exp run -S`, which is Hydra's, and clear words where it refuses.

https://hydra.cc/docs/advanced/override_grammar/basic/
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.graph.overrides import PARAMS_FILE, differing, place_of
from pipeline.messages import PipelineError, did_you_mean


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--set` to a command."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help=f"another value for a key of {PARAMS_FILE}, as `dvc exp run -S` takes it: students.sr.training.steps=500, "
        "+KEY=VALUE adds a key, ~KEY removes one; repeatable",
    )


def parse_overrides(assignments: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """What `KEY=VALUE` assignments change in `params`, as overrides.

    Raises:
        PipelineError: see `assigned`.
    """
    return dict(differing(params, assigned(params, assignments)))


def assigned(params: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return `params` as DVC would change them by `-S ASSIGNMENT` for each of the assignments, one after the other.

    A text with commas, which DVC takes for several values, is one text here.

    Raises:
        PipelineError: an assignment that DVC refuses, with the key's neighbours where it is unknown; several values; a
            section that `params` do not have; or a value that JSON can't hold.
    """
    values: dict[str, Any] = dict(params)
    for assignment in assignments:
        values = _applied(values, _single(values, assignment), assignment)
        try:
            json.dumps(values, allow_nan=False)
        except ValueError:
            raise PipelineError(
                f"--set {assignment}: JSON can't hold `nan` and `inf`. Put quotes around a text: KEY='\"nan\"'."
            ) from None
    return values


def refuse_new_sections(before: Mapping[str, Any], after: Mapping[str, Any], where: str) -> None:
    """Refuse sections that params.yaml does not have, because no step would read them.

    Args:
        before: all sections that there are.
        after: the sections that are asked for.
        where: what asks for them, for the message.

    Raises:
        PipelineError: a section is new.
    """
    for name in after:
        if name in before:
            continue
        if name.rpartition("/")[2] == "preset":
            raise PipelineError(f"{where}: a preset is no key of {PARAMS_FILE}: write `--preset {after[name]}`.")
        raise PipelineError(
            f"{where}: {PARAMS_FILE} has no section {name!r}.{did_you_mean(name, before)} "
            f"There are: {', '.join(sorted(before))}."
        )


def _single(values: Mapping[str, Any], assignment: str) -> str:
    """The assignment of one value, checked as far as DVC's own words would not help."""
    from dvc.utils.hydra import to_hydra_overrides  # noqa: PLC0415 -- Hydra's parser takes a quarter of a second
    from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415

    try:
        (override,) = to_hydra_overrides([assignment])
    except HydraException as error:
        reason = " ".join(str(error).partition("\nSee https://")[0].split())
        raise PipelineError(
            f"--set {assignment}: expected KEY=VALUE, as in students.sr.training.steps=500 ({reason}). "
            "Put quotes around a text with other signs than letters, digits and `-_/.:,`: KEY='\"He et al. (2020)\"'."
        ) from None
    value = override.value()
    key = override.key_or_group
    refuse_new_sections(values, {key.partition(".")[0]: value}, f"--set {assignment}")
    if not (override.is_add() or override.is_force_add()):
        _refuse_unknown(values, key, value, assignment)
    if not override.is_sweep_override():
        return assignment
    if isinstance(value, ChoiceSweep) and value.simple_form and any(isinstance(part, str) for part in value.list):
        before, _, text = assignment.partition("=")
        return f"{before}={QuotedString(text.strip(), Quote.single).with_quotes()}"
    raise PipelineError(
        f"--set {assignment}: one value is expected, and this is several. For a grid of experiments, "
        "`dvc exp run --queue -S` takes them; a list stands in brackets."
    )


def _refuse_unknown(values: Mapping[str, Any], key: str, value: Any, assignment: str) -> None:
    """Refuse keys that are not there, those of a mapping's own entries too: without `+`, nothing is added."""
    inside: Any = values
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if isinstance(inside, list) and assignment.startswith("~"):
            raise PipelineError(f"--set {assignment}: a list's entry can't be removed alone; set the whole list.")
        inside = inside[place_of(inside, part, parts[:depth], assignment)]
    if isinstance(inside, dict) and isinstance(value, dict):
        for name, entry in value.items():
            _refuse_unknown(values, f"{key}.{name}", entry, assignment)


def _applied(values: Mapping[str, Any], assignment: str, written: str) -> dict[str, Any]:
    """What DVC's own function makes of params in a JSON file."""
    from dvc.exceptions import DvcException  # noqa: PLC0415
    from dvc.utils.hydra import apply_overrides  # noqa: PLC0415
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    with TemporaryDirectory() as folder:
        path = Path(folder, "params.json")
        path.write_text(json.dumps(values, default=str), encoding="utf-8")
        try:
            apply_overrides(str(path), [assignment])
        except (DvcException, OmegaConfBaseException, TypeError) as error:
            cause: BaseException = error
            while cause.__cause__:
                cause = cause.__cause__
            reason = " ".join(str(cause).partition("object_type=")[0].split())
            raise PipelineError(f"--set {written}: {reason}") from None
        changed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return changed
