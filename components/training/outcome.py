"""What a training leaves on disk: weights, the curves of its losses, and the curves of its validation scores."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.backbones.backbone import Backbone
from components.backbones.weights import save_network
from components.images.store import Store
from components.methods.method import Network
from components.run.files import write_text, written_whole
from components.tasks.evaluation import network_restorer
from components.tasks.task import Task
from components.training.loop import Row, Trained

HISTORY = "history.csv"
VALIDATION = "validation.csv"


def write_outcome(folder: Path, name: str, trained: Trained[Network], description: Mapping[str, Any]) -> None:
    """Write `<name>.safetensors`, `history.csv` and `validation.csv` into a folder, all or nothing."""
    with written_whole(folder) as partial:
        partial.mkdir()
        save_network(partial / f"{name}.safetensors", trained.network, description)
        write_rows(partial / HISTORY, trained.history)
        write_rows(partial / VALIDATION, trained.validation)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV, with the first row's keys as header and the shortest decimals that restore the floats."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: int(value) if key == "step" else value for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def validation_on(store: Store, task: Task) -> Callable[[Backbone], Row]:
    """Measure a network on the store's validation images by the task's protocol: mean PSNR and SSIM."""
    records = store.records("validation")

    def measure(network: Backbone) -> Row:
        restorer = network_restorer(network)
        scores = []
        for record in records:
            pair = store.whole(record)
            if pair.degraded is None:
                drawn = task.degrade_for_test(pair.clean, np.random.default_rng(int(record.key)))
                scores.append(task.measure(restorer(drawn), pair.clean))
            else:
                scores.append(task.measure(restorer(pair.degraded), pair.clean))
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}

    return measure
