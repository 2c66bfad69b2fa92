"""The one dvc.lock of a run, from what its tasks passed on, and the proof that nothing is left to run."""

from pathlib import Path

from dvc.repo import Repo

from pipeline.deciding.lock import LOCK_FILE, Entries, lock_text, merge, read_lock, write_lock
from pipeline.deciding.plan import plan
from pipeline.deciding.reproduce import run_order
from pipeline.messages import PipelineError, say
from pipeline.storage.remote import open_remote


def merged_lock(folder: Path, found: Entries) -> str:
    """Merge a run's entries into the dvc.lock of a working copy without data, and verify it.

    Args:
        folder: the revision that was run, with the run's params.
        found: entries of the run's stages.

    Returns:
        The text that `dvc repro` would have left in dvc.lock.

    Raises:
        PipelineError: one of these stages would run again, or the remote lacks an output.
    """
    with Repo(str(folder)) as repo:
        order = [stage.name for stage in run_order(repo)]
    if unknown := sorted(found.keys() - set(order)):
        raise PipelineError(f"--upstream: {', '.join(unknown)}: not in this revision's dvc.yaml.")
    lock = folder / LOCK_FILE
    before = read_lock(lock)
    entries = merge(before, found, order)
    write_lock(lock, entries)
    remote = open_remote()
    left = [line for line in plan(folder, list(found), remote) if line["will"] != "not run"]
    if left:
        raise PipelineError(
            "\n".join(
                ["the run is not complete; these would run again:"]
                + [f"{line['stage']}: {'; '.join(line['reasons'])}" for line in left]
            )
        )
    new = [name for name in order if name in found and before.get(name) != found[name]]
    say(f"complete: {len(found)} of {len(order)} stages, {len(new)} with a new entry")
    return lock_text(entries)
