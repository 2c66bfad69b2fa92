"""What a watcher sees of a running training; it has no influence on the training, so results don't depend on it."""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from time import monotonic
from typing import Any, Generic, Protocol

import numpy as np
import torch
from PIL import Image

from components.backbones.backbone import Backbone
from components.images.store import Store
from components.methods.method import Network
from components.tasks.evaluation import network_restorer
from components.tasks.task import Task

PICTURES = 4
_SIDE = 96


class Reporter(Protocol):
    """Receives what is seen of a training, such as `components.telemetry.recorder.Recorder`."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers by name."""

    def file(self, name: str, make: Callable[[], bytes]) -> None:
        """A small file, made only if somebody wants it."""


class Watch(Generic[Network]):
    """Reports each row of a training, its speed and memory, and a few pictures along the way.

    Args:
        report: receives them.
        batch: images per step.
        steps: of the whole training.
        picture: restores a picture as PNG; None shows none.
    """

    def __init__(
        self, report: Reporter, batch: int, steps: int, picture: Callable[[Network], bytes] | None = None
    ) -> None:
        self._report, self._batch, self._steps, self._picture = report, batch, steps, picture
        self._shown = 0
        self._last: tuple[float, float] | None = None

    def row(self, row: dict[str, float]) -> None:
        """A row of the history: the learning rate, the total, and every loss by its name."""
        step, now = row["step"], monotonic()
        values = {f"train/{name}": value for name, value in row.items() if name != "step"}
        if self._last:
            before, then = self._last
            values["train/images_per_second"] = (step - before) * self._batch / max(now - then, 1e-9)
        self._last = step, now
        if torch.cuda.is_available():
            values["memory/gpu_peak_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
        self._report.metrics(values, int(step))

    def validated(self, row: dict[str, float], network: Network) -> None:
        """Scores on the validation images, and the network that reached them."""
        step = int(row["step"])
        self._report.metrics({f"validation/{name}": row[name] for name in row if name != "step"}, step)
        due = step * PICTURES // self._steps
        if self._picture and due > self._shown:
            self._shown = due
            self._report.file(f"samples/step_{step:07d}.png", partial(self._picture, network))


class _Nobody:
    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Not wanted."""

    def file(self, name: str, make: Callable[[], bytes]) -> None:
        """Not wanted."""


UNWATCHED: Watch[Any] = Watch(_Nobody(), batch=0, steps=1)


def sample_on(store: Store, task: Task) -> Callable[[Backbone], bytes]:
    """Makes a PNG of the middle of the first validation image: the restored one with the clean one next to it."""

    def restored(network: Backbone) -> bytes:
        record = store.records("validation")[0]
        stored, clean = store.whole(record)
        random = np.random.default_rng(int(record.key))
        degraded = task.degrade_for_test(clean, random) if stored is None else stored
        height, width = (min(_SIDE, side) for side in degraded.shape[:2])
        top, left = (degraded.shape[0] - height) // 2, (degraded.shape[1] - width) // 2
        part = degraded[top : top + height, left : left + width]
        top, left, height, width = (task.scale * number for number in (top, left, height, width))
        content = BytesIO()
        both = np.hstack([network_restorer(network)(part), clean[top : top + height, left : left + width]])
        Image.fromarray(both).save(content, format="PNG")
        return content.getvalue()

    return restored
