"""Running networks from one cut to another, so that the head of one can be joined to the tail of another."""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from components.backbones.backbone import Backbone, State, stage_at
from components.run.errors import InputError

Depth = Annotated[float, Field(gt=0, le=1)]
"""Where a network is cut or tapped: the fraction of its stages that come before, in (0, 1]."""

_PROBE_SIDE = 16


class Heads(NamedTuple):
    """A network's forward pass up to the deepest of several cuts.

    Attributes:
        network: the network.
        cuts: indices of the stages after which it is cut, shallow to deep.
        states: the state at each cut.
    """

    network: Backbone
    cuts: Sequence[int]
    states: Sequence[State]

    def restore(self) -> Tensor:
        """The network's own image, `B 3 h*scale w*scale`."""
        return finish(self.network, self.states[-1], self.cuts[-1])


def heads_of(network: Backbone, image: Tensor, cuts: Sequence[int]) -> Heads:
    """Run a network up to the deepest of its cuts; no later stage is computed.

    Args:
        network: any backbone.
        image: `B 3 h w` in [0, 1].
        cuts: indices of stages, shallow to deep.
    """
    state, before, states = network.enter(image), -1, []
    for cut in cuts:
        state, before = advance(network, state, before, cut), cut
        states.append(state)
    return Heads(network, cuts, states)


def advance(network: Backbone, state: State, after: int, to: int) -> State:
    """The state after stage `to`, from the one after stage `after`."""
    for index in range(after + 1, to + 1):
        state = network.stage(index, state)
    return state


def finish(network: Backbone, state: State, after: int) -> Tensor:
    """The restored image, from the state after stage `after`."""
    return network.leave(advance(network, state, after, network.depth - 1))


def matching_cuts(network: Backbone, depths: Sequence[float]) -> tuple[int, ...]:
    """The stages after which a network is cut at relative depths, shallow to deep; any two networks are cut alike."""
    return tuple(stage_at(depth, network.depth) for depth in sorted(depths))


def example_heads(networks: Sequence[Backbone], depths: Sequence[float]) -> list[Heads]:
    """The networks' states at relative depths for one blank image, the smallest all accept; used for their shapes."""
    multiple = math.lcm(*(network.multiple for network in networks))
    side = math.ceil(_PROBE_SIDE / multiple) * multiple
    heads = []
    for network in networks:
        image = torch.zeros(1, 3, side, side, device=next(network.parameters()).device)
        mode = network.training
        network.eval()  # in training mode it could draw random numbers, or update its statistics with the image
        with torch.no_grad():
            heads.append(heads_of(network, image, matching_cuts(network, depths)))
        network.train(mode)
    return heads


class Bridge(nn.Module):
    """Passes the state of one network to another (ours), with learnable 1x1 projections where their widths differ.

    Where the widths are equal, nothing is learnt and the state passes unchanged.

    Args:
        source: any state of the first network at the cut.
        target: the other network's state for the same image.

    Raises:
        InputError: the states differ in more than the number of channels.
    """

    def __init__(self, source: State, target: State) -> None:
        super().__init__()
        ours, theirs = ([state.features, *state.context] for state in (source, target))
        if [tensor.shape[2:] for tensor in ours] != [tensor.shape[2:] for tensor in theirs]:
            raise InputError(
                f"one network has maps of {_sizes(ours)} there, the other of {_sizes(theirs)}: "
                "write other depths, or take networks of one family."
            )
        self.projections = nn.ModuleList(
            projection(one.shape[1], other.shape[1]) for one, other in zip(ours, theirs, strict=True)
        )

    def forward(self, state: State) -> State:
        """The state, with the widths that the other network expects."""
        tensors = (state.features, *state.context)
        features, *context = (change(tensor) for change, tensor in zip(self.projections, tensors, strict=True))
        return State(features, tuple(context))


def projection(inputs: int, outputs: int) -> nn.Module:
    """A learnable 1x1 convolution between two widths, or the identity if they are equal."""
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)


def _sizes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(" x ".join(map(str, tensor.shape[2:])) for tensor in tensors)
