import itertools
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from components.backbones.tiling import restore_tiled
from tests.closed_form import closed_form, fill


class Enlarge(Backbone):
    """Repeats every pixel, notes what it is given, and, where it has the size rule, refuses other sizes."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale, self.depth = scale, 1
        self.factor = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[int, int]] = []

    def enter(self, image: Tensor) -> State:
        self.seen.append((image.shape[-2], image.shape[-1]))
        assert all(side % self.multiple == 0 for side in self.seen[-1])
        return State(image * self.factor, ())

    def stage(self, index: int, state: State) -> State:
        return state

    def leave(self, state: State) -> Tensor:
        return repeated(state.features, self.scale)


class Enlarge8(Enlarge):
    multiple: ClassVar[int] = 8


class Border(Enlarge):
    """Marks what lies next to a border of its input, as zero padding does."""

    def leave(self, state: State) -> Tensor:
        marked = F.pad(torch.zeros_like(state.features[..., 4:-4, 4:-4]), (4, 4, 4, 4), value=1.0)
        return repeated(marked, self.scale)


def repeated(image: Tensor, scale: int) -> Tensor:
    return F.interpolate(image, scale_factor=scale, mode="nearest")


def image(height: int, width: int) -> Tensor:
    return torch.from_numpy(closed_form("image", (1, 3, height, width), 0, 1)).float()


def edsr(scale: int) -> Edsr:
    """Sees 6 degraded pixels to each side: head, two of its block, the body's last, upsampler, tail."""
    network = Edsr(scale, channels=8, blocks=1)
    fill(network)
    return network.eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(100, 100), (100, 40), (40, 100), (65, 64), (64, 200), (129, 97)])
def test_tiles_give_the_whole_image_where_the_network_sees_little(size: tuple[int, int], scale: int) -> None:
    network, input_ = edsr(scale), image(*size)
    tiled = restore_tiled(network, input_, tile=64, overlap=32)  # a quarter of which is 8
    torch.testing.assert_close(tiled, network(input_).detach(), rtol=0, atol=2e-5)


def test_tiles_without_enough_overlap_do_not() -> None:
    """So the test above can fail."""
    network, input_ = edsr(2), image(100, 100)
    difference = (restore_tiled(network, input_, tile=64, overlap=8) - network(input_)).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize(("overlap", "shown"), [(32, False), (4, True)])
def test_a_quarter_of_the_overlap_is_never_used(overlap: int, shown: bool) -> None:
    """Four pixels along each border of a tile are marked; inside the image none of them may be seen."""
    restored = restore_tiled(Border(2).eval(), image(150, 170), tile=64, overlap=overlap)
    assert bool((restored[..., 8:-8, 8:-8] > 0).any()) == shown
    assert (restored[..., :8, :] == 1).all(), "the image's own border is no tile's"


class Mean(Enlarge):
    """Adds the mean of its input, as the attention of RCAN sees it: the whole of it, from everywhere."""

    def leave(self, state: State) -> Tensor:
        return repeated(state.features.mean((-2, -1), keepdim=True).expand_as(state.features), self.scale)


@pytest.mark.parametrize("size", [(160, 150), (64, 100), (71, 129)])
def test_a_network_that_sees_everything_shows_no_seam(size: tuple[int, int]) -> None:
    """Tiles of different brightness: one fades into the other over the inner half of their overlap."""
    rows, columns = torch.linspace(0, 0.5, size[0]), torch.linspace(0, 0.5, size[1])
    shaded = (rows[:, None] + columns[None, :]).expand(1, 3, -1, -1)
    tiled = restore_tiled(Mean(2).eval(), shaded, tile=64, overlap=32)
    fade = 2 * 32 / 2
    assert tiled.max() - tiled.min() > 0.1
    for axis in (-2, -1):
        assert tiled.diff(dim=axis).abs().max() < 0.5 / fade


