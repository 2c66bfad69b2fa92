"""Time and memory per megapixel of student and teacher, in torch and as ONNX: `python -m benchmarks.export_speed`.

The networks of params.yaml run untrained, because their cost does not depend on their weights, on the CPU, on a whole
image; a megapixel is one of restored image. 8-bit integers are calibrated on noise, which costs the same.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.untrained import Entries
from components.backbones import BackboneChoice, build_backbone
from components.backbones.weights import describe_backbone, save_network
from components.exporting.costs import cost_of
from components.exporting.graph import to_bytes, to_onnx
from components.exporting.variants import halved, quantised
from components.run.params import read_params


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="sr", help="of params.yaml (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    flags = parser.parse_args()
    entries = Entries(read_params(), flags.task)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    print("| network | run as | file, KB | seconds a megapixel | MB a megapixel |\n|---|---|---:|---:|---:|")
    for name in ("students", "teachers"):
        choice: BackboneChoice = entries.of(name, BackboneChoice, "backbone")
        torch.manual_seed(0)
        network = build_backbone(choice, entries.scale).eval()
        graph = to_onnx(network, {"scale": str(entries.scale)})
        models = {"ONNX": graph, "ONNX, float16": halved(graph), "ONNX, int8": quantised(graph, [noise])}
        with tempfile.TemporaryDirectory() as folder:
            files = {"torch": Path(folder, "network.safetensors")}
            save_network(files["torch"], network, describe_backbone(choice, entries.scale))
            for way, model in models.items():
                files[way] = Path(folder, f"{way}.onnx")
                files[way].write_bytes(to_bytes(model))
            for way, path in files.items():
                cost, size = cost_of(path, flags.threads), path.stat().st_size / 1e3
                row = f"{cost.seconds_per_megapixel:.2f} | {cost.megabytes_per_megapixel:.0f}"
                print(f"| {name.removesuffix('s')} | {way} | {size:.0f} | {row} |", flush=True)


if __name__ == "__main__":
    main()
