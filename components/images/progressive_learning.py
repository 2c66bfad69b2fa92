"""Batch and patch of every step, patches growing while batches shrink, and the samples that a step holds."""

from collections.abc import Sequence
from typing import NamedTuple


class Sizes(NamedTuple):
    """The sizes that apply from step `after` + 1 on.

    Attributes:
        after: steps taken before.
        batch: samples per step, over all processes together.
        patch: side of the degraded crop in pixels.
    """

    after: int
    batch: int
    patch: int


class ProgressiveLearning:
    """Sample numbers of each step, and the patch of each sample (Restormer's progressive learning, section 3.3).

    The numbers continue without a gap from step to step, so the patch is a function of the sample's number, and
    training resumes anywhere. Restormer's release first crops every sample to 384 pixels, drops random samples of the
    batch, and crops the rest again, at one place for the whole batch; here each sample is cropped to its size at once.

    Attributes:
        stages: at least one, in ascending order of `after`; the first has `after` 0.
    """

    def __init__(self, stages: Sequence[Sizes]) -> None:
        self.stages = tuple(stages)
        self._firsts = [0]
        for stage, following in zip(self.stages, self.stages[1:], strict=False):
            self._firsts.append(self._firsts[-1] + (following.after - stage.after) * stage.batch)

    @property
    def batches(self) -> tuple[int, ...]:
        """All sizes of a batch."""
        return tuple(stage.batch for stage in self.stages)

    @property
    def largest_patch(self) -> int:
        """The largest patch; no side of a training image may be shorter."""
        return max(stage.patch for stage in self.stages)

    def samples(self, step: int) -> range:
        """The numbers of the samples of a step (from 1), over all processes."""
        place = max(place for place, stage in enumerate(self.stages) if stage.after < step)
        stage = self.stages[place]
        first = self._firsts[place] + (step - 1 - stage.after) * stage.batch
        return range(first, first + stage.batch)

    def patch(self, sample: int) -> int:
        """The side of the degraded crop of a sample."""
        place = max(place for place, first in enumerate(self._firsts) if first <= sample)
        return self.stages[place].patch


def unchanging(batch: int, patch: int) -> ProgressiveLearning:
    """One batch size and one patch from the first step to the last."""
    return ProgressiveLearning([Sizes(0, batch, patch)])
