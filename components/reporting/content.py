"""The content of the report, in order: the page and its Markdown twin are two renderings of these values."""

from dataclasses import dataclass
from pathlib import Path

from components.reporting.charts import CostChart, cost_charts, loss_charts, validation_chart
from components.reporting.comparison import Side, compare
from components.reporting.exports import export_table
from components.reporting.findings import Findings
from components.reporting.gallery import Gallery, Limits, make_gallery
from components.reporting.headline import headline, networks, title
from components.reporting.pictures import Picture
from components.reporting.places import RULE, choose_places, read_clean
from components.reporting.provenance import (
    circumstances_sentences,
    dataset_table,
    encoder_sentence,
    expectation_table,
    network_table,
    origin_table,
    recipe_table,
)
from components.reporting.shortfall import FORMULA, band_table, lost_table, spectrum_charts
from components.reporting.spectrum import spectra
from components.reporting.tables import (
    Table,
    image_table,
    loss_table,
    published_columns,
    score_table,
    validation_table,
)
from components.reporting.wording import whole
from components.telemetry.progress import progress


@dataclass(frozen=True)
class Content:
    """The report from top to bottom."""

    title: str
    networks: str
    headline: str
    scores: Table
    guide: tuple[str, ...]
    published: str
    costs: tuple[CostChart, ...]
    fronts: str
    exports: Table | None
    validation_chart: Picture | None
    validation: Table
    untrained: tuple[str, ...]
    losses: tuple[tuple[str, tuple[tuple[str, Picture], ...]], ...]
    loss_ends: Table
    rule: str
    side: Side
    largest: str
    gallery: Gallery
    images: Table
    lost: Table
    bands: Table
    spectra: tuple[tuple[str, Picture], ...]
    formula: str
    datasets: Table
    origins: Table
    expectations: Table
    failures: tuple[str, ...]
    encoder: str
    networks_trained: Table
    recipes: Table
    circumstances: tuple[str, ...]
    protocol: str

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Every picture of the Markdown twin; only the page has the gallery's."""
        charts = [chart.picture for chart in self.costs]
        charts += [picture for _, picture in self.spectra]
        charts += [self.validation_chart] if self.validation_chart else []
        charts += [picture for _, group in self.losses for _, picture in group]
        panels = [panel for comparison in self.side.comparisons for panel in comparison.panels]
        places = [picture for panel in panels for picture in (panel.picture, panel.under) if picture]
        return (*charts, self.side.scale, *places)


def make_content(findings: Findings, crops: int, crop_side: int, limits: Limits, raw: Path) -> Content:
    """Make every sentence, table and picture of the report.

    Args:
        findings: what was measured.
        crops: places shown side by side.
        crop_side: their side in clean pixels.
        limits: how many images the gallery holds.
        raw: folder of fetched sources, which holds the clean images.
    """
    entries = progress(findings.tested, "compare images", len(findings.tested))
    side = compare(findings, choose_places(findings, crops, crop_side, entries), raw)
    tested = progress(findings.tested, "spectra", len(findings.tested))
    found = spectra(findings, tested, lambda entry: read_clean(findings, entry, raw)[1])
    return Content(
        title=title(findings),
        networks=networks(findings),
        headline=headline(findings),
        scores=score_table(findings),
        guide=_guide(findings),
        published=_published(findings),
        costs=cost_charts(findings),
        fronts=_fronts(findings),
        exports=export_table(findings),
        validation_chart=validation_chart(findings),
        validation=validation_table(findings),
        untrained=_untrained(findings),
        losses=loss_charts(findings),
        loss_ends=loss_table(findings),
        rule=RULE,
        side=side,
        largest=f"{side.largest:g}",
        gallery=make_gallery(findings, limits, raw),
        images=image_table(findings),
        lost=lost_table(findings),
        bands=band_table(findings, found),
        spectra=spectrum_charts(findings, found),
        formula=FORMULA,
        datasets=dataset_table(findings),
        origins=origin_table(findings),
        expectations=expectation_table(findings),
        failures=_failures(findings),
        encoder=encoder_sentence(findings),
        networks_trained=network_table(findings),
        recipes=recipe_table(findings),
        circumstances=circumstances_sentences(findings),
        protocol=_protocol(findings),
    )


def _guide(findings: Findings) -> tuple[str, ...]:
    images = whole(len(findings.tested))
    measures = (
        "PSNR says how close a restored image is to the clean one, in decibels: more is better, and 3 dB more is half "
        "the squared error. SSIM says how alike they look: 1 is the same."
    )
    told = "restores without any learning" if findings.task.scale > 1 else "is the degraded image as it is"
    networks = (
        f"{findings.baseline.name} {told}; the teacher is the large network that the students "
        f"imitate. A method is worth its training if its student beats {findings.reference}, the same network "
        "trained as long without it."
    )
    chance = (
        f"Every network was trained once, from one seed, and measured on {images} test images: a difference of a few "
        "hundredths of a dB may be chance."
    )
    signs = "Signs: + is better than the other network, \N{MINUS SIGN} is worse."
    return (measures, networks, signs, chance, *_shared(findings))


def _shared(findings: Findings) -> tuple[str, ...]:
    """What to know where validation images are test images too."""
    tested = {entry.sha256 for entry in findings.tested}
    validated = [entry.sha256 in tested for entry in findings.entries if entry.split == "validation"]
    if not any(validated):
        return ()
    sentence = (
        f"{whole(sum(validated))} of the {whole(len(validated))} validation images are test images too: the curves "
        "over the training steps are of these. Nothing was learnt from them; the weights are those of the last step, "
        "and were not chosen by them."
    )
    return (sentence,)


def _published(findings: Findings) -> str:
    """Source of the published figures; empty if the table has none."""
    if not any(published_columns(findings, dataset) for dataset in findings.sets):
        return ""
    source = findings.publication.source or "no source is stated"
    return f"Published figures: {source}. They are for their authors' networks, data and training."


def _fronts(findings: Findings) -> str:
    timed = any(one.seconds for one in findings.contenders)
    latency = (
        "Latency was measured on one machine."
        if timed
        else "Latency differs in every run: the command python -m pipeline page makes this page with it."
    )
    return (
        "The thin line is the Pareto front: no network beats those on it at the same or lower cost. FLOPs and "
        f"parameters do not depend on the machine. {latency}"
    )


def _untrained(findings: Findings) -> tuple[str, ...]:
    networks_here = [one for one in findings.contenders if one.cost and not one.losses.steps]
    return tuple(f"{one.name} has no training curve: it was not trained here." for one in networks_here)


def _failures(findings: Findings) -> tuple[str, ...]:
    return tuple(
        f"{failure.file}: {failure.found} (expected: {one.expected})"
        for one in findings.expectations
        for failure in one.failures
    )


def _protocol(findings: Findings) -> str:
    return (
        f"{findings.task_name}, scale {findings.task.scale}. PSNR and SSIM: {findings.task.protocol}; the mean over "
        "the images of a set. Parameters: all that are trained. FLOPs: multiply-adds of convolutions and matrix "
        "products, each counted as one, for one 1280x720 output."
    )
