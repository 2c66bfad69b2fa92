"""Progress of long work: a bar on a terminal, sparse lines elsewhere (logs of a pod or of CI)."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_LINE_SECONDS = 15.0


class Progress:
    """Counts steps of known total; shows step, rate, time left and the last values given.

    On a terminal it is a `tqdm` bar. Elsewhere it writes a line every 15 seconds and one at the end.
    """

    def __init__(self, title: str, total: int, unit: str = "step", start: int = 0) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, initial=start, desc=title, unit=unit, disable=not self._terminal, dynamic_ncols=True
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

    def rate(self) -> float:
        """Steps a second since the start."""
        return (self._done - self._start) / max(time.monotonic() - self._began, 1e-9)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def _line(self) -> None:
        rate = self.rate()
        left = (self._total - self._done) / max(rate, 1e-9)
        values = "".join(f" {name}={value}" for name, value in self._values.items())
        sys.stderr.write(
            f"{self._title}: {self._unit} {self._done}/{self._total}{values} "
            f"{rate:.1f} {self._unit}/s {left:.0f} s left\n"
        )
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
