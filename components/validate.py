"""Step: Great Expectations checks a table with one row per image; what passes is the manifest of later steps."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from components.dependencies.verdict import refuse_unsound
from components.images.datasets import Collection, Dataset, EntryName
from components.images.manifest import write_manifest
from components.run.errors import InputError
from components.run.files import write_json, written_whole
from components.run.params import Params
from components.run.step import run_step
from components.tasks import TaskChoice, build_task
from components.tasks.task import Task
from components.telemetry.progress import progress
from components.telemetry.recorder import observed
from components.validating.duplicates import (
    also_tested,
    near_duplicate_across_splits,
    same_file_across_splits,
    same_file_in_split,
)
from components.validating.inspection import Inspection, inspect_images
from components.validating.listing import Listed, list_images

if TYPE_CHECKING:
    from components.validating.judgement import Outcome

_LOG = logging.getLogger(__name__)
_SHOWN = 20

Mode = Literal["1", "L", "LA", "P", "PA", "RGB", "RGBA"]


class Validation(Params):
    """The limits of what may go into training and test.

    Attributes:
        smallest_training_side: pixels of a clean training image: the patch that training cuts from it.
        smallest_test_side: pixels of a clean validation or test image.
        largest_aspect: longer side over shorter side.
        near_duplicate_bits: two images of different splits count as the same if at most this many of the 64 bits of
            their perceptual hashes differ, in any orientation (`components.validating.duplicates`).
        smallest_pair_correlation: a degraded image belongs to its clean one if their details correlate at least this
            much (`components.validating.inspection.pair_correlation`).
        modes: how files may store their pixels, by Pillow's names: all are read as 8-bit RGB, but one may be
            unintended (a black-and-white scan among photographs). Transparent pixels are always refused.
    """

    smallest_training_side: int = Field(ge=1)
    smallest_test_side: int = Field(ge=1)
    largest_aspect: float = Field(default=4.0, ge=1)
    near_duplicate_bits: int = Field(default=6, ge=0, le=31)
    smallest_pair_correlation: float = Field(default=0.2, ge=-1, le=1)
    modes: tuple[Mode, ...] = Field(default=("RGB", "RGBA", "L", "P"), min_length=1)


def validate(
    task: TaskChoice,
    collection: Collection,
    datasets: dict[EntryName, Dataset],
    validate: Validation,
    raw: Path,
    manifest: Path,
    docs: Path,
) -> None:
    """Check every image of a task; write the manifest that later steps use if all are fit, otherwise nothing.

    Args:
        task: the task, whose scale and crop determine the sizes of a pair.
        collection: its datasets by split.
        datasets: every dataset by name.
        validate: the limits.
        raw: folder of fetched sources.
        manifest: folder to write `manifest.csv` and `validation.json` to.
        docs: folder to write Great Expectations' pages (Data Docs) to, even if images fail, and in that case also
            `validation.json`. The pages contain the time, so their bytes differ in every run.

    Raises:
        InputError: an image does not meet the limits (the message lists the files under each expectation), or the task
            can't degrade images that lack a degraded partner.
    """
    restoration = build_task(task)
    listed = list_images(collection, datasets, raw, restoration.scale)
    _refuse_lone(listed, restoration)
    inspected = inspect_images(listed, raw, restoration.crop, restoration.scale)
    images = list(progress(inspected, "validate", len(listed)))

    # Great Expectations takes up to 15 seconds to import and logs hundreds of lines: --help does without it.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    from components.validating.expectations import image_expectations  # noqa: PLC0415
    from components.validating.judgement import judge  # noqa: PLC0415

    rows = table(images, validate.near_duplicate_bits)
    limits = validate.model_dump(exclude={"near_duplicate_bits"})
    shared = any(row["also_tested"] for row in rows)
    outcomes = judge(rows, image_expectations(**limits, validates_on_test=shared), docs)
    pages = f"{docs / 'index.html'} (loads styles and scripts from the internet: unstyled without a network)"
    if any(outcome.required and not outcome.success for outcome in outcomes):
        every_row = docs / "validation.json"
        write_json(every_row, _result(outcomes, images))
        message = _failed(outcomes, images, raw)
        raise InputError(f"{message}\nNo manifest was written. Every row: {every_row}. Pages: {pages}.")
    with written_whole(manifest) as folder:
        folder.mkdir()
        write_manifest(folder / "manifest.csv", [image.entry() for image in images])
        write_json(folder / "validation.json", _result(outcomes, images))
    for outcome in outcomes:
        if not outcome.success:
            _LOG.info("Reported only:\n%s", _told(outcome))
    _LOG.info("%d images are fit for use. Pages: %s.", len(images), pages)


def _refuse_lone(listed: Sequence[Listed], task: Task) -> None:
    """Refuse clean images that nothing degrades: here, not at the first training crop, an hour later."""
    lone = [] if task.degrades else sorted({f"{one.split} {one.dataset}" for one in listed if not one.degraded})
    if lone:
        raise InputError(
            f"{', '.join(lone)}: has only clean images, and the task as configured makes no degraded ones. Write "
            "the dataset's `degraded`, or what the task needs to make them (denoise: `sigma`; derain: `rain`; deblur: "
            "`kernels` or `shake`)."
        )


def table(images: Sequence[Inspection], near_duplicate_bits: int) -> list[dict[str, Any]]:
    """The rows to judge: each image's values, and the other files that it duplicates."""
    columns = {
        "same_file_in_split": same_file_in_split(images),
        "same_file_across_splits": same_file_across_splits(images),
        "near_duplicate_across_splits": near_duplicate_across_splits(images, near_duplicate_bits),
        "also_tested": also_tested(images),
    }
    return [
        image.row() | {name: values[index] for name, values in columns.items()} for index, image in enumerate(images)
    ]


def _result(outcomes: Sequence["Outcome"], images: Sequence[Inspection]) -> dict[str, Any]:
    counts = Counter((image.split, image.dataset) for image in images)
    judged = [asdict(outcome) | {"failed": len(outcome.failures)} for outcome in outcomes]
    numbers = [{"split": split, "dataset": dataset, "images": count} for (split, dataset), count in counts.items()]
    return {"datasets": numbers, "expectations": judged}


def _failed(outcomes: Sequence["Outcome"], images: Sequence[Inspection], raw: Path) -> str:
    failures = [outcome for outcome in outcomes if outcome.required and not outcome.success]
    files = {failure.file for outcome in failures for failure in outcome.failures}
    head = f"{len(files)} of {len(images)} images in {raw} are not fit for use."
    return "\n".join([head, *map(_told, failures)])


def _told(outcome: "Outcome") -> str:
    lines = [f"  Expected: {outcome.expected}. Not so for {len(outcome.failures)} of {outcome.checked}:"]
    lines += [f"    {one.split} {one.dataset}: {one.file}: {one.found}" for one in outcome.failures[:_SHOWN]]
    if len(outcome.failures) > _SHOWN:
        lines.append(f"    and {len(outcome.failures) - _SHOWN} more")
    return "\n".join([*lines, f"    {outcome.advice}"])


main = partial(run_step, validate, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
