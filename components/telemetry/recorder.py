"""What a step sees of tracking: it records into its run's journal, and nothing that happens there stops it."""

import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.run.secrets import without_secrets
from components.telemetry.context import Context, read_context
from components.telemetry.durations import timed
from components.telemetry.follow import farewell, follow_later
from components.telemetry.hashes import dvc_md5, md5_of, size_of
from components.telemetry.journal import Journal, Writer, journals_in
from components.telemetry.memory import own_peak
from components.telemetry.registry import stored_at
from components.telemetry.settings import Settings, read_settings
from components.telemetry.system import Sampler

_LOG = logging.getLogger(__name__)
_NO_NAME = re.compile(r"[^\w\-. /]")
# Hashing outputs takes at most a hundredth of the step's time, or, if that is more, a tenth of a second: these bytes.
_HASHED_BYTES = 32 << 20
_HASHED_BYTES_PER_SECOND = 3 << 20


class Recorder:
    """Records one run. Without a journal, or once that has failed, it does nothing."""

    def __init__(self, writer: Writer | None = None, seen: Mapping[str, int] | None = None) -> None:
        """Record to `writer`; `seen` has the last step of each value already recorded."""
        self._writer = writer
        self._seen = dict(seen or {})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record numbers by name, such as `train/total`.

        Values recorded before a run was interrupted are not recorded again when it repeats those steps.
        """
        new = {_NO_NAME.sub("_", name): value for name, value in values.items()}
        new = {name: value for name, value in new.items() if step > self._seen.get(name, -1)}
        if new:
            self._write("metrics", step=step, values={name: float(value) for name, value in new.items()})

    def file(self, name: str, make: Callable[[], bytes]) -> None:
        """Record a small file, such as `samples/100.png`; it is made here, so that an error does not harm the step."""
        if self._writer:
            with self.unharmed():
                self._writer.add_file(name, make())
                self.event("file", name=name)

    def model(self, task: BaseModel, path: Path, dataset: str, scores: Mapping[str, float]) -> None:
        """Record that the run measured the weights in `path` on a test set: a candidate for the task's champion.

        Args:
            task: the section of params.yaml; scores are compared if it is equal.
            path: the file of the weights.
            dataset: name of the test set.
            scores: `psnr` and others on it.
        """
        if self._writer:
            with self.unharmed():
                known, md5 = task.model_dump(mode="json"), md5_of(path)
                values = {"task": known["name"], "protocol": json.dumps(known, sort_keys=True), "md5": md5}
                source = stored_at(md5, Path.cwd())
                self.event("model", **values, source=source, dataset=dataset, scores=dict(scores))

    def event(self, kind: str, **values: Any) -> None:
        """Record another event, without secrets."""
        if self._writer:
            with self.unharmed():
                self._write(kind, **without_secrets(values))

    def _write(self, kind: str, **values: Any) -> None:
        if self._writer:
            with self.unharmed():
                self._writer.append({"event": kind, "time": time.time_ns() // 1_000_000, **values})

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """If anything goes wrong inside, end the recording with one warning, and nothing else."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- whatever it is, the step continues
            self._writer = None
            told = without_secrets(str(error) or type(error).__name__)
            _LOG.warning("tracking: %s. The step continues, but is no longer recorded.", told)


_NONE = Recorder()
_current = [_NONE]


def current() -> Recorder:
    """The recorder of the step that this process runs."""
    return _current[-1]


@contextmanager
def observed(step: str, words: Sequence[str], values: Mapping[str, Any]) -> Iterator[None]:
    """Time a step and record it as a run: the observer that every step passes to `run_step`."""
    with timed(), tracked(step, words, values):
        yield


@contextmanager
def tracked(step: str, words: Sequence[str], values: Mapping[str, Any]) -> Iterator[None]:
    """Record what happens inside as one run of a step; of several processes only the first records.

    Args:
        step: the step's name.
        words: its command line.
        values: its typed arguments.
    """
    run = _begun(step, words, values)
    if run is None:
        yield
        return
    with run:
        yield


