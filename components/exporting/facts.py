"""What an ONNX file says about itself: enough to run it and to know whose images trained it, without this project."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from components.images.datasets import Dataset, Source

LICENCE = "Apache-2.0"
"""Of this project, as in LICENSE and pyproject.toml."""


def describe(
    task: str, scale: int, backbone: Mapping[str, Any], student: str, training: Iterable[str]
) -> dict[str, str]:
    """The facts of one student, as ONNX's `metadata_props`.

    Args:
        task: what it restores.
        scale: output size over input size.
        backbone: its architecture, `{name: ..., ...}`.
        student: SHA-256 of the weights from which it was made. It identifies the revision of the code that trained
            them, whose dvc.lock has the same file, and so the bytes here depend on the weights alone.
        training: licences of the training images.
    """
    return {
        "task": task,
        "scale": str(scale),
        "backbone": json.dumps(dict(backbone), sort_keys=True),
        "student_sha256": student,
        "input": "degraded: float32, 1 3 height width, RGB (sRGB as stored), 0 to 1",
        "output": f"restored: float32, 1 3 height*{scale} width*{scale}, RGB, not clipped: clip to 0 to 1",
        "size": "any height and width; the graph itself pads to the size that the network needs",
        "licence": LICENCE,
        "training_images": "; ".join(training),
    }


def licences(names: Iterable[str], datasets: Mapping[str, Dataset], sources: Mapping[str, Source]) -> list[str]:
    """Licences of the sources of some datasets: `source: licence, licence`, each named once."""
    found = dict.fromkeys(datasets[name].source for name in names)
    return [
        f"{source}: {', '.join(sorted({file.licence or 'none stated' for file in sources[source].files}))}"
        for source in found
    ]