def test_tiles_of_a_network_with_attention_stay_near_the_whole_image() -> None:
    torch.manual_seed(0)
    network = Rcan(2, channels=8, groups=2, blocks=2, reduction=2).eval()
    rows, columns = torch.meshgrid(torch.arange(160), torch.arange(150), indexing="ij")
    smooth = (0.5 + 0.25 * torch.sin(rows / 23) + 0.25 * torch.cos(columns / 17)).expand(1, 3, -1, -1)
    whole = network(smooth).detach()
    assert (restore_tiled(network, smooth, tile=64, overlap=32) - whole).abs().max() < 0.003
    assert (restore_tiled(network, smooth, tile=64, overlap=0) - whole).abs().max() > 0.03


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((32, 32), [(32, 32)]),
        ((31, 32), [(31, 32)]),
        ((1, 32), [(1, 32)]),
        ((33, 32), [(32, 32)] * 2),
        ((5, 57), [(5, 32)] * 3),
        ((56, 33), [(32, 32)] * 4),
    ],
)
def test_only_above_the_limit_an_image_is_tiled(size: tuple[int, int], tiles: list[tuple[int, int]]) -> None:
    network = Enlarge(2).eval()
    restored = restore_tiled(network, image(*size), tile=32, overlap=8)
    assert network.seen == tiles
    torch.testing.assert_close(restored, repeated(image(*size), 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 3])
def test_weights_of_tiles_add_up_for_any_size_tile_and_overlap(scale: int) -> None:
    network = Enlarge(scale).eval()
    for height, width, tile, overlap in itertools.product(
        (1, 7, 16, 17, 40), (5, 18, 33), (1, 8, 15, 16), (0, 1, 3, 4, 7, 8)
    ):
        if 2 * overlap <= tile:
            restored = restore_tiled(network, image(height, width), tile, overlap)
            expected = repeated(image(height, width), scale)
            torch.testing.assert_close(restored, expected, rtol=0, atol=1e-6, msg=f"{height} {width} {tile} {overlap}")


@pytest.mark.parametrize("size", [(8, 16), (9, 16), (15, 23), (7, 7), (5, 40), (4, 4), (3, 9), (1, 9), (9, 1), (1, 1)])
def test_an_image_of_any_size_meets_the_size_rule(size: tuple[int, int]) -> None:
    """Also one with fewer pixels than are missing, which can't be mirrored."""
    network = Enlarge8(3).eval()
    restored = restore_tiled(network, image(*size))
    height, width = (-(-side // 8) * 8 for side in size)
    assert network.seen == [(height, width)]
    assert torch.equal(restored, repeated(image(*size), 3))


def test_what_is_added_mirrors_the_image() -> None:
    class Seen(Enlarge8):
        def enter(self, image: Tensor) -> State:
            self.given = image
            return super().enter(image)

    network, input_ = Seen(1).eval(), image(6, 5)
    restore_tiled(network, input_)
    assert torch.equal(network.given[0, 0, :, 0], input_[0, 0, [0, 1, 2, 3, 4, 5, 4, 3], 0])
    assert torch.equal(network.given[0, 0, 0, :], input_[0, 0, 0, [0, 1, 2, 3, 4, 3, 2, 1]])


@pytest.mark.parametrize("size", [(40, 50), (33, 20), (1, 50)])
def test_tiles_meet_the_size_rule_too(size: tuple[int, int]) -> None:
    network = Enlarge8(2).eval()
    restored = restore_tiled(network, image(*size), tile=20, overlap=6)
    torch.testing.assert_close(restored, repeated(image(*size), 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1)])
def test_an_image_one_pixel_wide_is_restored(size: tuple[int, int]) -> None:
    networks: list[Backbone] = [edsr(2), Rcan(3, channels=8, groups=1, blocks=1, reduction=2).eval()]
    for network in networks:
        restored = restore_tiled(network, image(*size), tile=64, overlap=16)
        assert restored.shape == (1, 3, size[0] * network.scale, size[1] * network.scale)
        assert restored.isfinite().all()


def test_an_overlap_beyond_half_the_tile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the overlap \(9\) may be at most half the tile \(16\)"):
        restore_tiled(Enlarge(2), image(40, 40), tile=16, overlap=9)


def test_nothing_is_kept_for_a_gradient() -> None:
    assert not restore_tiled(edsr(2), image(8, 8)).requires_grad
