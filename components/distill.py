"""Step: one student, trained by one method under the task's teacher."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from components.auxiliary.encoder_weights import load_encoder
from components.auxiliary.ensemble_weights import load_ensemble
from components.auxiliary.privileged_teacher import load_privileged_teacher
from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.backbones.weights import describe_backbone, load_backbone
from components.dependencies.verdict import refuse_unsound
from components.images.distances import DISTANCES
from components.methods import MethodChoice, build_method
from components.methods.method import Distillation, Frozen, Setting
from components.run.errors import InputError
from components.run.params import typed
from components.run.step import CHECKPOINTS, run_step
from components.tasks import TaskChoice, build_task
from components.telemetry.recorder import current, observed
from components.training.gate import refuse_unchecked
from components.training.loop import Trained
from components.training.networks import Student
from components.training.outcome import validation_on, write_outcome
from components.training.session import Session
from components.training.watch import sample_on

Kept = TypeVar("Kept", bound=nn.Module)


def distill(
    task: TaskChoice,
    student: Student,
    method: MethodChoice,
    seed: int,
    lmdb: Path,
    teacher: Path,
    check: Path,
    output: Path,
    encoder: Path | None = None,
    ensemble: Path | None = None,
    privileged: Path | None = None,
) -> None:
    """Train the task's student by one method.

    Args:
        task: the task; the network has its scale.
        student: its backbone and recipe.
        method: the method, its weights and arguments.
        seed: of the initial weights, the crops and everything that the method draws.
        lmdb: the image store to train on.
        teacher: the teacher's weights.
        check: what `check_teacher` wrote about these weights.
        output: folder to write `student.safetensors`, `history.csv` and `validation.csv` to.
        encoder: the frozen encoder, for methods that compare images in its space.
        ensemble: several frozen teachers and the aggregator of their images, for methods that learn from it.
        privileged: the frozen teacher that sees the clean image, for methods whose student begins as its decoder.

    Raises:
        InputError: unknown method, loss, backbone or argument, an unchecked teacher, an ensemble without that teacher,
            or a file that the method needs is not given.
        DivergedError: a loss was not finite.
    """
    restoration, recipe = build_task(task), student.training.seeded(seed)
    refuse_unchecked(teacher, check)

    def make_network() -> Backbone:
        return build_backbone(student.backbone, restoration.scale)

    def make_method(network: Backbone, device: torch.device) -> Distillation:
        def frozen(flag: str, file: Path | None, load: Callable[[Path], Kept]) -> Callable[[], Frozen[Kept]]:
            """Makes the function that loads a file that only some methods need."""

            def loaded() -> Frozen[Kept]:
                if file is None:
                    raise InputError(
                        f"weights: its losses need --{flag}: add that file to the method's stage in dvc.yaml."
                    )
                return Frozen(load(file).to(device))

            return loaded

        def build_another(**changes: Any) -> Backbone:
            values = {"name": student.backbone.name, **student.backbone.arguments, **changes}
            choice = typed(BackboneChoice, values, "students.backbone")
            return build_backbone(choice, restoration.scale).to(device)

        setting = Setting(
            student=network,
            terms=frozenset(method.weights),
            seed=seed,
            teacher=Frozen(load_backbone(teacher).to(device)),
            build=build_another,
            load_encoder=frozen("encoder", encoder, load_encoder),
            load_ensemble=frozen("ensemble", ensemble, lambda file: load_ensemble(file, teacher)),
            load_privileged=frozen("privileged", privileged, load_privileged_teacher),
            to_clean=DISTANCES[recipe.reconstruction],
            to_teacher=DISTANCES[student.logits],
        )
        return build_method(method, setting).to(device)

    def write(trained: Trained[Backbone]) -> None:
        write_outcome(output, "student", trained, describe_backbone(student.backbone, restoration.scale))

    session = Session(
        title=f"distill {method.name}",
        output=output,
        checkpoints=CHECKPOINTS,
        step="components.distill",
        task=restoration,
        recipe=recipe,
        lmdb=lmdb,
        values={"task": task, "student": student, "method": method, "recipe": recipe},
        files=[file for file in (teacher, encoder, ensemble, privileged) if file],
        report=current(),
    )
    session.run(
        make_network,
        make_method,
        method.weights,
        lambda store: validation_on(store, restoration),
        write,
        lambda store: sample_on(store, restoration),
    )


main = partial(run_step, distill, check=refuse_unsound, observe=observed, distributed=True)


if __name__ == "__main__":
    main()
