"""What differs in every run, and so is not part of the page that DVC hashes: revision, hardware, time."""

from pydantic import Field

from components.run.params import Params


class Speed(Params):
    """How long a network took on one machine."""

    seconds_per_megapixel: float = Field(gt=0)
    device: str
    threads: int


class RecordedCost(Params):
    """What a file took per megapixel on one machine, as `components.exporting.costs` measures it."""

    seconds_per_megapixel: float = Field(gt=0)
    megabytes_per_megapixel: float = Field(ge=0)


class Loss(Params):
    """PSNR of an exported file on a test set, and how far it is below the network as trained, in dB."""

    psnr: float
    lost: float


class ExportFindings(Params):
    """What `export` measured of one student's files.

    Attributes:
        device: where they ran.
        threads: number of threads that they used.
        student: sha256 of the student's weights.
        networks: cost by file, including the teacher's.
        sizes: bytes by file.
        losses: by file and test set.
    """

    device: str
    threads: int
    student: str
    networks: dict[str, RecordedCost]
    sizes: dict[str, int]
    losses: dict[str, dict[str, Loss]]


class Circumstances(Params):
    """Where, when and from what a run was made, as far as known.

    Attributes:
        revision: commit of the project.
        changed: whether files differ from that commit.
        lock: sha256 of dvc.lock.
        made: when the page was made.
        durations: seconds that a stage took when it last ran on this machine, by stage.
        speed: by `METHOD/SEED`; the teacher's as `teacher`.
        exports: by `METHOD/SEED`.
    """

    revision: str = ""
    changed: bool = False
    lock: str = ""
    made: str = ""
    durations: dict[str, float] = Field(default_factory=dict)
    speed: dict[str, Speed] = Field(default_factory=dict)
    exports: dict[str, ExportFindings] = Field(default_factory=dict)
