"""Every network and method that a run selects, built at its real size without memory for its weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from components.auxiliary.aggregator import Aggregator
from components.auxiliary.encoder_weights import build_encoder
from components.auxiliary.ensemble import AggregatedEnsemble, TeacherEnsemble
from components.auxiliary.privileged_teacher import build_privileged_teacher
from components.auxiliary.vq_autoencoder import VqAutoencoder
from components.auxiliary.vqgan import VqganEncoder
from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.checking.sections import Project
from components.methods import MethodChoice, build_method
from components.methods.method import Distillation, Frozen, Setting
from components.run.errors import InputError
from components.run.params import PARAMS_FILE, typed
from components.train_ensemble import MAIN

LARGEST = 2_000_000_000
"""Parameters of one network; the largest restoration networks that were published have a tenth of it."""
MOST = 10_000
"""Tensors of parameters of one network, published ones have up to 2000: more would take minutes to build."""
_UNBUILDABLE = (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What torch and constructors raise for sizes that they can't take."""

Built = TypeVar("Built")


class Networks:
    """Builds a task's networks on torch's meta device, and remembers what is wrong with each.

    Attributes:
        faults: one message for each network or method that can't be built.
        multiples: of the patches that each backbone takes, by its place in params.yaml.
    """

    def __init__(self, project: Project, task: str) -> None:
        self.faults: list[str] = []
        self._project, self._task = project, task
        self.scale = project.restoration(task).scale
        self.multiples: dict[str, int] = {}
        self.student = self._backbone(f"students.{task}")
        self.teachers = {
            name: self._backbone(f"teachers.{entry}")
            for name, entry in {MAIN: task, **{one: f"{task}_{one}" for one in project.run.members}}.items()
        }
        self.encoder = self._encoder()
        self.privileged = self.student and self._privileged()
        self.ensemble = self._ensemble()

    def method(self, name: str, group: str) -> Distillation | None:
        """A method in the setting that its group's stage gives it; None if that can't be built."""
        given = {"encoder": self.encoder, "ensemble": self.ensemble, "privileged_teacher": self.privileged}
        student, teacher = self.student, self.teachers[MAIN]
        if not (student and teacher and (group not in given or given[group])):
            return None  # what it needs has its own message

        def load(kind: str) -> Callable[[], Frozen[Any]]:
            def loaded() -> Frozen[Any]:
                if kind != group:
                    raise InputError(f"weights: its losses need the {kind}: list it in `run.methods.{kind}`")
                return Frozen(given[kind])

            return loaded

        choice = self._project.entry("students", self._task).backbone

        def another(**changes: Any) -> Backbone:
            values = {"name": choice.name, **choice.arguments, **changes}
            return build_backbone(typed(BackboneChoice, values, "wide"), self.scale)

        def make() -> Distillation:
            chosen: MethodChoice = self._project.entry("methods", name)
            setting = Setting(
                student=student,
                terms=frozenset(chosen.weights),
                seed=0,
                teacher=Frozen(teacher),
                build=another,
                load_encoder=load("encoder"),
                load_ensemble=load("ensemble"),
                load_privileged=load("privileged_teacher"),
            )
            return build_method(chosen, setting)

        return self._built("", make)

    def _backbone(self, key: str) -> Backbone | None:
        section, _, entry = key.partition(".")
        choice = self._project.entry(section, entry).backbone
        network = self._built(f"{key}.backbone", lambda: build_backbone(choice, self.scale))
        if network:
            self.multiples[key] = network.multiple
        return network

    def _encoder(self) -> Any:
        section = self._project.entry("encoders", self._task)
        key = f"encoders.{self._task}.network"
        encoder = self._built(key, lambda: build_encoder(section.network, ""))
        if isinstance(encoder, VqganEncoder) and section.training:
            self._built(key, lambda: VqAutoencoder(encoder))
        return encoder

    def _privileged(self) -> Any:
        choice, section = (self._project.entry(name, self._task) for name in ("students", "privileged_teachers"))
        return self._built(
            f"privileged_teachers.{self._task}.encoder",
            lambda: build_privileged_teacher(choice.backbone, self.scale, section.encoder),
        )

    def _ensemble(self) -> AggregatedEnsemble | None:
        section = self._project.entry("ensembles", self._task)
        arguments = (self.scale, len(self.teachers))
        aggregator = self._built(
            f"ensembles.{self._task}.aggregator", lambda: Aggregator(*arguments, **section.aggregator)
        )
        teachers = {name: network for name, network in self.teachers.items() if network}
        if aggregator is None or len(teachers) < len(self.teachers):
            return None
        return self._built(f"teachers.{self._task}", lambda: AggregatedEnsemble(TeacherEnsemble(teachers), aggregator))

    def _built(self, key: str, make: Callable[[], Built]) -> Built | None:
        """What `make` builds, or None after a message about the key."""
        where = f"{PARAMS_FILE}: {key}: "
        try:
            with without_memory():
                return make()
        except InputError as error:
            said = str(error)
            self.faults.append(said if said.startswith(str(PARAMS_FILE)) else f"{where}{said.lstrip(': ')}")
        except _UNBUILDABLE as error:
            said = " ".join(str(error).split()) or "it takes more memory than any machine has"
            self.faults.append(f"{where}can't be built: {said}; write other sizes.")
        return None


@contextmanager
def without_memory() -> Iterator[None]:
    """Build networks whose weights have shapes alone, and none of senseless size.

    Raises:
        InputError: more parameters than any network of the field has.
    """
    parameters = tensors = 0

    def counted(_module: nn.Module, _name: str, parameter: Tensor) -> None:
        nonlocal parameters, tensors
        parameters, tensors = parameters + parameter.numel(), tensors + 1
        if parameters > LARGEST or tensors > MOST:
            raise InputError(
                f"more than {LARGEST:,} parameters or {MOST:,} tensors of them, which nobody trains: write smaller "
                "sizes."
            )

    hook = register_module_parameter_registration_hook(counted)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()
