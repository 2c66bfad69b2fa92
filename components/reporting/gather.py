"""All inputs of the report, read into typed values; errors name what is missing or does not fit together."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from components.backbones.weights import read_description
from components.images.datasets import Collection, Dataset, Source, shown
from components.images.manifest import Entry, read_manifest
from components.reporting.circumstances import Circumstances
from components.reporting.findings import (
    Complexity,
    Contender,
    Curve,
    EncoderFindings,
    Expectation,
    FailedImage,
    Findings,
    Origin,
    Quality,
)
from components.reporting.publication import Publication
from components.run.errors import InputError, unknown_name
from components.run.files import read_json, sha256_of
from components.run.params import PARAMS_FILE, typed
from components.tasks.task import Task

Row = dict[str, str]
Recipes = Mapping[str, Mapping[str, Any]]
"""Sections of params.yaml with which networks were trained, by the name to show."""

Declared = TypeVar("Declared", Dataset, Source)


def gather(
    task_name: str,
    task: Task,
    methods: Sequence[str],
    seed: int,
    reference: str,
    collection: Collection,
    datasets: Mapping[str, Dataset],
    declared: Mapping[str, Source],
    publication: Publication,
    recipes: Recipes,
    *,
    scores: Path,
    students: Path,
    teacher: Path,
    encoder: Path,
    manifest: Path,
    circumstances: Path | None = None,
) -> Findings:
    """Read what the stages wrote.

    The folders are those of one task, as dvc.yaml lays them out: `<scores>/<method>/<seed>.json`,
    `<students>/<method>/<seed>/` and so on.

    Raises:
        InputError: a file is missing (the message names the stage that writes it), or two speak of different images
            or of different teachers.
    """
    entries = tuple(_manifest(manifest))
    tested = {entry.key for entry in entries if entry.split == "test"}
    checked = _json(scores / "teacher.json", "check_teacher")
    about = _circumstances(circumstances, seed)
    details = scores / "teacher"
    contenders = [
        Contender(
            name="bicubic" if task.scale > 1 else "input",  # the two that `Task.baseline` knows
            role="baseline",
            sets=_sets(checked["baseline"], collection.test, scores / "teacher.json"),
            images=_images(details / "baseline.csv", "check_teacher", tested),
            restored=details / "baseline",
        )
    ]
    for method in methods:
        path, folder = scores / method / f"{seed}.json", students / method / str(seed)
        found = _json(path, "evaluate")
        if any(found[name] != checked[name] for name in ("teacher", "baseline")):
            raise InputError(
                f"{path} was written with another teacher than {scores / 'teacher.json'}: {_run('evaluate')}"
            )
        contenders.append(
            Contender(
                name=method,
                role="student",
                sets=_sets(found, collection.test, path),
                images=_images(scores / method / str(seed) / "images.csv", "evaluate", tested),
                restored=scores / method / str(seed),
                cost=Complexity(found["parameters"], found["flops"]),
                backbone=_backbone(folder / "student.safetensors", "distill"),
                losses=_curve(folder / "history.csv", "distill"),
                validation=_curve(folder / "validation.csv", "distill"),
                weights=sha256_of(folder / "student.safetensors"),
                seconds=_seconds(about, method),
            )
        )
    contenders.append(
        Contender(
            name="teacher",
            role="teacher",
            sets=_sets(checked["teacher"], collection.test, scores / "teacher.json"),
            images=_images(details / "teacher.csv", "check_teacher", tested),
            restored=details / "teacher",
            cost=Complexity(checked["parameters"], checked["flops"]),
            backbone=_backbone(teacher / "teacher.safetensors", "train_teacher"),
            losses=_curve(teacher / "history.csv", "train_teacher"),
            validation=_curve(teacher / "validation.csv", "train_teacher"),
            weights=sha256_of(teacher / "teacher.safetensors"),
            seconds=_seconds(about, "teacher"),
        )
    )
    sources = {name: _known("datasets", name, datasets).source for _, name in collection.datasets()}
    coded = _json(scores / "encoder.json", "train_encoder")
    return Findings(
        task_name=task_name,
        task=task,
        sets=collection.test,
        contenders=tuple(contenders),
        reference=reference,
        entries=entries,
        sources=sources,
        origins=_origins([*sources.values(), *collection.checkpoints], declared),
        expectations=_expectations(manifest / "validation.json"),
        encoder=EncoderFindings(**coded, losses=_curve(encoder / "history.csv", "train_encoder")),
        publication=publication,
        recipes=tuple((name, tuple(_flat(values))) for name, values in recipes.items()),
        circumstances=about,
    )


def _circumstances(path: Path | None, seed: int) -> Circumstances | None:
    """What is known about the students of one seed, by method."""
    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"{path}: not found. `python -m pipeline page` writes it and makes the page.")
    found: Circumstances = typed(Circumstances, read_json(path), str(path))
    of_seed = {
        name: {key.removesuffix(f"/{seed}"): one for key, one in table.items() if key.endswith(("teacher", f"/{seed}"))}
        for name, table in (("speed", found.speed), ("exports", found.exports))
    }
    return found.model_copy(update=of_seed)


def _seconds(about: Circumstances | None, name: str) -> float | None:
    return about.speed[name].seconds_per_megapixel if about and name in about.speed else None


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """`{"a": {"b": 1}}` -> `("a.b", "1")`, sorted, because DVC ignores the order of keys in params.yaml."""
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", str(value).lower() if isinstance(value, bool) else str(value)


def _known(where: str, name: str, table: Mapping[str, Declared]) -> Declared:
    if name not in table:
        raise unknown_name(f"{PARAMS_FILE}: {where}", name, table)
    return table[name]


def _run(stage: str) -> str:
    return f"run `dvc repro {stage}`."


def _there(path: Path, stage: str) -> Path:
    if not path.is_file():
        hint = " If dvc.yaml has no such stage, take the method out of the report's methods."
        hint = hint if stage == "evaluate" else ""
        raise InputError(f"{path}: not found. The stage {stage} writes it: {_run(stage)}{hint}")
    return path


def _json(path: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(_there(path, stage))
    return found


def _rows(path: Path, stage: str) -> list[Row]:
    with _there(path, stage).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _manifest(folder: Path) -> list[Entry]:
    return read_manifest(_there(folder / "manifest.csv", "validate"))


def _sets(found: Mapping[str, Any], names: Sequence[str], path: Path) -> dict[str, Quality]:
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{path}: has no score on {', '.join(missing)}, which the collection tests on: {_run('evaluate')}"
        )
    return {name: Quality(**found[name]) for name in names}


def _images(path: Path, stage: str, tested: set[str]) -> dict[str, Quality]:
    rows = _rows(path, stage)
    found = {f"{row['dataset']}/{row['name']}": Quality(float(row["psnr"]), float(row["ssim"])) for row in rows}
    if found.keys() != tested:
        differing = ", ".join(sorted(found.keys() ^ tested)[:5])
        raise InputError(f"{path}: lists other test images than the manifest ({differing}): {_run(stage)}")
    return found


def _curve(path: Path, stage: str) -> Curve:
    rows = _rows(path, stage)
    names = [name for name in rows[0] if name not in {"step", "learning_rate"}] if rows else []
    return Curve(
        steps=tuple(int(row["step"]) for row in rows),
        values={name: tuple(float(row[name]) for row in rows) for name in names},
    )


def _backbone(path: Path, stage: str) -> str:
    described = dict(read_description(_there(path, stage))["backbone"])
    name = described.pop("name")
    arguments = ", ".join(f"{argument} {value}" for argument, value in sorted(described.items()))
    return f"{name} ({arguments})" if arguments else str(name)


def _origins(names: Sequence[str], declared: Mapping[str, Source]) -> tuple[Origin, ...]:
    return tuple(
        Origin(name, shown(file.url), file.licence, file.author, file.sha256 or "")
        for name in sorted(set(names))
        for file in _known("sources", name, declared).files
    )


def _expectations(path: Path) -> tuple[Expectation, ...]:
    return tuple(
        Expectation(
            expected=one["expected"],
            checked=one["checked"],
            required=one["required"],
            failures=tuple(FailedImage(failure["file"], failure["found"]) for failure in one["failures"]),
        )
        for one in _json(path, "validate")["expectations"]
    )
