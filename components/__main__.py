"""`python -m components STEP`: run a step from the command line; only the module of the named step is imported."""

import argparse
import importlib
import os
import sys
import traceback

from components.dependencies.parent import end_with_dvc
from components.run.secrets import without_secrets

# What the step does.
STEPS = {
    "fetch": "bring datasets and checkpoints here, verified by their checksums",
    "validate": "check the images, and write the manifest of those to be used",
    "build_lmdb": "cut the images into aligned sub-images, and store them",
    "train_teacher": "train the teacher, or import published weights",
    "check_teacher": "measure whether the teacher reaches its expected score",
    "train_encoder": "train or import the encoder in whose features images are compared",
    "train_ensemble": "train the aggregator of several teachers' images",
    "train_privileged_teacher": "train the teacher that sees the clean image",
    "distill": "train one student by one method",
    "evaluate": "measure a student by its task's protocol",
    "export": "write a student as ONNX, in three precisions",
    "report": "make the page, its Markdown twin and the table",
    "restore": "restore your own pictures with a student (no stage)",
    "demo": "open a local page to try students on a picture (no stage)",
    "extract_weights": "take the tensors out of a pickled checkpoint (no stage)",
    "list_dependencies": "write the lists of dvc.yaml (no stage)",
}


def main() -> None:
    """Run one step with the rest of the command line."""
    lines = [f"  {name:26}{text}" for name, text in STEPS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m components",
        usage="%(prog)s STEP [FLAGS]",
        description="Run one step. The stages of dvc.yaml are such commands.",
        epilog="\n".join(["steps:", *lines, "", "`STEP --help` lists a step's flags."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("step", choices=STEPS, metavar="STEP", help="see below")
    step = parser.parse_args(sys.argv[1:2]).step
    # Read when torch loads its threads. By default they wait for each other in long busy loops, and a training with two
    # threads is 14 to 40 times slower as soon as another one runs beside it; short loops cost nothing when it runs
    # alone.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    end_with_dvc()
    try:
        importlib.import_module(f"components.{step}").main(sys.argv[2:])
    except Exception:  # noqa: BLE001 -- a fault of the program ends with its traceback, without secrets
        sys.exit(without_secrets(traceback.format_exc()))


if __name__ == "__main__":
    main()
