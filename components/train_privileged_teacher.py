"""Step: PISR's privileged teacher, which sees the clean image and whose decoder has the student's architecture."""

from functools import partial
from pathlib import Path
from typing import Any

from components.auxiliary.privileged_teacher import (
    PrivilegedTeacher,
    build_privileged_teacher,
    describe_privileged_teacher,
)
from components.dependencies.verdict import refuse_unsound
from components.images.distances import DISTANCES
from components.run.files import write_json
from components.run.params import Params, Weight
from components.run.step import CHECKPOINTS, run_step
from components.tasks import TaskChoice, build_task
from components.telemetry.recorder import current, observed
from components.training.loop import Trained
from components.training.networks import Student
from components.training.outcome import write_outcome
from components.training.privileged import PrivilegedLearning, privileged_validation_on
from components.training.recipe import Training
from components.training.session import Session


class PrivilegedLossWeights(Params):
    """Weights of the losses; that of the imitation is the released one."""

    reconstruction: Weight = 1.0
    imitation: Weight = 1e-4


class PrivilegedRecipe(Params):
    """The encoder before the decoder, and how both are trained.

    Attributes:
        encoder: arguments of `PrivilegedTeacher`; empty for the released widths.
        training: the recipe.
        weights: of the losses.
    """

    encoder: dict[str, Any]
    training: Training
    weights: PrivilegedLossWeights = PrivilegedLossWeights()


def train_privileged_teacher(
    task: TaskChoice, student: Student, privileged_teacher: PrivilegedRecipe, lmdb: Path, output: Path, scores: Path
) -> None:
    """Train the privileged teacher of the task's student.

    Args:
        task: the task; the networks have its scale.
        student: its backbone is also the decoder.
        privileged_teacher: the encoder, and the recipe.
        lmdb: the image store to train on.
        output: folder to write `teacher.safetensors`, `history.csv` and `validation.csv` to.
        scores: JSON file to write: PSNR and SSIM of the clean validation images after encoder and decoder.

    Raises:
        InputError: an unknown argument, or a recipe that does not fit the images.
        DivergedError: a loss was not finite.
    """
    restoration, recipe = build_task(task), privileged_teacher.training
    parts = (student.backbone, restoration.scale, privileged_teacher.encoder)

    def write(trained: Trained[PrivilegedTeacher]) -> None:
        write_outcome(output, "teacher", trained, describe_privileged_teacher(*parts))
        write_json(scores, {name: value for name, value in trained.validation[-1].items() if name != "step"})

    Session(
        title="train privileged teacher",
        output=output,
        checkpoints=CHECKPOINTS,
        step="components.train_privileged_teacher",
        task=restoration,
        recipe=recipe,
        lmdb=lmdb,
        values={"task": task, "decoder": student.backbone, "privileged_teacher": privileged_teacher},
        report=current(),
    ).run(
        make_network=lambda: build_privileged_teacher(*parts),
        make_method=lambda _, device: PrivilegedLearning(DISTANCES[recipe.reconstruction]).to(device),
        weights=privileged_teacher.weights.model_dump(),
        validate=lambda store: privileged_validation_on(store, restoration),
        write=write,
    )


main = partial(run_step, train_privileged_teacher, check=refuse_unsound, observe=observed, distributed=True)


if __name__ == "__main__":
    main()
