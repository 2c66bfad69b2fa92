"""Distillation methods, one a file. To add one: its file, a line here, and its entry in params.yaml."""

from components.methods.dckd import Dckd
from components.methods.logits import Logits
from components.methods.method import Distillation
from components.methods.scratch import Scratch

METHODS: dict[str, type[Distillation]] = {
    "scratch": Scratch,
    "logits": Logits,
    "dckd": Dckd,
}
