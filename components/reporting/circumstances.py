"""What differs in every run, and so is no part of the page that DVC hashes: revision, hardware, time."""

from pydantic import Field

from components.run.params import Params


class Speed(Params):
    """How long a network took on one machine."""

    seconds_per_megapixel: float = Field(gt=0)
    device: str
    threads: int


class Circumstances(Params):
    """Where, when and from what a run was made, as far as it is known.

    Attributes:
        revision: commit of the project.
        changed: whether files differ from that commit.
        lock: sha256 of dvc.lock.
        made: when the page was made.
        durations: seconds that a stage took, by stage.
        speed: by method.
    """

    revision: str = ""
    changed: bool = False
    lock: str = ""
    made: str = ""
    durations: dict[str, float] = Field(default_factory=dict)
    speed: dict[str, Speed] = Field(default_factory=dict)
