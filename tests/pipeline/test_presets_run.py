"""Every preset runs: three steps of each training, on crops of photographs and with small networks of the same kind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.backbones import BACKBONES
from components.check_teacher import check_teacher
from components.distill import distill
from components.evaluate import evaluate
from components.images.files import write_png
from components.images.manifest import Entry, write_manifest
from components.images.pixels import to_bytes
from components.images.store import Pair, StoreWriter
from components.run import step as step_module
from components.run.errors import InputError
from components.run.files import sha256_of
from components.run.step import parse
from components.tasks import TaskChoice, build_task
from components.train_encoder import train_encoder
from components.train_ensemble import train_ensemble
from components.train_privileged_teacher import train_privileged_teacher
from components.train_teacher import train_teacher
from tests.pipeline.presets import DEFAULT, PRESETS, composed, tasks_of
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")

STEPS = 3

# What makes a network of the table small; its other arguments stay as the preset has them.
SHRUNK: dict[str, dict[str, Any]] = {
    "carn": {"channels": 8},
    "carn_m": {"channels": 8},
    "dncnn": {"channels": 8, "layers": 5},
    "drsformer": {"channels": 8, "blocks": [1, 1, 1, 1], "heads": [1, 1, 2, 2]},
    "edsr": {"channels": 8, "blocks": 3},
    "efdn": {"channels": 8, "blocks": 3},
    "fsrcnn": {"channels": 8, "shrunk_channels": 4, "mappings": 3},
    "idn": {"channels": 16, "blocks": 3},
    "nafnet": {"channels": 4, "encoder": [1, 1], "middle": 1, "decoder": [1, 1]},
    "rcan": {"channels": 8, "groups": 3, "blocks": 1, "reduction": 2},
    "restormer": {"channels": 8, "blocks": [1, 1, 1, 1], "refinement": 1, "heads": [1, 1, 2, 2]},
    "rlfn": {"channels": 8, "blocks": 3},
    "san": {"channels": 8, "groups": 3, "blocks": 1, "reduction": 2},
    "span": {"channels": 8, "blocks": 3},
    "swinir": {"channels": 8, "depths": [1, 2, 1], "heads": 2, "window": 4},
    "uformer": {"channels": 4, "blocks": [1, 1, 1, 1, 1], "window": 2},
    "vdsr": {"channels": 8, "layers": 5},
}
# One of each kind; composing all to find them would take longer than to collect all other tests.
RUN = [
    "bsds500",
    "crosskd_reading",
    "csd_edsr_x4",
    "csd_slice_control",
    "dckd_nafnet_gopro",
    "dckd_nafnet_gopro_psnr",
    "dckd_paper",
    "dckd_paper_swinir_x2",
    "dckd_released",
    "dckd_released_swinir_x2",
    "dckd_restormer_derain",
    "dckd_restormer_gopro",
    "dckd_star_rcan_x4",
    "deblur_bsds500",
    "denoise_bsds500",
    "derain_bsds500",
    "derain_photographs",
    "dukd_edsr_x4",
    "dukd_rcan_x4",
    "fakd_paper",
    "fakd_san_x2",
    "logits_convex",
    "mipkd_rcan_x4",
    "mtkd_edsr_x4",
    "pisr_fsrcnn_x2",
    "rlfn_x2",
    "skd_drsformer_derain",
    "skd_reading",
    "skd_restormer_deblur",
    "skd_restormer_denoise",
    "skd_restormer_derain",
    "skd_uformer_deblur",
    "skd_uformer_denoise",
    "srkd_reading",
]
AGGREGATOR = {"channels": 8, "depths": [2], "heads": 2, "window": 4, "tail": 8}
ENCODER = {
    "channels": 8,
    "multipliers": [1, 1, 2, 2, 4],
    "blocks": 1,
    "latent": 8,
    "codes": 16,
    "code_size": 8,
    "groups": 4,
}
PATCHES = {1: 32, 2: 16, 3: 16, 4: 8, 8: 4}


def test_every_network_of_the_table_has_a_small_form() -> None:
    assert set(SHRUNK) == set(BACKBONES)


def shrunk_network(backbone: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in backbone.items() if value is not None} | SHRUNK[backbone["name"]]


def shrunk_recipe(recipe: dict[str, Any] | None, patch: int) -> dict[str, Any]:
    """Three steps by whatever the recipe has: its optimiser, its kind of schedule, and a change of sizes."""
    recipe = dict(recipe or tiny.recipe().model_dump(mode="json"))
    schedule = {key: value for key, value in recipe["schedule"].items() if value is not None}
    for name in ("flat", "warmup_steps"):
        schedule[name] = min(schedule[name], 1) if name in schedule else None
    if schedule["name"] == "multi_step":
        schedule["milestones"] = [1, 2]
    if recipe.get("progressive_learning"):
        recipe["progressive_learning"] = [{"after": 2, "batch": 2, "patch": patch}]
    sizes = {"steps": STEPS, "batch": 2, "patch": patch, "log_every": STEPS, "validate_every": STEPS}
    return recipe | sizes | {"schedule": schedule}


def shrunk(preset: str, patch: int | None = None) -> dict[str, Any]:
    """The params of a preset with small networks and recipes, all of them trained."""
    values = composed(preset)
    (task,) = tasks_of(values)
    patch = patch or PATCHES[values["tasks"][task].get("scale", 1)]
    for name in (task, *(f"{task}_{member}" for member in values["run"]["members"])):
        teacher = values["teachers"][name]
        teacher |= {"backbone": shrunk_network(teacher["backbone"]), "checkpoint": None}
        teacher["training"] = shrunk_recipe(teacher["training"], patch)
    values["teachers"][task]["expected"] |= {"psnr": 0.0, "tolerance": 0.0}
    student = values["students"][task]
    student["backbone"] = shrunk_network(student["backbone"])
    values["encoders"][task] = {"network": ENCODER | {"groups": 4}, "training": shrunk_recipe(None, patch)}
    values["ensembles"][task] |= {"aggregator": AGGREGATOR, "tolerance": 100.0}
    values["privileged_teachers"][task]["encoder"] = {"channels": 8, "shrunk_channels": 4}
    for section in ("students", "ensembles", "privileged_teachers"):
        values[section][task]["training"] = shrunk_recipe(values[section][task]["training"], patch)
    student["training"].pop("seed", None)
    if wide := values["methods"]["csd"].get("wide"):
        values["methods"]["csd"]["wide"] = wide | {"channels": 16}
    return values


def methods_of(preset: str) -> list[str]:
    """What a preset is about: the method that its name begins with, or DCKD."""
    return [max((name for name in DEFAULT["methods"] if preset.startswith(name)), key=len, default="dckd")]


def kind(preset: str) -> str:
    """What presets that differ only in numbers have in common."""
    values = shrunk(preset, patch=1)
    (task,) = tasks_of(values)
    parts = [values[section][task] for section in ("students", "ensembles", "privileged_teachers")]
    backbone = values["teachers"][task]["backbone"]
    chosen = [values["methods"][name] for name in methods_of(preset)]
    arguments = {key: value for key, value in values["tasks"][task].items() if key != "scale"}
    return json.dumps(_without_numbers([task, arguments, backbone, parts, chosen]), sort_keys=True)


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(_without_numbers(item), sort_keys=True) for item in value})
    return type(value).__name__ if isinstance(value, int | float) and not isinstance(value, bool) else value


def test_every_preset_is_of_a_kind_that_runs() -> None:
    kinds = {preset: kind(preset) for preset in PRESETS}
    assert {preset for preset, one in kinds.items() if one not in {kinds[name] for name in RUN}} == set()
    assert len({kinds[name] for name in RUN}) == len(RUN), "two of them differ in numbers alone"


class Project:
    """What the steps of a preset read and write."""

    def __init__(self, folder: Path, preset: str, params: dict[str, Any]) -> None:
        self.folder, self.preset = folder, preset
        params.update(shrunk(preset))
        (self.name,) = tasks_of(params)
        task = build_task(TaskChoice(**{"name": self.name, **params["tasks"][self.name]}))
        dataset = params["teachers"][self.name]["expected"]["dataset"]
        with StoreWriter(folder / "lmdb", task.scale, 0) as writer:
            for index in range(3):
                clean = tiny.photograph(index, 96)
                stored = Pair(self._degraded(task, clean, packed=True), clean)
                writer.add("training" if index else "validation", f"set/{index}", stored, [((0, 0), clean.shape[:2])])
        clean = tiny.photograph(3, 48)
        write_png(folder / "raw/clean.png", clean)
        degraded = self._degraded(task, clean, packed=False)
        if degraded is not None:
            write_png(folder / "raw/degraded.png", degraded)
        partner = "" if degraded is None else "degraded.png"
        entry = Entry("test", dataset, "1", "clean.png", partner, 48, 48, sha256_of(folder / "raw/clean.png"), "0" * 16)
        write_manifest(folder / "manifest", [entry])

    @staticmethod
    def _degraded(task: Any, clean: Any, packed: bool) -> Any:
        """What a file holds; None where the task degrades by itself."""
        random = np.random.default_rng(1)
        try:
            made = to_bytes(task.degrade(clean, random))
        except InputError:  # its images come in pairs
            return to_bytes(np.clip(clean + random.normal(0, 9, clean.shape), 0, 255).astype(np.uint8))
        return made if packed and task.packed else None

    def run(self, step: Any, entries: dict[str, str] | None = None, **files: str) -> None:
        """Run a step as its stage does: files by name, sections by the preset's task."""
        entries = {"task": self.name} | (entries or {})
        flags = [word for name, entry in entries.items() for word in (f"--{name.replace('_', '-')}", entry)]
        flags += [word for name, file in files.items() for word in (f"--{name}", str(self.folder / file))]
        step(**parse(step, flags))


