"""`meta.kfp` of a stage: typed, and every mistake named with its place."""

import pytest
from kubernetes.utils.quantity import parse_quantity

from pipeline.graph.graph import Output, read_graph
from pipeline.graph.resources import Resources, in_bytes, read_resources
from pipeline.messages import PipelineError
from tests.pipeline.toy import STAGES, make_project, stage


def read(**asked):
    return read_resources(stage("train@x", meta={"kfp": asked}))


def test_a_stage_without_meta_asks_for_a_small_cpu_pod() -> None:
    resources = read_resources(stage())
    assert resources == Resources()
    assert (resources.gpu, resources.nodes, resources.shm) == (0, 1, None)


def test_other_keys_of_meta_are_the_users_own() -> None:
    assert read_resources(stage(meta={"owner": "somebody"})) == Resources()


def test_numbers_may_stand_for_quantities() -> None:
    assert read(cpu=4, memory=2**30).cpu == "4"


@pytest.mark.parametrize("quantity", ["0", "512", "64Mi", "16Gi", "2G", "3Ki", "1Ti", "5M", "7K", "1E", "1Pi"])
def test_bytes_of_a_quantity_are_those_of_kubernetes(quantity) -> None:
    assert in_bytes(quantity) == parse_quantity(quantity.replace("K", "k") if "Ki" not in quantity else quantity)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gpus": 1}, "dvc.yaml: stage 'train@x': meta.kfp.gpus: unknown key. Did you mean 'gpu'? There are: accel"),
        ({"gpu": -1}, "stage 'train@x': meta.kfp.gpu: Input should be greater than or equal to 0"),
        ({"gpu": "two"}, "stage 'train@x': meta.kfp.gpu: Input should be a valid integer"),
        ({"memory": "4 GB"}, "stage 'train@x': meta.kfp.memory: String should match"),
        ({"cpu": "many"}, "stage 'train@x': meta.kfp.cpu: String should match"),
        ({"nodes": 0}, "stage 'train@x': meta.kfp.nodes: Input should be greater than 0"),
        ({"retries": {"counts": 1}}, "meta.kfp.retries.counts: unknown key. Did you mean 'count'? There are: backoff"),
        ({"tolerations": [{"keys": "x"}]}, "meta.kfp.tolerations.0.keys: unknown key. Did you mean 'key'?"),
        ({"tolerations": [{"key": "x", "effect": "Never"}]}, "meta.kfp.tolerations.0.effect: Input should be 'NoSched"),
        ({"labels": {"team": "a b"}}, "stage 'train@x': meta.kfp.labels.team: String should match"),
        ({"memory": "4Gi", "shm": "8Gi"}, "stage 'train@x': meta.kfp: shm 8Gi is more than the memory_limit 4Gi"),
        ({"memory": "4Gi", "memory_limit": "2Gi"}, "memory 4Gi is more than the memory_limit 2Gi"),
        ({"page": "elsewhere.html"}, "meta.kfp.page: 'elsewhere.html' is not among the stage's outputs"),
    ],
)
def test_a_mistake_is_named_with_its_stage_and_key(asked, said) -> None:
    with pytest.raises(PipelineError) as error:
        read(**asked)
    assert said in str(error.value)


def test_all_mistakes_of_a_stage_are_told_at_once() -> None:
    with pytest.raises(PipelineError) as error:
        read(gpus=1, cpu="x")
    assert len(str(error.value).splitlines()) == 2


def test_something_else_than_keys_is_refused() -> None:
    with pytest.raises(PipelineError, match="expected keys such as `gpu: 1`, got 1"):
        read_resources(stage(meta={"kfp": 1}))


def test_a_page_may_lie_in_a_folder_that_is_an_output() -> None:
    folder = Output("data/report", cached=True, persisted=False, metric=False)
    assert read_resources(stage(outputs=(folder,), meta={"kfp": {"page": "data/report/report.html"}})).page


def test_an_entry_of_a_matrix_stands_in_meta_as_everywhere(tmp_path) -> None:
    stages = {**STAGES, "double": {**STAGES["double"], "meta": {"kfp": {"page": "out/${item.name}"}}}}
    graph = {stage.name: stage for stage in read_graph(make_project(tmp_path / "p", stages))}
    assert read_resources(graph["double@b"]).page == "out/b"
