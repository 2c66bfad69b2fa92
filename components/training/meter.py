"""Means of the losses between two rows of the history, and the end of a training that went wrong."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from components.run.errors import InputError

TOTAL = "total"

WORST = 1.001
"""No distance of `components.images.distances` between a black and a white image is larger."""
_OF_IMAGES = ("reconstruction", "logits")

_NEVER = torch.iinfo(torch.int64).max


class DivergedError(InputError):
    """A loss is not finite, or ends without sense; the message names the term."""


def refuse_senseless_end(losses: Mapping[str, float]) -> None:
    """Refuse a network whose images end further from the wanted ones than black is from white.

    Finite is not sane: with a learning rate far too high the losses end at 1e31. A training of a few steps, or one that
    learnt nothing, stays below.

    Args:
        losses: the last row of the history.

    Raises:
        DivergedError: names the loss.
    """
    for name in _OF_IMAGES:
        if losses.get(name, 0.0) > WORST:
            raise DivergedError(
                f"the loss {name} ends at {losses[name]:.3g}, but a black image in place of a white one has 1: the "
                "network has lost all sense, and nothing was stored. Lower the learning rate or the weights."
            )


class Meter:
    """Sums losses on their device, so that only steps that ask for the means wait for it.

    Args:
        accelerator: the means are over all of its processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._count = 0
        self._names: list[str] = []
        self._sums = self._broken = torch.empty(0)

    def add(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Count one step: scalars by name, with the same names in every step."""
        values = torch.stack(list(losses.values())).detach().float()
        if not self._count:
            self._names = list(losses)
            self._sums = torch.zeros_like(values)
            self._broken = torch.full_like(values, _NEVER, dtype=torch.int64)
        self._count += 1
        self._sums = self._sums + values
        # Once a sum is not finite, it stays so.
        self._broken = torch.where(self._sums.isfinite(), self._broken, self._broken.clamp(max=step))

    def means(self) -> dict[str, float]:
        """Return the means since the last call, and start over.

        Raises:
            DivergedError: a loss was not finite; names the terms that were the first.
        """
        means = self._accelerator.reduce(self._sums / self._count, reduction="mean").tolist()
        if not all(math.isfinite(mean) for mean in means):
            self._refuse()
        self._count = 0
        return dict(zip(self._names, means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last row."""
        return {"count": self._count, "names": self._names, "sums": self._sums, "broken": self._broken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._count, self._names = state["count"], state["names"]
        self._sums, self._broken = (state[name].to(self._accelerator.device) for name in ("sums", "broken"))

    def _refuse(self) -> None:
        """Name the first broken loss: it breaks the network, and so every other loss one step later."""
        steps = self._accelerator.gather(self._broken[None]).amin(0).tolist()
        first = [name for name, step in zip(self._names, steps, strict=True) if step == min(steps)]
        terms = ", ".join(name for name in first if name != TOTAL) or TOTAL
        raise DivergedError(
            f"the loss is not finite: {terms}, at step {min(steps)}. Lower the learning rate or that term's weight."
        )
