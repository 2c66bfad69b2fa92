"""The networks that params.yaml names, with initial weights: what a method costs does not depend on training."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from components.auxiliary.aggregator import Aggregator
from components.auxiliary.encoder_weights import build_encoder
from components.auxiliary.ensemble import AggregatedEnsemble, TeacherEnsemble
from components.auxiliary.privileged_teacher import build_privileged_teacher
from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone
from components.methods import MethodChoice, build_method
from components.methods.method import Distillation, Frozen, Network, Setting
from components.run.params import section, typed
from components.tasks import TaskChoice, build_task
from components.training.recipe import Recipe, Training


class Entries(NamedTuple):
    """The entries of params.yaml that a task's distillation is made of, checked."""

    values: Mapping[str, Any]
    task: str

    def of(self, plural: str, kind: Any, *keys: str) -> Any:
        """An entry for the task, or one of its keys, as a type."""
        where = (plural, self.task, *keys)
        return typed(kind, section(self.values, *where), ".".join(where))

    @property
    def scale(self) -> int:
        """Output size over input size."""
        choice = typed(TaskChoice, {"name": self.task, **section(self.values, "tasks", self.task)}, "tasks")
        return build_task(choice).scale

    @property
    def recipe(self) -> Training:
        """How the student is trained."""
        recipe: Recipe = self.of("students", Recipe, "training")
        return recipe.seeded(section(self.values, "run", "seeds")[0])

    def choice(self, name: str) -> MethodChoice:
        """A method, its weights and its arguments."""
        choice: MethodChoice = typed(MethodChoice, {"name": name, **section(self.values, "methods", name)}, name)
        return choice

    def networks(self, choice: MethodChoice, device: torch.device) -> tuple[Backbone, Distillation]:
        """An untrained student and the method that trains it, under an untrained teacher."""
        student: BackboneChoice = self.of("students", BackboneChoice, "backbone")
        torch.manual_seed(self.recipe.seed)

        def build(**changes: Any) -> Backbone:
            changed = {"name": student.name, **student.arguments, **changes}
            return build_backbone(typed(BackboneChoice, changed, "students"), self.scale).to(device)

        def frozen(make: Callable[[], Network]) -> Callable[[], Frozen[Network]]:
            return lambda: Frozen(make().to(device))

        encoder = section(self.values, "encoders", self.task, "network")
        before = section(self.values, "privileged_teachers", self.task, "encoder")
        network = build()
        setting = Setting(
            student=network,
            terms=frozenset(choice.weights),
            seed=self.recipe.seed,
            teacher=frozen(lambda: self.teacher(self.task))(),
            build=build,
            load_encoder=frozen(lambda: build_encoder(encoder, "encoders")),
            load_ensemble=frozen(self.ensemble),
            load_privileged=frozen(lambda: build_privileged_teacher(student, self.scale, before)),
        )
        return network, build_method(choice, setting).to(device)

    def teacher(self, name: str) -> Backbone:
        """The teacher of that name, untrained."""
        choice = typed(BackboneChoice, section(self.values, "teachers", name, "backbone"), f"teachers.{name}")
        return build_backbone(choice, self.scale)

    def ensemble(self) -> AggregatedEnsemble:
        """The task's teacher, the further members, and the aggregator."""
        members = section(self.values, "run", "members")
        teachers = {"teacher": self.teacher(self.task)}
        teachers |= {name: self.teacher(f"{self.task}_{name}") for name in members}
        arguments = section(self.values, "ensembles", self.task, "aggregator")
        return AggregatedEnsemble(TeacherEnsemble(teachers), Aggregator(self.scale, len(teachers), **arguments))
