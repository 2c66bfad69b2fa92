"""SAN: second-order attention network for single image super-resolution (Dai et al., CVPR 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State
from components.backbones.parts.head_body_tail import ColourShift, conv3x3, upsampler
from components.backbones.parts.precision import at_least_float32, full_precision
from components.run.errors import InputError
from components.run.params import Positive

_ITERATIONS = 5
_LARGEST_SIDE = 1000
_LEAST_TRACE = 1e-8
"""Where all positions are alike, the covariance is zero and could not be divided by its trace."""

_UNUSED_REDUCTION = 8


def covariance(features: Tensor) -> Tensor:
    """Covariance of the channels over all positions (equation 2): `B C h w` -> `B C C`."""
    flat = features.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    return centred @ centred.mT / flat.shape[2]


def matrix_root(matrices: Tensor) -> Tensor:
    """Square root by five Newton-Schulz steps on the matrix divided by its trace (equations 5 to 7).

    `B C C` -> `B C C`, symmetric and positive semidefinite. Gradients are those of the steps, as in the official
    backward pass.
    """
    trace = matrices.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None].clamp_min(_LEAST_TRACE)
    normalised = matrices / trace
    three = 3 * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    inverse = (three - normalised) / 2
    root = normalised @ inverse
    for _ in range(_ITERATIONS - 2):
        step = (three - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return root @ (three - inverse @ root) / 2 * trace.sqrt()


class SecondOrderAttention(nn.Module):
    """Weighs channels by a bottleneck over the means of the root of their covariance (section 3.3).

    Features of more than 1000 rows or columns are cut to the middle 1000.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        with full_precision(features):
            means = matrix_root(covariance(_middle(at_least_float32(features)))).mean(1)
        weights: Tensor = self.conv_du(means[:, :, None, None])
        return features * weights


