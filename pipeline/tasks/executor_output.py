"""What a task tells Kubeflow: its artifacts, and its scores as the metadata of the Metrics artifact."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.messages import PipelineError

_METRICS = "system.Metrics"


def write_executor_output(executor_input: str, metrics: Mapping[str, float]) -> None:
    """Write the file that Kubeflow reads once the container has ended.

    Without it, `kfp.local` loses every artifact of the task, and a cluster shows no metrics.

    Args:
        executor_input: what Kubeflow puts in place of `{{$}}`; '' writes nothing.
        metrics: numbers by name.

    Raises:
        PipelineError: the executor input is not what Kubeflow gives.
    """
    if not executor_input:
        return
    try:
        outputs = json.loads(executor_input)["outputs"]
        path = Path(outputs["outputFile"])
        artifacts = {name: kept["artifacts"][0] for name, kept in outputs.get("artifacts", {}).items()}
    except (ValueError, KeyError, IndexError, TypeError):
        raise PipelineError("--executor-input: not what Kubeflow puts in place of '{{$}}'.") from None
    told = {}
    for name, artifact in artifacts.items():
        is_metrics = artifact.get("type", {}).get("schemaTitle") == _METRICS
        kept = {"name": artifact.get("name", name), "uri": artifact["uri"]}
        told[name] = {"artifacts": [{**kept, "metadata": dict(metrics) if is_metrics else {}}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"artifacts": told}), encoding="utf-8")
