"""Restoration networks, one a file. To add one: its file and a line here."""

from collections.abc import Callable
from typing import Self

from pydantic import model_validator

from components.backbones.backbone import Backbone
from components.backbones.carn import Carn, CarnM
from components.backbones.dncnn import DnCnn
from components.backbones.drsformer import DrsFormer
from components.backbones.edsr import Edsr
from components.backbones.efdn import Efdn
from components.backbones.fsrcnn import Fsrcnn
from components.backbones.idn import Idn
from components.backbones.nafnet import Nafnet
from components.backbones.rcan import Rcan
from components.backbones.restormer import Restormer
from components.backbones.rlfn import Rlfn
from components.backbones.san import San
from components.backbones.span import Span
from components.backbones.swinir import SwinIr
from components.backbones.uformer import Uformer
from components.backbones.vdsr import Vdsr
from components.run.params import Choice, build, fits

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "carn": Carn,
    "carn_m": CarnM,
    "dncnn": DnCnn,
    "drsformer": DrsFormer,
    "edsr": Edsr,
    "efdn": Efdn,
    "fsrcnn": Fsrcnn,
    "idn": Idn,
    "nafnet": Nafnet,
    "rcan": Rcan,
    "restormer": Restormer,
    "rlfn": Rlfn,
    "san": San,
    "span": Span,
    "swinir": SwinIr,
    "uformer": Uformer,
    "vdsr": Vdsr,
}


class BackboneChoice(Choice):
    """A backbone of the table and its arguments (without the scale, which is the task's), checked."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits(BACKBONES, self, skip=1)
        return self


def build_backbone(choice: BackboneChoice, scale: int) -> Backbone:
    """Build the backbone that params name, for a scale, with initial weights."""
    return build("backbone", BACKBONES, choice, scale)
