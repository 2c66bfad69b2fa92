"""Time and peak memory of a training step of every method, side by side: `python -m benchmarks.method_costs`.

Each method runs in a process of its own, so that a peak is its own, with the networks of params.yaml, untrained: what a
step costs does not depend on the weights. The row `fakd, plain` holds FAKD's affinities whole, as its repository does.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import yaml

from components.run.params import read_params

PLAIN = "fakd, plain"
REFERENCE = "logits"


class Settings(TypedDict):
    """What is measured: the contents of params.yaml, the task's name, and the number of timed steps."""

    values: dict[str, Any]
    task: str
    repeats: int


def measure(name: str, settings: Settings) -> dict[str, float] | str:
    """Seconds of a step and the peak in MB, or why there is none."""
    command = [sys.executable, "-m", "benchmarks.method_step", name]
    run = subprocess.run(command, input=json.dumps(settings), capture_output=True, text=True, check=False)
    if run.returncode:
        return run.stderr.strip().splitlines()[-1]
    measured: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return measured


def print_table(names: list[str], settings: Settings) -> None:
    """Print a Markdown table; the reference is measured first."""
    print("| method | seconds a step | times logits | peak memory, MB | above logits, MB |\n|---|---:|---:|---:|---:|")
    reference: dict[str, float] = {}
    for name in [REFERENCE, *(name for name in names if name != REFERENCE)]:
        found = measure(name, settings)
        if isinstance(found, str):
            print(f"| {name} | {found} | | | |", flush=True)
            continue
        reference = reference or found
        ratio, above = found["seconds"] / reference["seconds"], found["memory"] - reference["memory"]
        print(f"| {name} | {found['seconds']:.3f} | {ratio:.2f} | {found['memory']:.0f} | {above:+.0f} |", flush=True)


def main() -> None:
    """Measure the methods of params.yaml, or those named, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--task", default="sr")
    parser.add_argument("--methods", nargs="+", help="all by default")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=48, help="degraded pixels")
    parser.add_argument("--student", type=yaml.safe_load, help="a backbone: '{name: rcan, channels: 64, blocks: 6}'")
    parser.add_argument("--teacher", type=yaml.safe_load, help="likewise")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="steps after a first one; the fastest counts")
    arguments = parser.parse_args()

    values = read_params(arguments.params)
    changes = {"batch": arguments.batch, "patch": arguments.patch, "precision": arguments.precision}
    values["students"][arguments.task]["training"] |= changes
    for plural, backbone in (("students", arguments.student), ("teachers", arguments.teacher)):
        if backbone:
            values[plural][arguments.task]["backbone"] = backbone
    print_table(
        arguments.methods or [*values["methods"], PLAIN],
        Settings(values=values, task=arguments.task, repeats=arguments.repeats),
    )


if __name__ == "__main__":
    main()
