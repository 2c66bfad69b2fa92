"""Batch and patch of every step: patches that grow while batches shrink, and which samples a step holds."""

from collections.abc import Sequence
from typing import NamedTuple


class Sizes(NamedTuple):
    """What holds from the step behind `after` on.

    Attributes:
        after: steps that were taken before.
        batch: samples a step, over all processes together.
        patch: side of the degraded crop in pixels.
    """

    after: int
    batch: int
    patch: int


class ProgressiveLearning:
    """Sample numbers of each step, and the patch of each sample (Restormer's progressive learning, section 3.3).

    The numbers run on without a gap from step to step, so that the patch is a function of the sample's number, and a
    training resumes anywhere. Restormer's release cuts 384 pixels of every sample first, drops samples of the batch by
    chance, and cuts the rest anew, at one place for the whole batch; here each sample is cut to its size at once.

    Args:
        stages: at least one, the first after step 0, each after the one before.
    """

    def __init__(self, stages: Sequence[Sizes]) -> None:
        self._stages = tuple(stages)
        self._firsts = [0]
        for stage, following in zip(self._stages, self._stages[1:], strict=False):
            self._firsts.append(self._firsts[-1] + (following.after - stage.after) * stage.batch)

    @property
    def batches(self) -> tuple[int, ...]:
        """All sizes of a batch."""
        return tuple(stage.batch for stage in self._stages)

    @property
    def largest_patch(self) -> int:
        """What every training image must be as large as."""
        return max(stage.patch for stage in self._stages)

    def samples(self, step: int) -> range:
        """The numbers of the samples of a step (from 1), over all processes."""
        place = max(place for place, stage in enumerate(self._stages) if stage.after < step)
        stage = self._stages[place]
        first = self._firsts[place] + (step - 1 - stage.after) * stage.batch
        return range(first, first + stage.batch)

    def patch(self, sample: int) -> int:
        """The side of the degraded crop of a sample."""
        place = max(place for place, first in enumerate(self._firsts) if first <= sample)
        return self._stages[place].patch


def unchanging(batch: int, patch: int) -> ProgressiveLearning:
    """One batch size and one patch from the first step to the last."""
    return ProgressiveLearning([Sizes(0, batch, patch)])
