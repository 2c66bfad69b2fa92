"""A graph that can't run on different machines is refused, with the stage and the reason."""

import pytest

from pipeline.graph.graph import Output, read_graph
from pipeline.graph.rules import read_sound_graph, refuse
from pipeline.messages import PipelineError
from tests.pipeline.toy import ROOT, STAGES, make_project, pipeline_command, stage, write_project


def test_the_projects_own_graph_is_sound() -> None:
    refuse(read_graph(ROOT))


def changed(name, **keys):
    return {**STAGES, name: {key: value for key, value in {**STAGES[name], **keys}.items() if value is not None}}


UNSOUND = [
    ("sum", {"metrics": [{"out/sum.json": {"cache": False}}]}, "output out/sum.json has `cache: false`"),
    ("sum", {"metrics": [{"out/sum.json": {"persist": True}}]}, "output out/sum.json has `persist: true`"),
    ("sum", {"always_changed": True}, "`always_changed` runs it again in every run"),
    ("sum", {"frozen": True}, "`frozen` stages never run"),
    ("source", {"outs": ["out/source", "../elsewhere"]}, "output ../elsewhere lies outside the project"),
    ("source", {"outs": ["out/source", "/elsewhere"]}, "output /elsewhere lies outside the project"),
    ("source", {"outs": ["out/source", {"s3://bucket/x": {"cache": False}}]}, "s3://bucket/x lies outside"),
    ("source", {"params": None}, "has neither deps nor params"),
    ("source", {"meta": {"kfp": {"gpus": 1}}}, "meta.kfp.gpus: unknown key"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("unsound") / "project")


@pytest.mark.parametrize(("name", "keys", "reason"), UNSOUND, ids=[reason for _, _, reason in UNSOUND])
def test_what_breaks_a_cluster_is_refused(project, name, keys, reason) -> None:
    write_project(project, changed(name, **keys))
    with pytest.raises(PipelineError) as error:
        read_sound_graph(project)
    assert f"dvc.yaml: stage '{name}': " in str(error.value)
    assert reason in str(error.value)


def test_compile_refuses_before_it_writes_anything(tmp_path) -> None:
    project = make_project(tmp_path / "project", changed("sum", frozen=True))
    result = pipeline_command("compile", folder=project, code=2)
    assert result.stderr.startswith("error: dvc.yaml: stage 'sum': `frozen`")
    assert not (project / "pipeline").exists()


def test_all_reasons_are_told_at_once() -> None:
    uncached = Output("out", cached=False, persisted=True, metric=False)
    with pytest.raises(PipelineError) as error:
        refuse([stage("one", outputs=(uncached,)), stage("two", frozen=True), stage("three")])
    assert [line.split("'")[1] for line in str(error.value).splitlines()] == ["one", "two"]


def test_an_empty_graph_is_refused() -> None:
    with pytest.raises(PipelineError, match="there is no stage"):
        refuse([])


def test_a_stage_of_another_dvc_yaml_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"sub/dvc\.yaml: stage 'step': lies in a dvc.yaml of a folder"):
        refuse([stage(file="sub/dvc.yaml")])


def test_data_that_was_added_to_dvc_is_no_stage(tmp_path) -> None:
    project = make_project(tmp_path / "project")
    (project / "images.dvc").write_text("outs:\n- path: images\n  md5: d41d8cd98f00b204e9800998ecf8427e\n")
    write_project(project, changed("source", deps=["images"]))
    graph = read_sound_graph(project)
    assert graph[0].upstream == ()
    assert len(graph) == 4
