"""Seconds and peak memory of each stage of the default run: `python -m benchmarks.run_stages`.

Runs every stage again, one after the other, in the order of the graph; it writes what `dvc repro` writes.
"""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from pipeline.graph.graph import Stage, in_order, read_graph


def measure(stage: Stage) -> tuple[float, float]:
    """Wall seconds and the largest resident memory (MB) of one of its processes."""
    began = perf_counter()
    process = subprocess.Popen(["dvc", "repro", "--single-item", "--force", stage.name], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(code)
    return perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    """Print a Markdown table."""
    total = 0.0
    print("| stage | seconds | peak memory, MB |\n|---|---:|---:|")
    for stage in in_order(read_graph(Path())):
        seconds, memory = measure(stage)
        total += seconds
        print(f"| {stage.name} | {seconds:.1f} | {memory:.0f} |", flush=True)
    print(f"| together | {total:.1f} | |")


if __name__ == "__main__":
    main()
