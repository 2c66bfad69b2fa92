"""Step: one student, trained by one method under the task's teacher."""

from pathlib import Path

import torch

from components.backbones import build_backbone
from components.backbones.backbone import Backbone
from components.backbones.encoder_weights import load_encoder
from components.backbones.weights import describe_backbone, load_backbone
from components.methods import METHODS, MethodChoice
from components.methods.method import Distillation, Frozen, Setting
from components.run.errors import InputError
from components.run.files import read_json, sha256_of
from components.run.params import build
from components.run.step import run_step
from components.tasks import TaskChoice, build_task
from components.training.loop import Trained
from components.training.networks import Student
from components.training.outcome import validation_on, write_outcome
from components.training.session import Session


def distill(
    task: TaskChoice,
    student: Student,
    method: MethodChoice,
    lmdb: Path,
    teacher: Path,
    check: Path,
    encoder: Path,
    output: Path,
) -> None:
    """Train the task's student by one method.

    Args:
        task: the task, whose scale the network gets.
        student: its backbone and recipe.
        method: the method, its weights and arguments.
        lmdb: the image store to train on.
        teacher: the teacher's weights.
        check: what `check_teacher` wrote about these weights.
        encoder: the frozen encoder and codebook; only methods that compare in its space read it.
        output: folder to write `student.safetensors`, `history.csv` and `validation.csv` to.

    Raises:
        InputError: unknown method, loss, backbone or argument, or a teacher that was not checked.
        DivergedError: a loss was not finite.
    """
    restoration = build_task(task)
    _refuse_unchecked(teacher, check)

    def make_network() -> Backbone:
        return build_backbone(student.backbone, restoration.scale)

    def make_method(network: Backbone, device: torch.device) -> Distillation:
        setting = Setting(
            student=network,
            terms=frozenset(method.weights),
            seed=student.training.seed,
            teacher=Frozen(load_backbone(teacher).to(device)),
            load_encoder=lambda: Frozen(load_encoder(encoder).to(device)),
        )
        return build("method", METHODS, method, setting).to(device)

    def write(trained: Trained[Backbone]) -> None:
        write_outcome(output, "student", trained, describe_backbone(student.backbone, restoration.scale))

    session = Session(
        title=f"distill {method.name}",
        task=restoration,
        recipe=student.training,
        lmdb=lmdb,
        values={"task": task, "student": student, "method": method},
        files=[teacher, encoder],
    )
    session.run(make_network, make_method, method.weights, lambda store: validation_on(store, restoration), write)


def _refuse_unchecked(teacher: Path, check: Path) -> None:
    if read_json(check).get("sha256") != sha256_of(teacher):
        raise InputError(f"{check} speaks of other weights than {teacher}: run check_teacher again.")


if __name__ == "__main__":
    run_step(distill)
