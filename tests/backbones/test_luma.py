"""Networks of luma as networks of RGB: which luma, and whose colour."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2ycbcr, ycbcr2rgb
from torch import Tensor

from components.backbones.backbone import State
from components.backbones.fsrcnn import Fsrcnn
from components.backbones.parts.luma import LumaBackbone, to_gray, to_luma
from components.images import metrics
from components.images.bicubic import resize

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTOGRAPH = data.chelsea()[100:148, 200:260]  # type: ignore[no-untyped-call]


def planes(image: np.ndarray) -> Tensor:
    """Of `H W C` in 0..255, without rounding."""
    return torch.from_numpy(np.asarray(image, dtype=np.float64) / 255).permute(2, 0, 1)[None]


class Nothing(LumaBackbone):
    """Restores what it is given, of the same size."""

    scale, depth = 1, 2

    def enter_luma(self, luma: Tensor) -> State:
        return State(luma, (luma * 2,))

    def stage(self, index: int, state: State) -> State:
        return State(state.features + state.context[0], state.context)

    def leave_luma(self, state: State) -> Tensor:
        (doubled,) = state.context
        return state.features - 2 * doubled


def test_luma_is_that_of_the_protocol_and_of_scikit_image() -> None:
    ours = to_luma(planes(PHOTOGRAPH))[0, 0].numpy() * 255
    np.testing.assert_allclose(ours, metrics.to_luma(PHOTOGRAPH), rtol=1e-12)
    np.testing.assert_allclose(ours, rgb2ycbcr(PHOTOGRAPH)[..., 0], rtol=1e-9)


def test_black_and_white_are_16_and_235() -> None:
    extremes = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert (to_luma(extremes) * 255).flatten().tolist() == pytest.approx([16, 235])
    assert to_gray(to_luma(extremes)).flatten().tolist() == pytest.approx([0, 1], abs=1e-12)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_result_has_the_restored_luma_and_the_chroma_of_the_bicubic_image(scale: int) -> None:
    """Beside scikit-image's YCbCr and MATLAB's bicubic, chroma plane by plane; the latter rounds to bytes twice."""
    luma = torch.rand(1, 1, 48 * scale, 60 * scale, dtype=torch.float64) * 0.8 + 0.06
    joined = Nothing.join(luma, planes(PHOTOGRAPH))
    torch.testing.assert_close(to_luma(joined), luma, rtol=0, atol=1e-12)
    chroma = [resize(np.round(rgb2ycbcr(PHOTOGRAPH)[..., 1:]).astype(np.uint8), Fraction(scale))] if scale > 1 else []
    expected = chroma[0] if chroma else rgb2ycbcr(PHOTOGRAPH)[..., 1:]
    found = rgb2ycbcr(joined[0].permute(1, 2, 0).numpy())[..., 1:]
    np.testing.assert_allclose(found, expected, atol=2.0 if chroma else 1e-9)
    back = ycbcr2rgb(np.concatenate([luma[0].permute(1, 2, 0).numpy() * 255, found], axis=2))
    np.testing.assert_allclose(joined[0].permute(1, 2, 0).numpy(), back, atol=1e-9)


def test_a_network_that_changes_nothing_gives_the_image_back() -> None:
    image = planes(PHOTOGRAPH)
    torch.testing.assert_close(Nothing()(image), image, rtol=0, atol=1e-12)


def test_stages_find_their_own_context_first() -> None:
    image = planes(PHOTOGRAPH)
    state = Nothing().enter(image)
    assert torch.equal(state.context[0], 2 * to_luma(image))
    assert torch.equal(state.context[-1], image)


def test_restored_luma_is_the_luma_of_the_restored_image() -> None:
    network, image = Fsrcnn(2).double(), planes(PHOTOGRAPH)
    torch.testing.assert_close(network.restore_luma(to_luma(image)), to_luma(network(image)), rtol=0, atol=1e-12)


def test_the_distance_of_gray_images_is_that_of_their_luma_times_255_by_219() -> None:
    network = Fsrcnn(2).double()
    gray, clean = (
        to_gray(to_luma(planes(image))).expand(-1, 3, -1, -1) for image in (PHOTOGRAPH[::2, ::2], PHOTOGRAPH)
    )
    of_rgb = (network(gray) - clean).abs().mean()
    of_luma = (network.restore_luma(to_luma(gray)) - to_luma(clean)).abs().mean()
    assert of_rgb.item() == pytest.approx(of_luma.item() * 255 / 219, rel=1e-12)


def test_colour_keeps_its_precision_under_autocast() -> None:
    """bf16 has 8 bits: rounded to them, a level of chroma would be lost."""
    image, luma = planes(PHOTOGRAPH).float(), to_luma(planes(PHOTOGRAPH).float()).repeat(1, 1, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        joined = Nothing.join(luma, image)
    torch.testing.assert_close(joined, Nothing.join(luma, image), rtol=0, atol=1e-6)
