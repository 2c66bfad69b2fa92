"""Command: restore your own pictures with a student (not a stage of the pipeline, but its purpose)."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from components.images.picture_files import ENDINGS
from components.run.errors import InputError
from components.run.files import written_whole
from components.run.step import faults_told
from components.telemetry.progress import Progress
from components.use.places import Job, find_jobs, is_kept

if TYPE_CHECKING:
    from components.images.pixels import Samples

_LOG = logging.getLogger(__name__)
_FORMATS = ("jpg", "png", "tif", "webp", "bmp")


def restore(
    inputs: Sequence[str],
    student: Path,
    out: Path,
    *,
    suffix: str = "",
    ending: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    tile: int = 512,
    overlap: int = 64,
    self_ensemble: bool = False,
) -> None:
    """Restore pictures one after the other; one that can't be restored is named, and the others continue.

    Args:
        inputs: files, folders and patterns.
        student: a stored network, `.safetensors` or `.onnx`.
        out: folder to write to.
        suffix: added to each name.
        ending: of each file, with the dot, which sets its format; None for the picture's own.
        overwrite: whether to replace an existing file with a restored picture's name.
        device: `cpu`, `cuda`, or `auto`: a GPU if there is one.
        tile: largest side that goes through the network at once, in pixels of the picture.
        overlap: width that neighbouring tiles share, likewise.
        self_ensemble: whether each tile goes through in eight orientations.

    Raises:
        InputError: nothing to restore, no network or, at the end, pictures that could not be restored.
    """
    if not 0 <= overlap * 2 <= tile or tile < 1:
        raise InputError(f"--tile {tile} --overlap {overlap}: tiles have pixels, and overlap by at most half of them.")
    jobs = find_jobs(inputs, out, suffix, ending)
    import torch  # noqa: PLC0415 - takes seconds, and neither --help nor a mistyped name needs it

    from components.exporting.opening import open_network  # noqa: PLC0415
    from components.images.photographs import read_photograph  # noqa: PLC0415
    from components.use.bands import restored_rows  # noqa: PLC0415
    from components.use.faults import fault_of  # noqa: PLC0415
    from components.use.photograph_files import left_out, refuse_unfit, write_photograph  # noqa: PLC0415
    from components.use.self_ensemble import SelfEnsemble  # noqa: PLC0415

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and student.suffix == ".safetensors" else "cpu"
    network = open_network(student, device)
    if self_ensemble:
        network = SelfEnsemble(network)

    def one(job: Job) -> bool:
        """Whether it is restored; if not, it was there."""
        if is_kept(job.target, overwrite=overwrite):
            return False
        photograph = read_photograph(job.source)
        kind = ENDINGS.get(job.target.suffix.lower(), photograph.format)
        refuse_unfit(photograph, kind, network.scale)
        height, width = photograph.samples.shape[:2]
        shown = Progress(job.source.name, height * network.scale, unit="row")
        bands = restored_rows(network, photograph, tile, overlap)
        with closing(shown), written_whole(job.target) as partial:
            write_photograph(partial, kind, photograph, network.scale, _counted(bands, shown))
        if lost := left_out(photograph, kind):
            _LOG.warning("%s: is without %s, which can't be written to a %s.", job.target, ", ".join(lost), kind)
        _LOG.info("%s: %dx%d", job.target, width * network.scale, height * network.scale)
        return True

    failed, there = [], 0
    for job in jobs:
        try:
            there += not one(job)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one picture, the others go on
            message = fault_of(error)
            _LOG.error("%s", message if message.startswith(str(job.source)) else f"{job.source}: {message}")
            failed.append(str(job.source))
    _LOG.info("%d of %d restored, %d already existed", len(jobs) - len(failed) - there, len(jobs), there)
    if failed:
        raise InputError(f"{len(failed)} of {len(jobs)} pictures could not be restored: {', '.join(failed)}.")


def _counted(bands: "Iterator[Samples]", shown: Progress) -> "Iterator[Samples]":
    """The same bands, each counted once it has been written."""
    for band in bands:
        yield band
        shown.advance(len(band))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and exit with 2 if a picture could not be restored."""
    parser = argparse.ArgumentParser(
        prog="python -m components restore",
        description="Restore pictures with a student: JPEG, PNG, TIFF, WebP, BMP; 8 and 16 bits; gray, colour, alpha.",
    )
    parser.add_argument("inputs", nargs="+", metavar="PICTURE", help="files, folders (recursively) or 'patterns*'")
    parser.add_argument("--student", type=Path, required=True, help="student.safetensors or student.onnx")
    parser.add_argument("--out", type=Path, required=True, help="folder of restored pictures")
    parser.add_argument("--suffix", default="", help="added to each name, such as _x2")
    parser.add_argument("--format", choices=_FORMATS, help="format of the restored files (default: the picture's own)")
    parser.add_argument("--overwrite", action="store_true", help="replace restored pictures that already exist")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    parser.add_argument(
        "--tile", type=int, default=512, help="side of a tile in pixels; smaller needs less memory (%(default)s)"
    )
    parser.add_argument("--overlap", type=int, default=64, help="pixels that tiles share (%(default)s)")
    parser.add_argument("--self-ensemble", action="store_true", help="eight orientations: slower, a little better")
    flags = parser.parse_args(arguments)
    with faults_told():
        restore(
            flags.inputs,
            flags.student,
            flags.out,
            suffix=flags.suffix,
            ending=f".{flags.format}" if flags.format else None,
            overwrite=flags.overwrite,
            device=flags.device,
            tile=flags.tile,
            overlap=flags.overlap,
            self_ensemble=flags.self_ensemble,
        )


if __name__ == "__main__":
    main()
