"""Sizes of one section against those of another: patches, sub-images, images, batches."""

from collections.abc import Iterator

import numpy as np

from components.auxiliary.vqgan import VqganEncoder
from components.checking.networks import Networks
from components.checking.sections import Project
from components.methods.method import Distillation
from components.run.errors import InputError
from components.run.params import PARAMS_FILE
from components.tasks.task import Task
from components.training.recipe import Recipe

_LARGEST_STEP = 64 * 2**30
"""Bytes of the images of one training step; no machine of the field holds more beside what networks make of them."""
_LARGEST_PROBE = 256


def recipes(project: Project, task: str) -> dict[str, Recipe]:
    """The recipes that a task trains by, by their place in params.yaml."""
    entries = {f"{section}.{task}": project.entry(section, task) for section in ("teachers", "encoders", "ensembles")}
    entries |= {f"teachers.{task}_{name}": project.entry("teachers", f"{task}_{name}") for name in project.run.members}
    entries |= {f"{section}.{task}": project.entry(section, task) for section in ("students", "privileged_teachers")}
    return {f"{place}.training": entry.training for place, entry in entries.items() if entry.training}


def misfits(project: Project, task: str) -> Iterator[str]:
    """Sizes that fit no image, whatever the networks."""
    restoration = project.restoration(task)
    scale, packing = restoration.scale, project.entry("packings", task)
    for key, value in (("size", packing.size), ("step", packing.step)):
        if value % scale:
            yield (
                f"{PARAMS_FILE}: packings.{task}.{key}: {value} is not a multiple of the scale {scale}: write "
                f"{value + -value % scale}."
            )
    for place, recipe in recipes(project, task).items():
        patch = recipe.sizes.largest_patch
        if patch * scale > packing.size:
            yield (
                f"{PARAMS_FILE}: {place}.patch: {patch} degraded pixels are {patch * scale} clean ones, more than a "
                f"sub-image has (packings.{task}.size: {packing.size}): write at most {packing.size // scale}, or a "
                "larger size of the packing."
            )
        pixels = max(stage.batch * stage.patch**2 for stage in recipe.sizes.stages)
        if (needed := 12 * pixels * (1 + scale**2)) > _LARGEST_STEP:
            yield (
                f"{PARAMS_FILE}: {place}: batch and patch: the images of one step take {needed / 2**30:,.0f} GiB: "
                "write less."
            )
    smallest = smallest_measured(restoration)
    if project.sections["validate"].smallest_test_side < smallest:
        yield (
            f"{PARAMS_FILE}: validate.smallest_test_side: {project.sections['validate'].smallest_test_side}: the task "
            f"{task} can't measure images below {smallest} pixels a side: write at least {smallest}."
        )


def smallest_measured(task: Task) -> int:
    """The side from which on the task's protocol measures an image, found by trying."""
    for side in range(_LARGEST_PROBE, 0, -1):
        image = task.crop(np.zeros((side, side, 3), np.uint8))
        try:
            task.measure(image, image)
        except InputError:
            return side + 1
    return 1


def network_misfits(project: Project, networks: Networks, task: str) -> Iterator[str]:
    """Patches that a network of the task does not take."""
    student = f"students.{task}"
    for place, recipe in recipes(project, task).items():
        trained = place.removesuffix(".training")
        # A student's crops go through its teacher too.
        for owner in (trained, f"teachers.{task}") if trained == student else (trained,):
            multiple = networks.multiples.get(owner, 1)
            for stage in recipe.sizes.stages:
                if rest := stage.patch % multiple:
                    yield (
                        f"{PARAMS_FILE}: {place}.patch: {stage.patch} is not a multiple of {multiple}, which the "
                        f"network of {owner}.backbone needs: write {stage.patch - rest + multiple}."
                    )
    training = project.entry("encoders", task).training
    if training and isinstance(networks.encoder, VqganEncoder):
        factor, side = 2 ** (networks.encoder.levels - 1), training.patch * networks.scale
        if side % factor:
            yield (
                f"{PARAMS_FILE}: encoders.{task}.training.patch: {training.patch} degraded pixels are {side} clean "
                f"ones, not a multiple of {factor}, the side of a code."
            )


def batch_misfits(project: Project, task: str, name: str, method: Distillation) -> Iterator[str]:
    """A batch with fewer samples than a method compares."""
    smallest = min(project.entry("students", task).training.sizes.batches)
    if smallest < method.smallest_batch:
        yield (
            f"{PARAMS_FILE}: students.{task}.training.batch: {smallest} is less than the {method.smallest_batch} "
            f"samples that the method {name} compares: write at least that."
        )
