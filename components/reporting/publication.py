"""Published figures of a task, shown next to the measured ones."""

from pydantic import Field

from components.run.params import Params


class Figure(Params):
    """One row of a published table for one test set: PSNR in dB and, if given, SSIM."""

    psnr: float
    ssim: float | None = None


class Publication(Params):
    """What was published for a task.

    Attributes:
        source: the paper and its table, in words.
        sets: figures by test set and method; the methods may include `teacher` and the baseline's name. Sets and
            methods that the report does not show are ignored.
    """

    source: str = ""
    sets: dict[str, dict[str, Figure]] = Field(default_factory=dict)

    def figure(self, dataset: str, name: str) -> Figure | None:
        """The published figure of a method on a test set."""
        return self.sets.get(dataset, {}).get(name)
