"""Step: several teachers become one, by MTKD's aggregator of their images, trained towards the clean images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator

from components.auxiliary.aggregator import Aggregator
from components.auxiliary.ensemble import AggregatedEnsemble
from components.auxiliary.ensemble_weights import load_teacher_ensemble, save_ensemble
from components.dependencies.verdict import refuse_unsound
from components.images.distances import DISTANCES
from components.images.store import Store
from components.methods.method import Frozen
from components.run.errors import InputError
from components.run.files import write_json, written_whole
from components.run.params import PARAMS_FILE, Params, Run, bind
from components.run.step import CHECKPOINTS, run_step
from components.tasks import TaskChoice, build_task
from components.telemetry.recorder import current, observed
from components.training.aggregation import Aggregation
from components.training.gate import refuse_unchecked
from components.training.loop import Row, Trained
from components.training.outcome import HISTORY, VALIDATION, validation_on, write_rows
from components.training.recipe import Training
from components.training.session import Session

MAIN = "teacher"
"""Name of the task's own teacher in the ensemble."""


class EnsembleRecipe(Params):
    """The aggregator of several teachers' images, and how it is trained.

    Attributes:
        tolerance: how far below its best teacher's PSNR still passes, in dB on the validation images.
        aggregator: arguments of `Aggregator`, without the scale and the number of teachers.
        training: how it is trained.
    """

    tolerance: float = Field(ge=0)
    aggregator: dict[str, Any]
    training: Training

    @field_validator("aggregator")
    @classmethod
    def _fits(cls, aggregator: dict[str, Any]) -> dict[str, Any]:
        return bind("", Aggregator, aggregator, skip=2)


def train_ensemble(
    task: TaskChoice,
    ensemble: EnsembleRecipe,
    run: Run,
    lmdb: Path,
    teacher: Path,
    check: Path,
    members: Path,
    output: Path,
    scores: Path,
) -> None:
    """Train the aggregator of several frozen teachers' images, and store it together with them.

    Args:
        task: the task; all teachers have its scale.
        ensemble: its aggregator and the recipe.
        run: names its further members; their order does not matter.
        lmdb: the image store to train on.
        teacher: weights of the task's teacher.
        check: what `check_teacher` wrote about these weights.
        members: folder of the further teachers, `<name>/teacher.safetensors`.
        output: folder to write `ensemble.safetensors`, `history.csv` and `validation.csv` to.
        scores: JSON file to write: PSNR and SSIM on the validation images, of the ensemble and of each teacher.

    Raises:
        InputError: teachers of different scales, an unchecked teacher, or an ensemble that is worse than one of its
            teachers alone; in that case nothing is written.
    """
    if not run.members or MAIN in run.members:
        raise InputError(f"{PARAMS_FILE}: run.members: name further teachers; {MAIN!r} is the task's own.")
    restoration = build_task(task)
    files = {MAIN: teacher} | {name: members / name / "teacher.safetensors" for name in run.members}
    refuse_unchecked(teacher, check)
    teacher_ensemble = Frozen(load_teacher_ensemble(files))

    def make_method(_: Aggregator, device: torch.device) -> Aggregation:
        teacher_ensemble.network.to(device)
        return Aggregation(teacher_ensemble, DISTANCES[ensemble.training.reconstruction])

    def measure(store: Store) -> Callable[[Aggregator], Row]:
        measured = validation_on(store, restoration)
        return lambda network: measured(AggregatedEnsemble(teacher_ensemble.network, network))

    def write(trained: Trained[Aggregator]) -> None:
        alone = validation_on(Store(lmdb), restoration)
        teachers = {name: alone(one) for name, one in teacher_ensemble.network.named_teachers().items()}
        together = {name: value for name, value in trained.validation[-1].items() if name != "step"}
        _refuse_worse(together, teachers, ensemble.tolerance)
        with written_whole(output) as partial:
            partial.mkdir()
            whole = AggregatedEnsemble(teacher_ensemble.network, trained.network)
            save_ensemble(partial / "ensemble.safetensors", whole, ensemble.aggregator, files)
            write_rows(partial / HISTORY, trained.history)
            write_rows(partial / VALIDATION, trained.validation)
        write_json(scores, {"ensemble": together, "teachers": teachers})

    Session(
        title="train ensemble",
        output=output,
        checkpoints=CHECKPOINTS,
        step="components.train_ensemble",
        task=restoration,
        recipe=ensemble.training,
        lmdb=lmdb,
        values={"task": task, "ensemble": ensemble},
        files=list(files.values()),
        report=current(),
    ).run(
        make_network=lambda: Aggregator(restoration.scale, len(files), **ensemble.aggregator),
        make_method=make_method,
        weights={"reconstruction": 1.0},
        validate=measure,
        write=write,
    )


def _refuse_worse(together: Row, teachers: dict[str, Row], tolerance: float) -> None:
    best = max(teachers, key=lambda name: teachers[name]["psnr"])
    if together["psnr"] < teachers[best]["psnr"] - tolerance:
        raise InputError(
            f"the ensemble reaches {together['psnr']:.2f} dB on the validation images, its teacher {best!r} alone "
            f"{teachers[best]['psnr']:.2f} dB (tolerance {tolerance:.2f}): a student would learn less from it. "
            "Train it longer, or make its aggregator wider (params.yaml: ensembles)."
        )


main = partial(run_step, train_ensemble, check=refuse_unsound, observe=observed, distributed=True)


if __name__ == "__main__":
    main()
