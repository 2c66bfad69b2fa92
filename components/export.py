"""Step: one student as ONNX files that run anywhere, checked against torch, and what smaller variants lose."""

import logging
import tempfile
from functools import partial
from pathlib import Path

import torch
from pydantic import Field

from components.backbones.weights import load_backbone, read_description
from components.dependencies.verdict import refuse_unsound
from components.exporting.costs import cost_of
from components.exporting.facts import describe, licences
from components.exporting.graph import to_bytes, to_onnx
from components.exporting.losses import calibration_crops, measure_variants
from components.exporting.opening import open_network
from components.exporting.variants import halved, quantised
from components.images.datasets import Collection, Dataset, EntryName, Source
from components.images.manifest import read_manifest
from components.run.files import sha256_of, write_json, written_whole
from components.run.params import Params, Positive
from components.run.step import run_step
from components.tasks import TaskChoice, build_task
from components.tasks.evaluation import test_entries
from components.telemetry.recorder import observed

_LOG = logging.getLogger(__name__)


class Calibration(Params):
    """How the ranges of 8-bit integers are found.

    Attributes:
        crops: number of crops of degraded validation images that the network sees for this.
        crop_side: side of each crop, in degraded pixels.
    """

    crops: Positive = 32
    crop_side: int = Field(default=96, ge=8)


def export(
    task: TaskChoice,
    export: Calibration,
    sources: dict[EntryName, Source],
    datasets: dict[EntryName, Dataset],
    collection: Collection,
    student: Path,
    teacher: Path,
    manifest: Path,
    raw: Path,
    output: Path,
    speed: Path,
) -> None:
    """Write a student as ONNX, in three precisions, and measure what each loses and costs.

    Args:
        task: the task; its protocol measures.
        export: how the ranges of 8-bit integers are found.
        sources: every source by name, for licences.
        datasets: every dataset by name.
        collection: the task's datasets by split.
        student: the student's weights.
        teacher: the teacher's weights, whose cost is compared with the student's.
        manifest: what `validate` wrote.
        raw: folder of fetched sources.
        output: folder to write `student.onnx`, `student_float16.onnx`, `student_int8.onnx` and `losses.json` to: the
            latter has the bytes of each file, and for each test set its PSNR and its loss against torch, in dB.
        speed: JSON file to write the measured times and memory to; they differ in every run, so it is not an output
            that DVC hashes.

    Raises:
        InputError: the network can't be written as ONNX, or the graph differs from the network.
    """
    restoration = build_task(task, raw)
    entries = read_manifest(manifest)
    network = load_backbone(student)
    facts = describe(
        task=task.name,
        scale=network.scale,
        backbone=read_description(student)["backbone"],
        student=sha256_of(student),
        training=licences(collection.training, datasets, sources),
    )
    validation = [entry for entry in entries if entry.split == "validation"]
    crops = calibration_crops(validation, raw, restoration, export.crops, export.crop_side)
    graph = to_onnx(network, facts)
    models = {
        "student": graph,
        "student_float16": halved(graph),
        "student_int8": quantised(graph, crops),
    }
    with written_whole(output) as partial:
        partial.mkdir()
        files = {name: partial / f"{name}.onnx" for name in models}
        for name, path in files.items():
            path.write_bytes(to_bytes(models[name]))
        variants = {"torch": open_network(student)} | {name: open_network(path) for name, path in files.items()}
        found = measure_variants(variants, list(test_entries(entries)), raw, restoration)
        sizes = {"torch": student.stat().st_size} | {name: path.stat().st_size for name, path in files.items()}
        write_json(partial / "losses.json", {name: {"bytes": sizes[name], **sets} for name, sets in found.items()})
    for name, sets in found.items():
        for dataset, values in sets.items():
            _LOG.info("%s on %s: %.2f dB, %.3f lost", name, dataset, values["psnr"], values["lost"])
    files = {name: output / path.name for name, path in files.items()}
    _measure_costs(speed, student, files, teacher)


def _measure_costs(speed: Path, student: Path, exported: dict[str, Path], teacher: Path) -> None:
    """Measure every file, and the teacher as ONNX too; the student's hash says to which student they belong."""
    files = {"student_torch": student, **exported, "teacher_torch": teacher}
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        network = load_backbone(teacher)
        path = Path(folder, "teacher.onnx")
        path.write_bytes(to_bytes(to_onnx(network, {"scale": str(network.scale)})))
        costs = {name: cost_of(file, threads)._asdict() for name, file in {**files, "teacher": path}.items()}
    write_json(speed, {"device": "cpu", "threads": threads, "student": sha256_of(student), "networks": costs})
    for name, cost in costs.items():
        _LOG.info(
            "%s: %.3f s and %.0f MB per megapixel", name, cost["seconds_per_megapixel"], cost["megabytes_per_megapixel"]
        )


main = partial(run_step, export, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
