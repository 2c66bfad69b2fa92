"""Step: stop the run unless the teacher reaches its expected score; the baseline is measured as well."""

import logging
from functools import partial
from pathlib import Path

from components.backbones.cost import count_flops, count_parameters
from components.backbones.weights import load_backbone
from components.dependencies.verdict import refuse_unsound
from components.images.manifest import read_manifest
from components.run.errors import InputError, unknown_name
from components.run.files import sha256_of, write_json, written_whole
from components.run.step import run_step
from components.tasks import TaskChoice, build_task
from components.tasks.evaluation import (
    best_device,
    evaluate_images,
    network_restorer,
    test_entries,
    write_scores,
    write_speed,
)
from components.telemetry.recorder import current, observed
from components.training.networks import Expected, Teacher

_LOG = logging.getLogger(__name__)


def check_teacher(
    task: TaskChoice,
    teacher: Teacher,
    network: Path,
    manifest: Path,
    raw: Path,
    scores: Path,
    details: Path,
    speed: Path,
) -> None:
    """Measure teacher and baseline on the test images, and refuse a teacher below its expected score.

    Args:
        task: the task, whose protocol measures.
        teacher: its expected score.
        network: the teacher's weights.
        manifest: what `validate` wrote.
        raw: folder of fetched sources.
        scores: JSON file to write: each set's scores of teacher and baseline, the teacher's cost and sha256.
        details: folder to write `teacher.csv`, `baseline.csv` (one row per image) and the restored images to.
        speed: JSON file to write the teacher's measured time to; it differs in every run, so DVC does not
            hash it.

    Raises:
        InputError: the teacher's PSNR is below the expected one minus its tolerance, or none is given; nothing is
            written.
    """
    if teacher.expected is None:
        raise InputError("params.yaml: teachers.expected: missing; write {dataset: ..., psnr: ..., tolerance: ...}.")
    restoration = build_task(task, raw)
    entries = list(test_entries(read_manifest(manifest)))
    device = best_device()
    loaded = load_backbone(network).to(device)
    with written_whole(details) as partial:
        partial.mkdir()
        found = {
            name: evaluate_images(f"measure {name}", restorer, entries, raw, restoration, partial / name)
            for name, restorer in (("teacher", network_restorer(loaded)), ("baseline", restoration.baseline))
        }
        sets = {name: evaluation.sets() for name, evaluation in found.items()}
        for name, scores_of in sets.items():
            for dataset, values in scores_of.items():
                current().metrics({f"{name}/{dataset}/{score}": value for score, value in values.items()})
        _refuse_weak(teacher.expected, sets["teacher"])
        for name, evaluation in found.items():
            write_scores(partial / f"{name}.csv", evaluation.scores)
    write_json(
        scores,
        {
            **sets,
            "parameters": count_parameters(loaded),
            "flops": count_flops(loaded),
            "sha256": sha256_of(network),
        },
    )
    write_speed(speed, found["teacher"], device)


def _refuse_weak(expected: Expected, sets: dict[str, dict[str, float]]) -> None:
    if expected.dataset not in sets:
        raise unknown_name("params.yaml: teachers.expected.dataset", expected.dataset, sets)
    psnr = sets[expected.dataset]["psnr"]
    if psnr < expected.psnr - expected.tolerance:
        raise InputError(
            f"the teacher reaches {psnr:.2f} dB on {expected.dataset}, expected {expected.psnr:.2f} dB "
            f"(tolerance {expected.tolerance:.2f}). No student can be taught better than that: fix the teacher, or "
            "correct teachers.expected in params.yaml."
        )
    _LOG.info("the teacher reaches %.2f dB on %s, expected %.2f", psnr, expected.dataset, expected.psnr)


main = partial(run_step, check_teacher, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
