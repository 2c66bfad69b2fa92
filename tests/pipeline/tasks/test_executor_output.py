"""What Kubeflow is told of a task."""

import json

import pytest
from kfp.dsl import Metrics
from kfp.local import executor_output_utils

from pipeline.messages import PipelineError
from pipeline.tasks.executor_output import write_executor_output


def given(path, **kinds):
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": f"/root/{name}", "type": {"schemaTitle": kind}}]}
        for name, kind in kinds.items()
    }
    return json.dumps({"outputs": {"artifacts": artifacts, "outputFile": str(path)}})


def test_kubeflow_reads_every_artifact_and_the_metrics(tmp_path):
    path = tmp_path / "deep" / "executor_output.json"
    write_executor_output(given(path, lock="system.Artifact", scores=Metrics.schema_title), {"set5.psnr": 33.5})
    read = executor_output_utils.load_executor_output(str(path))
    assert dict(read.artifacts["scores"].artifacts[0].metadata) == {"set5.psnr": 33.5}
    assert read.artifacts["scores"].artifacts[0].uri == "/root/scores"
    assert dict(read.artifacts["lock"].artifacts[0].metadata) == {}


def test_without_kubeflow_nothing_is_written(tmp_path):
    write_executor_output("", {"a": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{{$}}", "[]", "{}", '{"outputs": {}}', '{"outputs": {"outputFile": 3}}'])
def test_what_kubeflow_never_gives_is_refused(text):
    with pytest.raises(PipelineError, match="--executor-input"):
        write_executor_output(text, {})
