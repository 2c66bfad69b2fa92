"""The two mixers of MiPKD: one mixes features at random positions, the other blocks of two networks at random."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.backbones.backbone import State
from components.backbones.parts.head_body_tail import conv3x3
from components.methods.parts.cascade import Heads, advance, finish, projection


class FeaturePriorMixer(nn.Module):
    """Encoders of both networks' features into one latent space, and the decoder back to the teacher's.

    Separate encoders and convolutions won the paper's ablations; the layers (convolution, ReLU, convolution) are ours.

    Args:
        student: channels of the student's features.
        teacher: channels of the teacher's.
        latent: channels of the latent space.
    """

    def __init__(self, student: int, teacher: int, latent: int) -> None:
        super().__init__()
        self.student_encoder = _coder(student, latent, latent)
        self.teacher_encoder = _coder(teacher, latent, latent)
        self.decoder = _coder(latent, latent, teacher)

    def enhance(self, student: Tensor, latent: Tensor, mask: Tensor) -> Tensor:
        """Encode the student's features, replace them by the teacher's latent where the mask is true, and decode.

        Args:
            student: the student's features, `B C_S h w`.
            latent: the teacher's encoded features, `B C h w`.
            mask: boolean, of the latent's shape.

        Returns:
            `B C_T h w`, to be compared with the teacher's features.
        """
        enhanced: Tensor = self.decoder(torch.where(mask, latent, self.student_encoder(student)))
        return enhanced


class BlockPriorMixer(nn.Module):
    """A path through blocks of both networks, from enhanced features at the first tap to an image.

    A block consists of the stages between two taps; the last block runs from the last tap to the image. Each uses the
    context (the global skip, an encoder's skips) of its own network's plain forward pass, which both networks run
    anyway. If the widths differ, a learnable 1x1 projection is applied wherever the path switches networks (ours).

    Args:
        widths: channels of the student's and the teacher's features at each tap.
    """

    def __init__(self, widths: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.into_student = nn.ModuleList(projection(teacher, student) for student, teacher in widths)
        self.into_teacher = nn.ModuleList(projection(student, teacher) for student, teacher in widths[1:])

    def forward(self, student: Heads, teacher: Heads, enhanced: Tensor, draws: Sequence[bool]) -> Tensor:
        """The image at the end of the path, `B 3 H W`.

        Args:
            student: the student's plain forward pass, up to the last tap.
            teacher: the teacher's.
            enhanced: features of the first tap, as wide as the teacher's.
            draws: for each block, whether the student runs it.
        """
        features, in_student = enhanced, False
        for place, students_turn in enumerate(draws):
            if students_turn and not in_student:
                features = self.into_student[place](features)
            elif in_student and not students_turn:
                features = self.into_teacher[place - 1](features)
            in_student = students_turn
            heads = student if in_student else teacher
            state = State(features, heads.states[place].context)
            if place < len(draws) - 1:
                features = advance(heads.network, state, heads.cuts[place], heads.cuts[place + 1]).features
        return finish(heads.network, state, heads.cuts[-1]) + self._idle(features)

    def _idle(self, features: Tensor) -> Tensor:
        """Zero, but a function of every projection, so that even those that the path skipped get a gradient.

        Without one, other processes would wait for it forever, and the optimiser would not update its moments.
        """
        weights = [parameter.sum() for parameter in self.parameters()]
        return 0 * torch.stack(weights).sum() if weights else features.new_zeros(())


def _coder(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv3x3(inputs, hidden), nn.ReLU(inplace=True), conv3x3(hidden, outputs))
