"""Restoration networks, one a file. To add one: its file and a line here."""

from collections.abc import Callable

from components.backbones.backbone import Backbone
from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "edsr": Edsr,
    "rcan": Rcan,
}