class NonLocal(nn.Module):
    """Adds to each position what it attends to by an embedded Gaussian, among the maxima of all 2x2 positions.

    Attention stays within each quarter of the features; the lower and right quarters may be larger (section 3.2).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.g = nn.Sequential(nn.Conv2d(channels, hidden, 1))
        self.W, self.theta = nn.Conv2d(hidden, channels, 1), nn.Conv2d(channels, hidden, 1)
        self.phi = nn.Sequential(nn.Conv2d(channels, hidden, 1))
        self.phi.get_parameter("0.bias").requires_grad_(False)  # softmax cancels what all keys have in common
        for parameter in self.W.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        height, width = features.shape[2:]
        top, left = height // 2, width // 2
        with full_precision(features):  # bf16 would round logits of hundreds to whole numbers
            features = at_least_float32(features)
            asked = torch.cat([self.theta(features), self.phi(features), self.g(features)], dim=1)
            attended = [
                torch.cat([_attend(quarter) for quarter in torch.split(half, [left, width - left], dim=3)], dim=3)
                for half in torch.split(asked, [top, height - top], dim=2)
            ]
            added: Tensor = self.W(torch.cat(attended, dim=2))
            return features + added


class RegionLevelNonLocal(nn.Module):
    """The official module around `NonLocal`; it also holds a channel attention that is never used."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.soca = SecondOrderAttention(channels, _UNUSED_REDUCTION).requires_grad_(False)
        self.non_local = NonLocal(channels, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        enriched: Tensor = self.non_local(features)
        return enriched


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_first = nn.Sequential(conv3x3(channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        residual: Tensor = self.conv_first(features)
        return residual + features


class ResidualAttentionGroup(nn.Module):
    """Residual blocks, second-order attention and a closing convolution, added to the input (section 3.2)."""

    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1), requires_grad=False)  # never used
        self.rcab = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.soca = SecondOrderAttention(channels, reduction)
        self.conv_last = conv3x3(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """`B C h w` -> `B C h w`."""
        residual = features
        for block in self.rcab:
            residual = block(residual)
        attended: Tensor = self.conv_last(self.soca(residual))
        return attended + features


class San(Backbone):
    """SAN; official parameter names (`gamma`, `RG.{g}.*`, `conv_last`, `non_local.*`, `head.0`, `tail.*`).

    Head, non-local attention, residual groups, the same non-local attention again, global skip, sub-pixel upsampling.
    A stage is a group with the share-source skip, and the last ends with the non-local attention: the depths 0.35, 0.7
    and 1 tap a teacher of 20 groups and a student of 6 where FAKD taps them. The global skip comes after the last
    stage, as in FAKD; `leave` adds it and upsamples. Any size is allowed; in ONNX, whose pooling takes no empty
    quarter, a side has at least two pixels.

    What the official network holds but never uses (`RG.{g}.gamma`, `conv_last`, `non_local.soca`), and what cancels
    out (the bias of `phi`), exists here under the same name, so that weights load and the number of parameters is the
    published one, but is not trained.

    Args:
        scale: 1, 2, 3, 4 or 8.
        channels: width, at least 8; 64 in the paper.
        groups: residual groups, each a stage; 20 in the paper, 6 in FAKD's students.
        blocks: residual blocks in a group; 10 in the paper.
        reduction: how many times fewer channels the second-order attention's bottleneck has; 16 in the paper.
        non_local_reduction: how many times fewer channels the non-local attention has; 4 in FAKD's networks, 8 in the
            authors' training code.
    """

    smallest_in_onnx = 2

    def __init__(
        self,
        scale: int,
        channels: Positive = 64,
        groups: Positive = 20,
        blocks: Positive = 10,
        reduction: Positive = 16,
        non_local_reduction: Positive = 4,
    ) -> None:
        if channels < _UNUSED_REDUCTION:
            raise InputError(f"san: channels {channels} are too few: write at least {_UNUSED_REDUCTION}")
        for name, value in {"reduction": reduction, "non_local_reduction": non_local_reduction}.items():
            if value > channels:
                raise InputError(f"san: {name} {value} leaves none of {channels} channels: write less")
        super().__init__()
        self.scale, self.depth = scale, groups
        self.shift = ColourShift()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.RG = nn.ModuleList(ResidualAttentionGroup(channels, blocks, reduction) for _ in range(groups))
        self.conv_last = conv3x3(channels, channels).requires_grad_(False)
        self.non_local = RegionLevelNonLocal(channels, channels // non_local_reduction)
        self.head = nn.Sequential(conv3x3(3, channels))
        self.tail = nn.Sequential(upsampler(scale, channels), conv3x3(channels, 3))

    def enter(self, image: Tensor) -> State:
        """Features after head and non-local attention; the context is the global skip and the share-source skip."""
        shallow = self.head(self.shift.inward(image))
        features = self.non_local(shallow)
        return State(features, (shallow, features))

    def stage(self, index: int, state: State) -> State:
        """One group and the share-source skip; the last stage adds the non-local attention."""
        features: Tensor = self.RG[index](state.features) + self.gamma * state.context[1]
        if index == self.depth - 1:
            features = self.non_local(features)
        return state._replace(features=features)

    def leave(self, state: State) -> Tensor:
        """Add the global skip, upsample and return to [0, 1]."""
        return self.shift.outward(self.tail(state.features + state.context[0]))


def _middle(features: Tensor) -> Tensor:
    """At most the middle 1000 rows and columns."""
    for axis in (2, 3):
        side = features.shape[axis]
        kept = torch.sym_min(side, _LARGEST_SIDE)  # type: ignore[no-untyped-call]
        features = features.narrow(axis, (side - kept) // 2, kept)
    return features


def _attend(region: Tensor) -> Tensor:
    """Attention from queries, keys and values, `B 3*c h w` -> `B c h w`; an empty region gives an empty result."""
    hidden = region.shape[1] // 3
    asked, others = torch.split(region, [hidden, 2 * hidden], dim=1)
    if 0 in region.shape:
        return asked
    others = F.max_pool2d(others, [min(side, 2) for side in region.shape[2:]])
    queries, keys, values = (each.flatten(2).mT.unsqueeze(1) for each in (asked, *others.chunk(2, dim=1)))
    attended: Tensor = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
    return attended.squeeze(1).mT.reshape(asked.shape)