def _begun(step: str, words: Sequence[str], values: Mapping[str, Any]) -> "_Run | None":
    if os.environ.get("RANK", "0") != "0":
        return None
    try:
        settings = read_settings()
        return _Run(settings, read_context(step, words, values), values) if settings else None
    except Exception as error:  # noqa: BLE001 -- as above
        _LOG.warning("tracking: %s. The step is not recorded.", without_secrets(str(error) or type(error).__name__))
        return None


class _Run:
    """One run from its beginning to its end."""

    def __init__(self, settings: Settings, context: Context, values: Mapping[str, Any]) -> None:
        self._settings, self._began = settings, time.monotonic()
        self._paths = {name: path for name, path in values.items() if isinstance(path, Path)}
        self._before = {name: _stand(path) for name, path in self._paths.items()}
        writer, seen = _open(settings.journals, context)
        self.recorder = Recorder(writer, seen)
        if not Journal(writer.folder).size:
            self.recorder.event("begin", **vars(context), id=writer.folder.name)
        else:
            self.recorder.event("again", tags=context.tags)
        self._sampler = Sampler(self._measured, seen.get("system/cpu_utilization_percentage", -1) + 1)
        self._sampler.start()
        if settings.why_none:
            _LOG.info("tracking: kept in %s, not sent: %s.", settings.journals, settings.why_none)
        self._writer = writer
        follow_later(settings)

    def _measured(self, values: Mapping[str, float], step: int) -> None:
        self.recorder.metrics(values, step)
        with self.recorder.unharmed():
            follow_later(self._settings)  # the running one may have ended with another step's pod

    def __enter__(self) -> None:
        _current.append(self.recorder)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _current.remove(self.recorder)
        with self.recorder.unharmed():
            self._sampler.stop()
            self._end(kind)
            self._writer.close()
            told = farewell(self._settings, Journal(self._writer.folder))
            if told:
                _LOG.info("tracking: %s", told)

    def _end(self, kind: type[BaseException] | None) -> None:
        self.recorder.metrics({"memory/peak_megabytes": own_peak() / 1e6})
        if kind is None:
            self.recorder.event("tags", values=self._hashes())
            self.recorder.event("end", status="FINISHED")
        elif not issubclass(kind, KeyboardInterrupt | OSError):  # after those, the user reruns it and it resumes
            self.recorder.event("tags", values={"error": kind.__name__})
            self.recorder.event("end", status="FAILED")

    def _hashes(self) -> dict[str, str]:
        """DVC's hashes of what the step wrote; for what is too large, they are only in dvc.lock."""
        limit = _HASHED_BYTES + int(_HASHED_BYTES_PER_SECOND * (time.monotonic() - self._began))
        found: dict[str, str] = {}
        for name, path in self._paths.items():
            stand = _stand(path)
            if stand is None or stand == self._before[name]:
                continue
            limit -= size_of(path, limit)
            found[f"dvc.out.{path}"] = dvc_md5(path) if limit >= 0 else "large: see dvc.lock"
        return found


def _stand(path: Path) -> tuple[int, int] | None:
    """Inode and time of a file or folder, which change when it is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _open(folder: Path, context: Context) -> tuple[Writer, dict[str, int]]:
    """The same run's interrupted journal, with the last step of each of its values, or a new one."""
    start = f"{_NO_NAME.sub('-', context.stage).replace('/', '-')}-{context.identity[:16]}"
    for journal in journals_in(folder):
        if not journal.folder.name.startswith(f"{start}-") or journal.ended:
            continue
        events = [event for event, _ in journal.events()]
        if not events or events[0].get("injected") != context.injected:
            continue
        try:
            writer = Writer(journal.folder)
        except BlockingIOError:  # the same stage, in another process
            continue
        return writer, _last_steps(events)
    return Writer(folder / f"{start}-{secrets.token_hex(4)}"), {}


def _last_steps(events: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: event["step"] for event in events if event["event"] == "metrics" for name in event["values"]}
