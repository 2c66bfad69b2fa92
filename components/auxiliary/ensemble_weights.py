"""The file of an ensemble: its aggregator and its teachers, each with the checksum of its original file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.auxiliary.aggregator import Aggregator
from components.auxiliary.ensemble import AggregatedEnsemble, TeacherEnsemble
from components.backbones import BackboneChoice, build_backbone
from components.backbones.weights import load_backbone, load_stored, read_description, save_network
from components.run.errors import InputError
from components.run.files import sha256_of
from components.run.params import bind, typed

_KIND = "ensemble"


def load_teacher_ensemble(files: Mapping[str, Path]) -> TeacherEnsemble:
    """Read the teachers of an ensemble from files by name, in evaluation mode.

    Raises:
        InputError: a file that holds no restoration network, or teachers of different scales.
    """
    return TeacherEnsemble({name: load_backbone(path) for name, path in files.items()}).eval()


def save_ensemble(
    path: Path, ensemble: AggregatedEnsemble, aggregator: Mapping[str, Any], files: Mapping[str, Path]
) -> None:
    """Write an ensemble with its teachers, so that it can't be combined with any that it was not trained with.

    Args:
        path: the file to write.
        ensemble: the network.
        aggregator: arguments of its aggregator, without the scale and the number of teachers.
        files: the file of each of its teachers.
    """
    teachers = {name: {**read_description(file), "sha256": sha256_of(file)} for name, file in files.items()}
    save_network(path, ensemble, {_KIND: {"aggregator": dict(aggregator), "teachers": teachers}})


def load_ensemble(path: Path, teacher: Path) -> AggregatedEnsemble:
    """Rebuild an ensemble that `save_ensemble` stored, in evaluation mode.

    Args:
        path: the ensemble's file.
        teacher: the file of a teacher that must be one of its own.

    Raises:
        InputError: the file is not one of ours, holds another kind of network, or was made with another teacher.
    """
    description = read_description(path)
    if description.keys() != {_KIND}:
        raise InputError(f"{path}: holds no ensemble but: {', '.join(description) or 'nothing'}.")
    teachers = description[_KIND]["teachers"]
    if sha256_of(teacher) not in {entry["sha256"] for entry in teachers.values()}:
        raise InputError(
            f"{path}: none of its teachers ({', '.join(sorted(teachers))}) has the weights of {teacher}: "
            "run train_ensemble again."
        )
    teacher_ensemble = TeacherEnsemble({name: _untrained(entry, str(path)) for name, entry in teachers.items()})
    arguments = bind(str(path), Aggregator, description[_KIND]["aggregator"], skip=2)
    ensemble = AggregatedEnsemble(teacher_ensemble, Aggregator(teacher_ensemble.scale, len(teachers), **arguments))
    return load_stored(ensemble, path)


def _untrained(entry: Mapping[str, Any], where: str) -> Any:
    return build_backbone(typed(BackboneChoice, entry["backbone"], where), entry["scale"]).fold()
