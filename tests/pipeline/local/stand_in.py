"""Stands for `python -m pipeline` inside of test images: runs a shell script for a stage instead of the stage.

The scripts come as the overrides of the run: `{"STAGE": "script", "publish": "script"}`.
"""

import argparse
import json
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("command")
for flag in ("stage", "revision", "repository", "overrides", "name", "lock-output", "metrics-output", "page-output"):
    parser.add_argument(f"--{flag}")
parser.add_argument("--upstream", action="append", default=[])
parser.add_argument("--executor-input", type=json.loads)
given = parser.parse_args()
name = given.stage or given.command

code = subprocess.call(["sh", "-c", json.loads(given.overrides).get(name, "true")])
if code == 99:
    sys.exit(0)  # a success that tells nothing of its outputs
if code:
    sys.exit(code)

locks = [pathlib.Path(path).read_text().split() for path in given.upstream]
pathlib.Path(given.lock_output).write_text("\n".join([*sorted({line for lock in locks for line in lock}), name]))
outputs = given.executor_input["outputs"]
artifacts = {key: value["artifacts"] for key, value in outputs.get("artifacts", {}).items()}
if "metrics" in artifacts:
    artifacts["metrics"][0]["metadata"] = {"score": 1.5}
if given.page_output:
    pathlib.Path(given.page_output).write_text("<html></html>")
told = {"artifacts": {key: {"artifacts": value} for key, value in artifacts.items()}}
pathlib.Path(outputs["outputFile"]).write_text(json.dumps(told))