@pytest.mark.parametrize("preset", RUN)
def test_trains_teacher_and_student_and_measures_both(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params: dict[str, Any] = {}
    monkeypatch.setattr(step_module, "read_params", lambda _: params)
    project = Project(tmp_path, preset, params)
    task = project.name
    images = {"raw": "raw", "lmdb": "lmdb"}
    project.run(train_teacher, {"teacher": task}, **images, output="teacher")
    teacher = "teacher/teacher.safetensors"
    measured = {"manifest": "manifest", "raw": "raw"}
    project.run(
        check_teacher,
        {"teacher": task},
        network=teacher,
        **measured,
        scores="check",
        details="checked",
        speed="teacher_speed",
    )
    (method,) = methods_of(preset)
    extra = {}
    if method in {"skd", "csd", "dckd", "dckd_star"}:
        project.run(train_encoder, {"encoder": task}, **images, output="encoder", scores="encoder.json")
        extra["encoder"] = "encoder/encoder.safetensors"
    if method == "mtkd":
        for member in params["run"]["members"]:
            project.run(train_teacher, {"teacher": f"{task}_{member}"}, **images, output=f"members/{member}")
        files = {"teacher": teacher, "check": "check", "members": "members", "lmdb": "lmdb"}
        project.run(train_ensemble, {"ensemble": task}, **files, output="ensemble", scores="ensemble.json")
        extra["ensemble"] = "ensemble/ensemble.safetensors"
    if method == "pisr":
        entries = {"student": task, "privileged_teacher": task}
        project.run(train_privileged_teacher, entries, lmdb="lmdb", output="privileged", scores="privileged.json")
        extra["privileged"] = "privileged/teacher.safetensors"
    files = {"lmdb": "lmdb", "teacher": teacher, "check": "check", **extra}
    entries = {"student": task, "method": method, "seed": str(params["run"]["seeds"][0])}
    project.run(distill, entries, **files, output="student")
    student = {"student": "student/student.safetensors", "check": "check"}
    project.run(evaluate, **student, **measured, scores="scores", details="details", speed="speed")

    scores = json.loads((tmp_path / "scores").read_text())
    dataset = params["teachers"][task]["expected"]["dataset"]
    assert np.isfinite([scores[dataset]["psnr"], scores["teacher"][dataset]["psnr"]]).all()
    header, row = (tmp_path / "student/history.csv").read_text().splitlines()
    named = dict(zip(header.split(","), map(float, row.split(",")), strict=True))
    assert set(params["methods"][method]["weights"]) >= set(named) - {"step", "learning_rate", "total"}
    assert np.isfinite(list(named.values())).all()
