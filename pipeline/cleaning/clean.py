"""List what nothing needs any more, and remove it once that is said."""

import argparse
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.cleaning.leftovers import Leftover
    from pipeline.cleaning.results import Results

_SHOWN = 20  # objects, the largest first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--yes", action="store_true", help="remove what is listed; without it nothing is removed")
    parser.add_argument("--keep-checkpoints", action="store_true", help="leave all checkpoints")
    parser.add_argument("--keep-experiments", action="store_true", help="leave all experiments, and their results")
    parser.add_argument(
        "--checkpoint",
        action="extend",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="remove this one too, whatever its age, its stage, and who holds it",
    )
    parser.epilog = (
        "Kept are results that the working tree, a branch, a tag or a named experiment of this clone needs, and every "
        "file that was changed within a day or that a process holds. The remote is left as it is."
    )


def run(arguments: argparse.Namespace) -> None:
    """List, and remove with `--yes`.

    Raises:
        PipelineError: a file that was named is no checkpoint, or DVC runs a stage.
    """
    from dvc.repo import Repo  # noqa: PLC0415 -- DVC takes a second

    from pipeline.cleaning.leftovers import leftover_files, named_checkpoints  # noqa: PLC0415
    from pipeline.cleaning.results import refuse_while_running, remove_results, unneeded_results  # noqa: PLC0415
    from pipeline.graph.graph import read_graph  # noqa: PLC0415
    from pipeline.messages import say  # noqa: PLC0415

    logging.getLogger("dvc").setLevel(logging.ERROR)  # it warns of every output that was not made yet
    named = named_checkpoints(arguments.checkpoint)
    kept = {one.path for one in named}
    commands = {stage.name: stage.command for stage in read_graph(Path())}
    files = [one for one in leftover_files(commands) if one.path not in kept]
    if arguments.keep_checkpoints:
        files = [one for one in files if one.kind != "checkpoint"]
    removed = [*named, *(one for one in files if not one.held)]
    with Repo(str(Path.cwd())) as repo:
        if arguments.yes:
            refuse_while_running(repo)
        results = unneeded_results(repo, keep_experiments=arguments.keep_experiments)
        for line in _lines([*named, *files], results):
            say(line)
        if arguments.yes:
            for one in removed:
                one.path.unlink(missing_ok=True)
            remove_results(repo, results)
    size = _size(sum(one.size for one in removed) + sum(results.objects.values()))
    counts = {"file": len(removed), "experiment": len(results.experiments), "object": len(results.objects)}
    total = ", ".join(f"{count} {word if count == 1 else word + 's'}" for word, count in counts.items()) + f": {size}"
    say(f"removed {total}" if arguments.yes else f"Nothing was removed. --yes removes {total}.")


def _lines(files: "Iterable[Leftover]", results: "Results") -> Iterator[str]:
    for one in files:
        yield f"{one.kind}: {one.path}, {_size(one.size)}" + (f"; kept: {one.held}" if one.held else "")
    for experiment in results.experiments:
        yield f"experiment that nobody named: {experiment.name}, of {experiment.baseline_sha[:7]}"
    largest = sorted(results.objects.items(), key=lambda one: -one[1])
    for path, size in largest[:_SHOWN]:
        yield f"object of the cache: {path}, {_size(size)}"
    if rest := largest[_SHOWN:]:
        yield f"{len(rest)} smaller objects of the cache, {_size(sum(size for _, size in rest))}"
    if results.shared:
        yield f"DVC's cache: {results.shared}; kept: it lies outside of the project and may serve others"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
