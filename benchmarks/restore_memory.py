"""Memory and time of restoring one large photograph: `python -m benchmarks.restore_memory [--megapixels 100]`.

A synthetic photograph goes through `python -m components restore` with the default student, untrained, which costs what
a trained one does. PNG is written piece by piece, JPEG from a whole picture in memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image

from benchmarks.untrained import Entries
from components.backbones import BackboneChoice, build_backbone
from components.backbones.weights import describe_backbone, save_network
from components.run.params import read_params

TASK = "sr"


def main() -> None:
    """Print a Markdown table: a row per format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=100, help="of the photograph (default: %(default)s)")
    parser.add_argument("--channels", type=int, help="of the student (default: as in params.yaml)")
    parser.add_argument("--formats", nargs="+", default=["png", "jpg"], help="to write (default: %(default)s)")
    flags = parser.parse_args()
    entries = Entries(read_params(), TASK)
    choice: BackboneChoice = entries.of("students", BackboneChoice, "backbone")
    if flags.channels:
        choice = BackboneChoice.model_validate({**choice.model_dump(), "channels": flags.channels})
    side = round((flags.megapixels * 1e6) ** 0.5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        student = folder / "student.safetensors"
        save_network(student, build_backbone(choice, entries.scale), describe_backbone(choice, entries.scale))
        noise = np.random.default_rng(0).integers(0, 256, (side // 50, side // 50, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(folder / "photograph.jpg")
        print(f"\n{side}x{side} pixels, x{entries.scale}, {choice.model_dump()}\n")
        print("| written as | seconds | peak memory, MB | file, MB |\n|---|---:|---:|---:|")
        for ending in flags.formats:
            seconds, memory = restored(folder, student, ending)
            size = (folder / ending / f"photograph.{ending}").stat().st_size / 1e6
            print(f"| {ending} | {seconds:.0f} | {memory:.0f} | {size:.0f} |", flush=True)


def restored(folder: Path, student: Path, ending: str) -> tuple[float, float]:
    """Seconds and the process's largest resident memory."""
    words = [sys.executable, "-m", "components", "restore", folder / "photograph.jpg", "--student", student]
    words += ["--out", folder / ending, "--format", ending]
    began = perf_counter()
    process = subprocess.Popen([str(word) for word in words])
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(code)
    return perf_counter() - began, usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
