"""Step: the teacher, trained with its recipe or imported from a published checkpoint."""

import logging
from functools import partial
from pathlib import Path

import torch

from components.backbones import build_backbone
from components.backbones.backbone import Backbone
from components.backbones.weights import describe_backbone, load_published
from components.dependencies.verdict import refuse_unsound
from components.images.distances import DISTANCES
from components.methods.method import Setting
from components.methods.scratch import Scratch
from components.run.step import CHECKPOINTS, run_step
from components.tasks import TaskChoice, build_task
from components.telemetry.recorder import current, observed
from components.training.loop import Trained
from components.training.networks import Teacher
from components.training.outcome import validation_on, write_outcome
from components.training.session import Session
from components.training.watch import sample_on

_LOG = logging.getLogger(__name__)


def train_teacher(task: TaskChoice, teacher: Teacher, raw: Path, lmdb: Path, output: Path) -> None:
    """Train the task's teacher from scratch, or import the checkpoint that params.yaml names.

    Args:
        task: the task; the network has its scale.
        teacher: its backbone, and its recipe or checkpoint.
        raw: folder of fetched sources, to which the checkpoint is relative.
        lmdb: the image store to train on.
        output: folder to write `teacher.safetensors`, `history.csv` and `validation.csv` to.

    Raises:
        InputError: unknown backbone or argument, or a checkpoint that does not fit the backbone.
    """
    restoration = build_task(task)
    description = describe_backbone(teacher.backbone, restoration.scale)

    def make_network() -> Backbone:
        return build_backbone(teacher.backbone, restoration.scale)

    def write(trained: Trained[Backbone]) -> None:
        write_outcome(output, "teacher", trained, description)

    recipe = teacher.training
    if recipe is None:
        network = make_network()
        path = raw / str(teacher.checkpoint)
        _LOG.info("imported %s (%s)", path, load_published(network, path))
        write(Trained(network))
        return

    def make_method(network: Backbone, _: torch.device) -> Scratch:
        return Scratch(Setting(network, Scratch.terms, seed=0, to_clean=DISTANCES[recipe.reconstruction]))

    session = Session(
        title="train teacher",
        output=output,
        checkpoints=CHECKPOINTS,
        step="components.train_teacher",
        task=restoration,
        recipe=recipe,
        lmdb=lmdb,
        values={"task": task, "backbone": teacher.backbone, "recipe": recipe},
        report=current(),
    )
    session.run(
        make_network,
        make_method,
        {"reconstruction": 1.0},
        lambda store: validation_on(store, restoration),
        write,
        lambda store: sample_on(store, restoration),
    )


main = partial(
    run_step,
    train_teacher,
    check=refuse_unsound,
    observe=observed,
    distributed=lambda arguments: arguments["teacher"].training is not None,
)


if __name__ == "__main__":
    main()
