"""Step: all measurements as one self-contained page, its Markdown twin, and a table for the terminal."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from components.dependencies.verdict import refuse_unsound
from components.images.datasets import Collection, Dataset, EntryName, Source
from components.reporting.content import make_content
from components.reporting.gallery import Limits
from components.reporting.gather import gather
from components.reporting.pages import PICTURES, html_page, markdown_page
from components.reporting.publication import Publication
from components.reporting.summary import summary
from components.run.errors import unknown_name
from components.run.files import write_text, written_whole
from components.run.params import PARAMS_FILE, Name, Params, Run
from components.run.step import run_step
from components.tasks import TaskChoice, build_task
from components.telemetry.recorder import observed

_LOG = logging.getLogger(__name__)


class Report(Params):
    """What the report compares and shows.

    Attributes:
        methods: the methods, in the order of the tables; None for all methods of the run.
        reference: the method with which the others are compared.
        crops: places shown side by side.
        crop_side: their side in clean pixels.
        gallery_images: whole test images for the page's viewer; those with the largest loss come first.
        gallery_side: larger images are cut to this many clean pixels a side.
        gallery_megabytes: no image is added that would make the pictures exceed this, except the first.
    """

    methods: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    reference: str
    crops: int = Field(default=4, ge=1)
    crop_side: int = Field(default=96, ge=32)
    gallery_images: int = Field(default=8, ge=1)
    gallery_side: int = Field(default=768, ge=64)
    gallery_megabytes: float = Field(default=11.0, gt=0)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if self.methods and len(set(self.methods)) < len(self.methods):
            raise ValueError("methods: name each method once")
        return self


def report(
    task: TaskChoice,
    report: Report,
    run: Run,
    sources: dict[EntryName, Source],
    datasets: dict[EntryName, Dataset],
    collection: Collection,
    *,
    publication: Publication,
    student: dict[str, Any],
    teachers: dict[str, dict[str, Any]],
    methods: dict[str, dict[str, Any]],
    scores: Path,
    students: Path,
    teacher: Path,
    encoder: Path,
    manifest: Path,
    raw: Path,
    output: Path,
    circumstances: Path | None = None,
) -> None:
    """Show which method makes the best student, by numbers, curves and pictures.

    Args:
        task: the task; its protocol measures.
        report: what to compare and show.
        run: its seeds, of which the page shows the first, and all of its methods.
        sources: every source by name, for licences and authors.
        datasets: every dataset by name.
        collection: the task's datasets by split.
        publication: published figures to show next to the measured ones.
        student: params with which the students were trained, for the page to show.
        teachers: the same for the teachers, by name.
        methods: the same for the methods, by name.
        scores: folder that `check_teacher`, `train_encoder` and `evaluate` wrote to.
        students: folder that `distill` wrote to, with a folder for each method, and in it one for each seed.
        teacher: folder that `train_teacher` wrote.
        encoder: folder that `train_encoder` wrote.
        manifest: folder that `validate` wrote.
        raw: folder of fetched sources.
        output: folder to write `report.html`, `report.md` with its `pictures/`, and `summary.txt` to.
        circumstances: JSON file of what differs in every run (revision, hardware, time). The stage in dvc.yaml passes
            none, so that equal inputs make equal bytes; `python -m pipeline page` passes one.

    Raises:
        InputError: a file is missing, or two files do not belong together; the message names the stage to run.
    """
    shown = report.methods or run.all_methods
    if report.reference not in shown:
        raise unknown_name(f"{PARAMS_FILE}: reports: reference", report.reference, shown)
    findings = gather(
        task.name,
        build_task(task, raw),
        shown,
        run.seeds[0],
        report.reference,
        collection,
        datasets,
        sources,
        publication,
        {
            "student": {**student, "seed": run.seeds[0]},
            "teacher": teachers.get(teacher.name, {}),  # its folder has its entry's name
            **{name: methods.get(name, {}) for name in shown},
        },
        scores=scores,
        students=students,
        teacher=teacher,
        encoder=encoder,
        manifest=manifest,
        circumstances=circumstances,
    )
    limits = Limits(report.gallery_images, report.gallery_side, report.gallery_megabytes)
    content = make_content(findings, report.crops, report.crop_side, limits, raw)
    with written_whole(output) as folder:
        (folder / PICTURES).mkdir(parents=True)
        write_text(folder / "report.html", html_page(content))
        write_text(folder / "report.md", markdown_page(content))
        write_text(folder / "summary.txt", summary(findings))
        for picture in content.pictures:
            (folder / PICTURES / picture.file).write_bytes(picture.data)
    _LOG.info("%s", content.headline)


main = partial(run_step, report, check=refuse_unsound, observe=observed)


if __name__ == "__main__":
    main()
