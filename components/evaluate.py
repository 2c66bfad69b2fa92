"""Step: measure one student by the task's protocol, next to its teacher and the baseline."""

import logging
from functools import partial
from pathlib import Path

from components.backbones.cost import count_flops, count_parameters
from components.backbones.weights import load_backbone
from components.dependencies.verdict import refuse_unsound
from components.images.manifest import read_manifest
from components.run.files import read_json, write_json, written_whole
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

_LOG = logging.getLogger(__name__)


def evaluate(
    task: TaskChoice, student: Path, check: Path, manifest: Path, raw: Path, scores: Path, details: Path, speed: Path
) -> None:
    """Measure a student on the test images.

    Args:
        task: the task, whose protocol measures.
        student: the student's weights.
        check: what `check_teacher` wrote: the scores of teacher and baseline.
        manifest: what `validate` wrote.
        raw: folder of fetched sources.
        scores: JSON file to write: the student's scores by set, those of teacher and baseline, and its cost.
        details: folder to write `images.csv` (one row per image) and the restored images to.
        speed: JSON file to write the measured time to; it differs in every run, so DVC does not hash it.
    """
    restoration = build_task(task, raw)
    entries = list(test_entries(read_manifest(manifest)))
    device = best_device()
    network = load_backbone(student).to(device)
    with written_whole(details) as partial:
        partial.mkdir()
        found = evaluate_images("measure student", network_restorer(network), entries, raw, restoration, partial)
        write_scores(partial / "images.csv", found.scores)
    checked = read_json(check)
    cost = {"parameters": count_parameters(network), "flops": count_flops(network)}
    write_json(
        scores,
        {
            **found.sets(),
            "teacher": checked["teacher"],
            "baseline": checked["baseline"],
            **cost,
        },
    )
    write_speed(speed, found, device)
    for name, values in found.sets().items():
        _LOG.info("%s: %.2f dB, SSIM %.4f", name, values["psnr"], values["ssim"])
        current().metrics({f"test/{name}/{score}": value for score, value in values.items()})
    current().metrics({"seconds_per_megapixel": found.seconds_per_megapixel, **cost})
    dataset, first = next(iter(found.sets().items()))
    current().model(task, student, dataset, first | cost)


main = partial(run_step, evaluate, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
