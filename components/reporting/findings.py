"""What the report is about, as typed values: the networks compared, their scores, and the images that went in."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from components.images.manifest import Entry
from components.reporting.circumstances import Circumstances
from components.reporting.publication import Publication
from components.tasks.task import Task

Role = Literal["baseline", "student", "teacher"]


@dataclass(frozen=True)
class Quality:
    """PSNR (dB) and SSIM (0..1) of one image, or their means over a set."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Curve:
    """Values over training steps.

    Attributes:
        steps: the steps, ascending; empty if nothing was trained.
        values: the values at these steps, by name.
    """

    steps: tuple[int, ...] = ()
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Complexity:
    """Parameters, and multiply-adds for one 1280x720 output."""

    parameters: int
    flops: int


@dataclass(frozen=True)
class Contender:
    """One way to restore the test images.

    Attributes:
        name: the baseline's name, the student's method, or `teacher`.
        role: which of the three it is.
        sets: its scores by test set.
        images: its scores by `dataset/name`.
        restored: folder of its images, `<dataset>/<name>.png`.
        cost: of its network; None for the baseline.
        backbone: its network in words; empty for the baseline.
        losses: terms of its loss, unweighted, and their weighted sum `total`.
        validation: its scores on the validation images.
        weights: sha256 of its file of weights; empty for the baseline.
        seconds: that it takes per megapixel, if known.
    """

    name: str
    role: Role
    sets: Mapping[str, Quality]
    images: Mapping[str, Quality]
    restored: Path
    cost: Complexity | None = None
    backbone: str = ""
    losses: Curve = Curve()
    validation: Curve = Curve()
    weights: str = ""
    seconds: float | None = None

    @property
    def psnr(self) -> float:
        """Mean over the test sets in dB."""
        return statistics.fmean(quality.psnr for quality in self.sets.values())


@dataclass(frozen=True)
class EncoderFindings:
    """The encoder and codebook in whose space DCKD compares images; what was measured is None if it was imported.

    Attributes:
        codes: size of the codebook.
        codes_in_use: number of codes that encode the validation images, or None.
        perplexity: number of equally used codes that would be as varied, or None.
        psnr: of its reconstruction of the validation images, RGB, dB, or None.
        losses: terms of its loss.
    """

    codes: int
    codes_in_use: float | None
    perplexity: float | None
    psnr: float | None
    losses: Curve


@dataclass(frozen=True)
class FailedImage:
    """An image that does not meet an expectation, and the value found instead."""

    file: str
    found: str


@dataclass(frozen=True)
class Expectation:
    """One expectation of the images, how many were checked, and which of them failed."""

    expected: str
    checked: int
    required: bool
    failures: tuple[FailedImage, ...]


@dataclass(frozen=True)
class Origin:
    """One fetched file: the name of its source, its URL, its licence, and the author to credit."""

    source: str
    url: str
    licence: str
    author: str
    sha256: str


@dataclass(frozen=True)
class Findings:
    """Everything that the report is made from.

    Attributes:
        task_name: as in params.yaml.
        task: the task with its protocol.
        sets: the test sets, in the order of the collection.
        contenders: baseline, students in the order of params, teacher.
        reference: name of the student with which the others are compared.
        entries: every image that went in.
        sources: of each dataset.
        origins: of every file.
        expectations: what was expected of the images.
        encoder: how well the encoder reconstructs.
        publication: what was published for the same task.
        recipes: params with which each network was trained, `(name, ((key, value), ...))`.
        circumstances: what differs in every run, if given.
    """

    task_name: str
    task: Task
    sets: tuple[str, ...]
    contenders: tuple[Contender, ...]
    reference: str
    entries: tuple[Entry, ...]
    sources: Mapping[str, str]
    origins: tuple[Origin, ...]
    expectations: tuple[Expectation, ...]
    encoder: EncoderFindings
    publication: Publication = field(default_factory=Publication)
    recipes: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    circumstances: Circumstances | None = None

    @property
    def baseline(self) -> Contender:
        """The image restored without learning."""
        return self.contenders[0]

    @property
    def students(self) -> tuple[Contender, ...]:
        """One for each method, in the order of params."""
        return self.contenders[1:-1]

    @property
    def teacher(self) -> Contender:
        """The large network."""
        return self.contenders[-1]

    @property
    def base(self) -> Contender:
        """The student with which the others are compared."""
        return next(student for student in self.students if student.name == self.reference)

    @property
    def worst_first(self) -> tuple[Entry, ...]:
        """The test images, sorted by how far the students' mean PSNR is below the teacher's, the largest gap first."""
        return tuple(sorted(self.tested, key=lambda entry: (-round(self.lost(entry.key), 9), entry.key)))

    def lost(self, key: str) -> float:
        """By how many dB the students are on average below the teacher on one image."""
        return self.teacher.images[key].psnr - statistics.fmean(one.images[key].psnr for one in self.students)

    @property
    def tested(self) -> tuple[Entry, ...]:
        """The images of the test split, in the order of the sets."""
        chosen = (entry for entry in self.entries if entry.split == "test")
        return tuple(sorted(chosen, key=lambda entry: (self.sets.index(entry.dataset), entry.name)))
