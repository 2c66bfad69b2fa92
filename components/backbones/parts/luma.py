"""Networks that restore luma alone and keep the colour: what FSRCNN, VDSR and the like have in common."""

from abc import abstractmethod
from fractions import Fraction

from torch import Tensor

from components.backbones.backbone import Backbone, State
from components.backbones.parts.precision import full_precision
from components.images.bicubic_tensors import resize_batch
from components.images.metrics import LUMA, PEAK

_BLACK = 16.0
_RANGE = sum(LUMA)


def to_luma(image: Tensor) -> Tensor:
    """Luma Y of ITU-R BT.601 in studio range: `B 3 H W` RGB in [0, 1] -> `B 1 H W`, 16/255 black to 235/255 white.

    It is `components.images.metrics.to_luma` over 255: these networks restore exactly what is measured.
    """
    weights = image.new_tensor(LUMA).view(1, 3, 1, 1) / PEAK
    return (image * weights).sum(1, keepdim=True) + _BLACK / PEAK


def to_gray(luma: Tensor) -> Tensor:
    """Gray level for a luma from `to_luma`, of the same shape: 0 for black and 1 for white."""
    return (luma * PEAK - _BLACK) / _RANGE


class LumaBackbone(Backbone):
    """A network from luma to luma, `B 1 h w` -> `B 1 h*scale w*scale`, offered as one from RGB to RGB.

    The chroma of the result is that of MATLAB's bicubic enlargement of the input, as in the papers' pictures. Where
    such a network is trained on gray images, as published, the L1 of RGB is 255/219 of the L1 of luma (the option
    `gray` of the task `sr`).

    A subclass has `enter_luma` and `leave_luma` instead of `enter` and `leave`. The context of its stages begins with
    what `enter_luma` gave; the RGB image comes last in it, and has to stay there.
    """

    @abstractmethod
    def enter_luma(self, luma: Tensor) -> State:
        """Shallow features of luma."""

    @abstractmethod
    def leave_luma(self, state: State) -> Tensor:
        """Restored luma from the state after the last stage, with the context of `enter_luma` alone."""

    def enter(self, image: Tensor) -> State:
        """Shallow features of an image's luma."""
        return self.enter_beside(to_luma(image), image)

    def leave(self, state: State) -> Tensor:
        """Restored luma with the chroma of the input."""
        return self.join(*self.leave_apart(state), scale=self.scale)

    def restore_luma(self, luma: Tensor) -> Tensor:
        """Luma to luma, as published: `B 1 h w` -> `B 1 h*scale w*scale`."""
        state = self.enter_beside(luma, luma)
        for index in range(self.depth):
            state = self.stage(index, state)
        return self.leave_apart(state)[0]

    def enter_beside(self, luma: Tensor, image: Tensor) -> State:
        """Shallow features of `luma`, `B 1 h w`, with an image carried in the context."""
        state = self.enter_luma(luma)
        return State(state.features, (*state.context, image))

    def leave_apart(self, state: State) -> tuple[Tensor, Tensor]:
        """Restored luma, and the image carried in the context."""
        *context, image = state.context
        return self.leave_luma(State(state.features, tuple(context))), image

    @staticmethod
    def join(luma: Tensor, image: Tensor, scale: int | None = None) -> Tensor:
        """Give `luma`, `B 1 H W`, the chroma of an image, `B 3 h w`, enlarged to its size: `B 3 H W` RGB in [0, 1].

        The difference from gray is enlarged: it has no luma before or after, since luma and enlarging are linear. A
        given `scale` is taken as the ratio of sizes, because a compiler that leaves sizes open cannot compute it.
        """
        ratio = Fraction(luma.shape[-1], image.shape[-1]) if scale is None else Fraction(scale)
        with full_precision(image):
            colour = image - to_gray(to_luma(image))
            return to_gray(luma) + (colour if ratio == 1 else resize_batch(colour, ratio))

    def enlarge(self, luma: Tensor) -> Tensor:
        """MATLAB's bicubic enlargement, `B 1 h w` -> `B 1 h*scale w*scale`, in full precision even under autocast."""
        with full_precision(luma):
            return resize_batch(luma, Fraction(self.scale))
