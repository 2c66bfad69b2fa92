"""How tracking slows training: `python -m benchmarks.tracking_overhead`; about three minutes on two cores.

The default student learns a photograph by `logits`, in processes of their own that take turns, so that other load
affects all alike: without tracking, with MLflow's database, with a server that accepts and never answers.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import skimage.data
import yaml

from components.backbones import BackboneChoice, build_backbone
from components.backbones.weights import describe_backbone, save_network
from components.distill import distill
from components.images.store import Pair, StoreWriter
from components.run.files import sha256_of, write_json
from components.run.params import read_params
from components.run.step import run_step
from components.tasks.sr import SuperResolution
from components.telemetry import follow
from components.telemetry.recorder import observed
from components.training import loop, session

if TYPE_CHECKING:
    from components.images.datasets import Split

ROOT = Path(__file__).parents[1]
WORDS = "--task sr --student sr --method logits --seed 5 --lmdb lmdb --teacher teacher --check check --output output"
ARMS = ("off", "database", "hanging")


def prepare(folder: Path, steps: int) -> None:
    """Write what `distill` reads: two crops of a photograph, an untrained teacher, params with fewer steps."""
    values = read_params(ROOT / "params.yaml")
    values["students"]["sr"]["training"] |= {"steps": steps, "log_every": 50, "validate_every": steps // 4}
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    task = SuperResolution(values["tasks"]["sr"]["scale"])
    image = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    with StoreWriter(folder / "lmdb", task.scale, 0) as writer:
        parts: dict[Split, Any] = {"training": image[:256], "validation": image[256:384, :128]}
        for split, part in parts.items():
            pair = Pair(task.degrade(part, np.random.default_rng(0)), part)
            writer.add(split, "0" * 8, pair, [((0, 0), part.shape[:2])])
    choice = BackboneChoice(**values["teachers"]["sr"]["backbone"])
    network = build_backbone(choice, task.scale)
    save_network(folder / "teacher", network, describe_backbone(choice, task.scale))
    write_json(folder / "check", {"sha256": sha256_of(folder / "teacher")})


def measured() -> None:
    """Run the step in this process; print the seconds of its training, and of the rest of the step."""
    inside: list[tuple[float, float]] = []
    train = loop.train

    def timed(**named: Any) -> Any:
        began, used = perf_counter(), process_time()
        try:
            return train(**named)
        finally:
            inside.append((perf_counter() - began, process_time() - used))

    with mock.patch.object(session, "train", timed):
        began = perf_counter()
        run_step(distill, WORDS.split(), observe=observed)
    followers = [process.pid for process in follow._started]  # noqa: SLF001 -- to end them
    ((train_seconds, used),) = inside
    beside = perf_counter() - began - train_seconds
    print(json.dumps({"train": train_seconds, "used": used, "beside": beside, "followers": followers}))


def run(folder: Path, arm: str, address: str) -> tuple[float, float, float]:
    """Seconds of the training, of processor time in it, and of what surrounds it, in a process of its own."""
    modes = {"off": {"TRACKING": "off"}, "database": {}, "hanging": {"MLFLOW_TRACKING_URI": address}}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "TRACKING"))}
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.tracking_overhead", "--inside"],
        cwd=folder,
        env=clean | modes[arm] | {"PYTHONPATH": str(ROOT), "DVC_EXP_NAME": arm},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(ended.stdout.splitlines()[-1])
    for process in told["followers"] if arm == "hanging" else ():
        os.kill(process, signal.SIGKILL)
    return told["train"], told["used"], told["beside"]


def accept(listener: socket.socket, taken: list[socket.socket]) -> None:
    """Take every connection, and keep it without an answer."""
    with contextlib.suppress(OSError):
        while True:
            taken.append(listener.accept()[0])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.inside:
        measured()
        return
    found: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in ARMS}
    taken: list[socket.socket] = []
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, taken), daemon=True).start()
        folder = Path(place)
        prepare(folder, flags.steps)
        for _ in range(flags.repeats):
            for arm in ARMS:
                found[arm].append(run(folder, arm, f"http://127.0.0.1:{listener.getsockname()[1]}"))
    heads = ("tracking", "steps/s, median", "fastest", "a processor's second, fastest", "seconds beside it, median")
    print(f"| {' | '.join(heads)} |\n|---|---:|---:|---:|---:|")
    for arm, times in found.items():
        trained, used, beside = ([time[part] for time in times] for part in range(3))
        speeds = [flags.steps / seconds for seconds in (statistics.median(trained), min(trained), min(used))]
        print(f"| {arm} | {' | '.join(f'{number:.2f}' for number in (*speeds, statistics.median(beside)))} |")


if __name__ == "__main__":
    main()
