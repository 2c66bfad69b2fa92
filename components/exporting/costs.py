"""What a stored network costs to run, measured in a separate process, because a process's peak memory never falls."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Self

import psutil

MEGAPIXEL = 1_000_000


class MeasuredCost(NamedTuple):
    """Cost per megapixel of restored image; the whole image goes through the network at once.

    Attributes:
        seconds_per_megapixel: the fastest of several runs, after one that is not counted.
        megabytes_per_megapixel: peak resident memory, minus that of the process just after the network is loaded.
    """

    seconds_per_megapixel: float
    megabytes_per_megapixel: float


def cost_of(network: Path, threads: int, repeats: int = 3) -> MeasuredCost:
    """Cost of a network on the CPU with `threads` threads, measured by `python -m components.exporting.costs`."""
    command = [sys.executable, "-m", "components.exporting.costs", str(network), str(threads), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {network.name} failed:\n{done.stderr}")
    return MeasuredCost(**json.loads(done.stdout.splitlines()[-1]))


def measure(path: Path, threads: int, repeats: int) -> MeasuredCost:
    """Measure in this process, which must have done nothing else."""
    import torch  # noqa: PLC0415 - a caller that only starts processes needs no torch

    from components.exporting.opening import open_network  # noqa: PLC0415

    torch.set_num_threads(threads)
    network = open_network(path, threads=threads)
    side = round(MEGAPIXEL**0.5 / network.scale)
    network(torch.rand(1, 3, 8, 8))  # allocates what any size needs only once
    image = torch.rand(1, 3, side, side)
    megapixels = (side * network.scale) ** 2 / MEGAPIXEL
    before = _resident()
    seconds = []
    with Peak() as peak:
        for _ in range(1 + repeats):
            began = perf_counter()
            network(image)
            seconds.append(perf_counter() - began)
    return MeasuredCost(min(seconds[1:]) / megapixels, max(peak.megabytes - before, 0) / megapixels)


class Peak:
    """Samples this process's resident memory 500 times a second; the system's own peak can't be reset.

    Attributes:
        megabytes: the largest value seen inside the `with`.
    """

    def __init__(self) -> None:
        self.megabytes = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.megabytes = max(self.megabytes, _resident())


def _resident() -> float:
    """Resident memory of this process, in MB."""
    return psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    measured = measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(measured._asdict()) + "\n")
