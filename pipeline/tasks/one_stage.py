"""One stage in a working copy: run it if necessary, push and verify its outputs, pass on lock, scores and page."""

import json
import logging
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.utils.serialize import LOADERS

from pipeline.deciding.lock import LOCK_FILE, Entries, entry_of, fragment_text, read_fragments, read_lock, write_lock
from pipeline.deciding.reproduce import StageFailedError, decide, find_stage, reasons, run_again, run_order, upstream_of
from pipeline.deciding.run_cache import RunCache
from pipeline.graph.numbers import finite, flat_numbers
from pipeline.messages import PipelineError, say
from pipeline.storage.cache_objects import contents, roots, touched
from pipeline.storage.remote import Remote, open_remote
from pipeline.tasks.claim import claimed
from pipeline.tasks.executor_output import write_executor_output
from pipeline.working_copy.workspace import link_checkpoints

__all__ = ["StageFailedError", "Wanted", "carry_out"]


@dataclass(frozen=True)
class Wanted:
    """What a task is asked for; paths are absolute, None = not wanted.

    Attributes:
        stage: name of the stage.
        upstream: fragments of dvc.lock from the tasks above.
        executor_input: Kubeflow's, or ''.
        lock_output: gets the entries of the stage and of all above it.
        metrics_output: gets the scores, JSON.
        page_output: gets the page that `meta: {kfp: {page: ...}}` names.
    """

    stage: str
    upstream: list[Path]
    executor_input: str
    lock_output: Path | None
    metrics_output: Path | None
    page_output: Path | None


def carry_out(folder: Path, wanted: Wanted) -> None:
    """Do all that a task does, in the working copy `folder`.

    Raises:
        StageFailedError: the stage's command failed.
        PipelineError: an upstream lock is missing or belongs to another run, or the remote fails.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)
    logging.getLogger("dvc.stage.run").setLevel(logging.INFO)
    found = read_fragments(wanted.upstream)
    lock = folder / LOCK_FILE
    entries = read_lock(lock) | found
    write_lock(lock, entries)
    remote = open_remote()
    if remote is None:
        raise PipelineError("DVC_REMOTE_URL is not set: s3://BUCKET/PREFIX or a folder by which tasks share data.")
    with chdir(folder), Repo(str(folder)) as repo:
        stage = find_stage(repo.index.stages, wanted.stage)
        above = [one.name for one in run_order(repo, [stage])][:-1]
        _refuse_unfit(repo, stage, above, found)
        runs = RunCache(repo, remote, push=True)
        decision = decide(repo, stage, upstream_of(repo, stage), remote, runs)
        with claimed(decision.key if decision.runs else None) as waited:
            if waited:
                stage = stage.reload()  # the first decision gave it the hashes of a new run
                decision = decide(repo, stage, upstream_of(repo, stage), remote, runs)
            if not decision.reasons:
                say(f"{stage.name}: unchanged")
            elif decision.earlier:
                say(f"{stage.name}: run before with the same inputs; its outputs are used again")
                entries[stage.name] = entry_of(stage.name, decision.earlier)
            else:
                say(f"{stage.name}: runs: {'; '.join(decision.reasons)}")
                # What DVC considers unchanged, but the remote lacks, must run too: without an entry it does.
                write_lock(lock, {name: entry for name, entry in entries.items() if name != stage.name})
                stage = _run(repo, stage, decision.key, remote, runs)
                entries = read_lock(lock)
        _hand_on(remote, stage, {name: entries[name] for name in (*above, stage.name)}, wanted)


def _refuse_unfit(repo: Repo, stage: Any, above: list[str], found: Entries) -> None:
    """Refuse locks that are missing or come from another run: DVC would run the stages above in this task."""
    missing = [name for name in above if name not in found]
    if missing:
        raise PipelineError(
            f"--upstream: no entry for {', '.join(missing)}, which {stage.name} builds on: a lock is missing, or "
            "belongs to another task."
        )
    with repo.lock:
        for name in above:
            one = find_stage(repo.index.stages, name)
            if why := reasons(one, upstream_of(repo, one)):
                raise PipelineError(
                    f"--upstream: the entry of {name} was made from another revision or with other overrides "
                    f"({'; '.join(why)}), so {stage.name} can't build on it."
                )


def _run(repo: Repo, stage: Any, key: str | None, remote: Remote, runs: RunCache) -> Any:
    """Fetch what the stage reads, run it, and push what it made."""
    paths = [Path(dependency.fs_path) for dependency in stage.deps]
    read = touched(paths, [out for above in upstream_of(repo, stage) for out in above.outs])
    remote.fetch(roots(read))
    remote.fetch(contents(read).values())
    if read:
        repo.checkout([out.fs_path for out in read])
    if key:
        link_checkpoints(Path(repo.root_dir), key)
    done = run_again(repo, stage.name)
    files = contents(done.outs)
    pushed, size = remote.push(files.values())
    lists, _ = remote.push(roots(done.outs))  # after the files that they list: a list implies its files
    runs.keep(done)
    say(f"{done.name}: pushed {pushed + lists} objects, {size / 1e6:.1f} MB; all sizes and hashes are right")
    return done


def _hand_on(remote: Remote, stage: Any, entries: Entries, wanted: Wanted) -> None:
    scores = _scores(remote, stage)
    for name, value in scores.items():
        say(f"{stage.name}: {name} = {value:g}")
    if wanted.metrics_output:
        _write(wanted.metrics_output, json.dumps(scores, indent=2) + "\n")
    page = (stage.meta or {}).get("kfp", {}).get("page")
    if wanted.page_output and page:
        path = Path(stage.repo.root_dir, page)
        outs = touched([path], stage.outs)
        remote.fetch(roots(outs))
        item = contents(outs).get(path)
        if item is None:
            raise PipelineError(f"{stage.name}: meta.kfp.page: {page} is not among the files that the stage wrote.")
        remote.fetch([item])
        _write(wanted.page_output, item.path.read_text(encoding="utf-8"))
    if wanted.lock_output:
        _write(wanted.lock_output, fragment_text(entries))
    write_executor_output(wanted.executor_input, scores)


def _scores(remote: Remote, stage: Any) -> dict[str, float]:
    """Finite numbers of the stage's metric files; if there are several files, each name begins with its file's."""
    outs = [out for out in stage.outs if out.metric]
    items = roots(outs)
    remote.fetch(items)
    found: dict[str, float] = {}
    for out, item in zip(outs, items, strict=True):
        path = Path(out.def_path)
        values = LOADERS[path.suffix](str(item.path))
        found |= finite(flat_numbers(values, path.stem if len(outs) > 1 else ""))
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
