"""PISR's teacher: an autoencoder of clean images whose decoder is a network of the student's architecture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from components.backbones import BackboneChoice, build_backbone
from components.backbones.backbone import Backbone, State
from components.backbones.parts.luma import LumaBackbone, to_luma
from components.backbones.weights import describe_backbone, load_stored, read_description
from components.run.errors import InputError
from components.run.params import Positive, bind, typed

_KIND = "privileged_teacher"


class PrivilegedTeacher(Backbone):
    """Maps a clean image to itself through an imitated degraded image (Lee et al., ECCV 2020, section 3.1).

    `B 3 H W` in [0, 1] -> encoder -> `B c H/scale W/scale` -> decoder -> `B 3 H W`; c is 1 if the decoder restores
    luma, otherwise 3. The encoder is the released `lcscc`: two 5x5 and two 3x3 convolutions, the second strided.

    As a backbone its scale is 1 and its stages are the decoder's, so that it is tapped as the student is.

    Args:
        decoder: a network of the student's architecture.
        channels: width of the encoder's 5x5 convolutions.
        shrunk_channels: width of its first 3x3 convolution.
    """

    def __init__(self, decoder: Backbone, channels: Positive = 56, shrunk_channels: Positive = 12) -> None:
        super().__init__()
        self.scale, self.depth = 1, decoder.depth
        self.multiple = decoder.multiple * decoder.scale
        colours = 1 if isinstance(decoder, LumaBackbone) else 3
        self.encoder = nn.Sequential(
            nn.Conv2d(colours, channels, 5, padding=2),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 5, stride=decoder.scale, padding=2),
            nn.PReLU(),
            nn.Conv2d(channels, shrunk_channels, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(shrunk_channels, colours, 3, padding=1),
        )
        self.decoder = decoder

    def seen(self, image: Tensor) -> Tensor:
        """The part of an image that the decoder restores: its luma, `B 1 h w`, or all of it, `B 3 h w`."""
        return to_luma(image) if isinstance(self.decoder, LumaBackbone) else image

    def imitate(self, clean: Tensor) -> Tensor:
        """The imitated degraded image, `B c H/scale W/scale`, to be compared with `seen` of the real one."""
        imitated: Tensor = self.encoder(self.seen(clean))
        return imitated

    def enter_imitated(self, imitated: Tensor, clean: Tensor) -> State:
        """Shallow features of the imitated image; if it is luma, the context carries the clean image for its colour."""
        if isinstance(self.decoder, LumaBackbone):
            return self.decoder.enter_beside(imitated, clean)
        return self.decoder.enter(imitated)

    def enter(self, image: Tensor) -> State:
        """Shallow features of a clean image."""
        return self.enter_imitated(self.imitate(image), image)

    def stage(self, index: int, state: State) -> State:
        """A stage of the decoder."""
        return self.decoder.stage(index, state)

    def leave(self, state: State) -> Tensor:
        """The restored clean image."""
        if isinstance(self.decoder, LumaBackbone):
            return self.decoder.join(*self.decoder.leave_apart(state))
        return self.decoder.leave(state)


def describe_privileged_teacher(decoder: BackboneChoice, scale: int, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """The description that `load_privileged_teacher` needs; `encoder` holds arguments of `PrivilegedTeacher`."""
    return {_KIND: {"decoder": describe_backbone(decoder, scale), "encoder": dict(encoder)}}


def build_privileged_teacher(decoder: BackboneChoice, scale: int, encoder: Mapping[str, Any]) -> PrivilegedTeacher:
    """Build a privileged teacher with initial weights."""
    arguments = bind("privileged_teachers.encoder", PrivilegedTeacher, encoder, skip=1)
    return PrivilegedTeacher(build_backbone(decoder, scale), **arguments)


def load_privileged_teacher(path: Path) -> PrivilegedTeacher:
    """Rebuild a privileged teacher that `train_privileged_teacher` stored, in evaluation mode.

    Raises:
        InputError: the file is not one of ours, or holds another kind of network.
    """
    description = read_description(path)
    if description.keys() != {_KIND}:
        raise InputError(f"{path}: holds no privileged teacher but: {', '.join(description) or 'nothing'}.")
    values = description[_KIND]
    decoder = typed(BackboneChoice, values["decoder"]["backbone"], str(path))
    network = build_privileged_teacher(decoder, values["decoder"]["scale"], values["encoder"])
    return load_stored(network, path)
