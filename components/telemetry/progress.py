"""Progress of long work: a bar on a terminal, sparse lines elsewhere (logs of a pod or of CI)."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from components.telemetry.durations import count_training

Item = TypeVar("Item")
TRAINING = "step"
"""The unit of training steps, which a stage's record counts."""
_LINE_SECONDS = 15.0


class Progress:
    """Counts steps; shows step, rate, time left and the last values given. A total of 0 means unknown.

    On a terminal it is a `tqdm` bar. Elsewhere it writes a line every 15 seconds and one at the end.
    """

    def __init__(self, title: str, total: int, unit: str = TRAINING, start: int = 0) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total or None,
            initial=start,
            desc=title,
            unit=unit,
            unit_scale=unit == "B",
            disable=not self._terminal,
            dynamic_ncols=True,
        )
        self._title, self._total, self._unit = title, total, unit
        self._done, self._start, self._began = start, start, time.monotonic()
        self._spoke = self._began
        self._values: dict[str, str] = {}

    def advance(self, count: int = 1, **values: str) -> None:
        """Count `count` more steps; `values` are shown beside them until replaced."""
        self._done += count
        self._values.update(values)
        if self._terminal:
            if values:
                self._bar.set_postfix(self._values, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._spoke >= _LINE_SECONDS or self._done == self._total:
            self._spoke = time.monotonic()
            self._line()

    def advance_to(self, done: int, **values: str) -> None:
        """Count up to `done` steps in all."""
        self.advance(done - self._done, **values)

    def rate(self, done: int | None = None) -> float:
        """Steps a second since the start, up to `done` or to what was counted."""
        count = (self._done if done is None else done) - self._start
        return count / max(time.monotonic() - self._began, 1e-9)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
        if self._unit == TRAINING:
            count_training(self._done - self._start, time.monotonic() - self._began)

    def _line(self) -> None:
        rate = self.rate()
        values = "".join(f" {name}={value}" for name, value in self._values.items())
        if self._unit == "B":
            unit, done, total, speed = "MB", self._done / 1e6, self._total / 1e6, rate / 1e6
        else:
            unit, done, total, speed = self._unit, self._done, self._total, rate
        amount = f"{done:.0f}/{total:.0f}" if self._total else f"{done:.0f}"
        left = f", {(self._total - self._done) / max(rate, 1e-9):.0f} s left" if self._total else ""
        sys.stderr.write(f"{self._title}: {unit} {amount}{values} {speed:.1f} {unit}/s{left}\n")
        sys.stderr.flush()


def progress(items: Iterable[Item], title: str, total: int, unit: str = "image") -> Iterator[Item]:
    """Yield `items` one by one, showing the progress of their consumer."""
    shown = Progress(title, total, unit)
    try:
        for item in items:
            yield item
            shown.advance()
    finally:
        shown.close()
