"""dvc.yaml as a Kubeflow pipeline: the same graph, every pod as its stage asks, and the same bytes each time."""

import json
import os
import subprocess
import sys

import networkx as nx
import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.graph.graph import ancestors, direct_upstream, read_graph, select
from pipeline.kubeflow.compile import COMPILED, IMAGE, compiled
from pipeline.messages import PipelineError
from tests.pipeline.toy import PARAMS, ROOT, STAGES, make_project, pipeline_command, stage, write_project

GRAPH = read_graph(ROOT)
EVERYTHING = nx.DiGraph([(above, stage.name) for stage in GRAPH for above in stage.upstream])


class Compiled:
    """Both documents of a compiled pipeline, by the tasks' display names."""

    def __init__(self, text):
        self.text = text
        self.pipeline, self.platform = yaml.safe_load_all(text)
        self.tasks = {task["taskInfo"]["name"]: task for task in self.pipeline["root"]["dag"]["tasks"].values()}
        self.names = {key: task["taskInfo"]["name"] for key, task in self.pipeline["root"]["dag"]["tasks"].items()}

    def label(self, name):
        component = self.pipeline["components"][self.tasks[name]["componentRef"]["name"]]
        return component["executorLabel"]

    def container(self, name):
        return self.pipeline["deploymentSpec"]["executors"][self.label(name)]["container"]

    def pod(self, name):
        return self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][self.label(name)]

    def environment(self, name):
        return {entry["name"]: entry["value"] for entry in self.container(name)["env"]}

    def upstream(self, name):
        return {self.names[key] for key in self.tasks[name].get("dependentTasks", [])}

    def outputs(self, name):
        component = self.pipeline["components"][self.tasks[name]["componentRef"]["name"]]
        return {
            key: value["artifactType"]["schemaTitle"]
            for key, value in component["outputDefinitions"]["artifacts"].items()
        }

    def edges(self):
        return {(above, name) for name in self.tasks for above in self.upstream(name)}


@pytest.fixture(scope="module")
def whole():
    return Compiled(compiled(GRAPH))


def one(**asked):
    """The compiled pipeline of a single stage that asks for something."""
    return Compiled(compiled([stage("train@x", meta={"kfp": asked})]))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("toy") / "project")


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """What `python -m pipeline compile` writes for this project."""
    path = tmp_path_factory.mktemp("compiled") / "kubeflow.yaml"
    pipeline_command("compile", "--output", path, PYTHONHASHSEED="1")
    return path


class TestFile:
    def test_is_what_any_process_makes_of_dvc_yaml(self, whole, file) -> None:
        assert file.read_text(encoding="utf-8") == whole.text

    def test_is_kept_neither_in_git_nor_in_the_image(self) -> None:
        assert f"/{COMPILED}" in (ROOT / ".gitignore").read_text().splitlines()
        assert str(COMPILED) in (ROOT / ".dockerignore").read_text().splitlines()

    def test_lies_where_the_help_says_if_no_other_place_is_named(self, project) -> None:
        write_project(project)
        assert pipeline_command("compile", folder=project).stdout == f"{COMPILED}: 4 stages\n"
        assert Compiled((project / COMPILED).read_text()).tasks.keys() >= {"source", "sum"}

    def test_is_a_valid_pipeline_to_the_last_field(self, file) -> None:
        """Backends parse strictly: a field that the specification does not know is an error there."""
        pipeline, platform = yaml.safe_load_all(file.read_text(encoding="utf-8"))
        spec = json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        json_format.ParseDict(pipeline["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
        pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for pod in pods.values():
            json_format.ParseDict(pod, kubernetes_pb2.KubernetesExecutorConfig())
        assert pods.keys() == pipeline["deploymentSpec"]["executors"].keys()
        assert spec.schema_version == "2.1.0"

    def test_is_loaded_by_kfp(self, file) -> None:
        component = components.load_component_from_file(str(file))
        assert component.pipeline_spec.pipeline_info.name == "restoration-distillation"
        assert "kubernetes" in component.platform_spec.platforms


class TestGraph:
    def test_has_a_task_for_each_stage_and_a_last_one(self, whole) -> None:
        assert set(whole.tasks) == {stage.name for stage in GRAPH} | {"publish"}

    def test_has_the_edges_that_people_would_draw(self, whole) -> None:
        """Those of dvc.yaml without any that others imply; networkx says which."""
        expected = set(nx.transitive_reduction(EVERYTHING).edges)
        last = {(name, "publish") for name in EVERYTHING if not EVERYTHING.out_degree(name)}
        assert whole.edges() == expected | last

    def test_hands_every_task_the_fragments_of_all_its_ancestors(self, whole) -> None:
        """A fragment holds a stage and its ancestors, so it is enough to follow the tasks that hand one on."""
        handed = nx.DiGraph()
        for name, task in whole.tasks.items():
            for artifact in task["inputs"].get("artifacts", {}).values():
                assert artifact["taskOutputArtifact"]["outputArtifactKey"] == "lock"
                handed.add_edge(whole.names[artifact["taskOutputArtifact"]["producerTask"]], name)
        for name in EVERYTHING:
            assert nx.ancestors(handed, name) == nx.ancestors(EVERYTHING, name) == ancestors(GRAPH, name)
        assert nx.ancestors(handed, "publish") == set(EVERYTHING)

    def test_has_a_new_stage_and_a_new_entry_as_soon_as_dvc_yaml_has_them(self, project) -> None:
        write_project(project)
        assert Compiled(compiled(read_graph(project))).edges() == {
            ("source", "double@a"),
            ("source", "double@b"),
            ("double@a", "sum"),
            ("double@b", "sum"),
            ("sum", "publish"),
        }
        extra = {"cmd": "true", "deps": ["out/sum.json"], "outs": ["out/extra"]}
        write_project(project, {**STAGES, "extra": extra}, {**PARAMS, "names": ["a", "b", "c"]})
        pipeline_command("compile", "--output", "compiled.yaml", folder=project)
        again = Compiled((project / "compiled.yaml").read_text())
        assert set(again.tasks) == {"source", "double@a", "double@b", "double@c", "sum", "extra", "publish"}
        assert {above for above, name in again.edges() if name == "publish"} == {"double@c", "extra"}

    def test_may_come_in_any_order_in_dvc_yaml(self, project) -> None:
        write_project(project, dict(reversed(STAGES.items())))
        backwards = Compiled(compiled(read_graph(project)))
        write_project(project)
        assert backwards.edges() == Compiled(compiled(read_graph(project))).edges()

    def test_targets_come_with_all_that_they_need(self) -> None:
        part = Compiled(compiled(GRAPH, targets=["check_teacher", "evaluate@sr-scratch-3"]))
        needed = nx.ancestors(EVERYTHING, "evaluate@sr-scratch-3") | {"check_teacher@sr", "evaluate@sr-scratch-3"}
        assert set(part.tasks) == needed | {"publish"}
        assert part.upstream("publish") == {"evaluate@sr-scratch-3"}

    def test_a_matrix_stage_as_a_target_means_all_of_its_entries(self) -> None:
        names = {stage.name for stage in select(GRAPH, ["distill"])}
        assert {stage.name for stage in GRAPH if stage.name.startswith("distill@")} <= names

    def test_an_unknown_target_is_named(self) -> None:
        with pytest.raises(PipelineError, match=r"no stage 'reprot'\. Did you mean 'report'\? There are: fetch@sr"):
            select(GRAPH, ["reprot"])

    def test_an_edge_that_two_others_imply_is_not_drawn(self) -> None:
        chain = [stage("a"), stage("b", upstream=("a",)), stage("c", upstream=("a", "b"))]
        assert direct_upstream(chain, "c") == ("b",)


class TestTasks:
    def test_run_the_command_of_one_stage(self, whole) -> None:
        container = whole.container("distill@sr-logits-3")
        assert container["image"] == IMAGE
        assert container["command"] == ["python", "-m", "pipeline", "task", "--stage", "distill@sr-logits-3"]
        assert container["args"] == [
            *("--revision", "{{$.inputs.parameters['revision']}}"),
            *("--repository", "{{$.inputs.parameters['repository']}}"),
            *("--overrides", "{{$.inputs.parameters['overrides']}}"),
            *("--upstream", "{{$.inputs.artifacts['lock0'].path}}"),
            *("--lock-output", "{{$.outputs.artifacts['lock'].path}}"),
            *("--executor-input", "{{$}}"),
        ]

    def test_hand_on_scores_and_the_page(self, whole) -> None:
        assert whole.outputs("distill@sr-logits-3") == {"lock": "system.Artifact"}
        assert whole.outputs("evaluate@sr-logits-3") == {"lock": "system.Artifact", "metrics": "system.Metrics"}
        assert whole.outputs("report@sr") == {"lock": "system.Artifact", "page": "system.HTML"}
        assert "{{$.outputs.artifacts['page'].path}}" in whole.container("report@sr")["args"]
        assert "{{$.outputs.artifacts['metrics'].path}}" in whole.container("check_teacher@sr")["args"]

    def test_end_with_the_one_that_publishes(self, whole) -> None:
        container = whole.container("publish")
        assert container["command"] == ["python", "-m", "pipeline", "publish"]
        assert container["args"][6:8] == ["--name", "{{$.inputs.parameters['name']}}"]

    def test_take_what_the_run_decides(self, whole) -> None:
        inputs = whole.pipeline["root"]["inputDefinitions"]["parameters"]
        defaults = {name: entry["defaultValue"] for name, entry in inputs.items()}
        assert defaults == {"revision": "", "repository": "", "overrides": "{}", "name": ""}

    def test_leave_caching_to_dvc(self, whole) -> None:
        assert all(task["cachingOptions"] == {} for task in whole.tasks.values())

    def test_need_no_optional_inputs_loops_or_conditions(self, whole) -> None:
        for task in whole.tasks.values():
            assert not task.keys() & {"triggerPolicy", "parameterIterator", "artifactIterator", "iteratorPolicy"}
        assert "isOptional: true" not in whole.text.partition("root:")[0]


class TestPods:
    def test_find_data_and_keys(self, whole) -> None:
        for name in whole.tasks:
            pod, environment = whole.pod(name), whole.environment(name)
            mount = pod["pvcMount"][0]
            assert (mount["constant"], mount["mountPath"]) == ("restoration-distillation-shared", "/mnt/shared")
            required, optional, git = pod["secretAsEnv"]
            assert (required["secretName"], required["optional"]) == ("restoration-distillation-storage", False)
            assert [entry["envVar"] for entry in required["keyToEnv"]] == ["DVC_REMOTE_URL"]
            assert optional["optional"]
            assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"} <= {
                entry["envVar"] for entry in optional["keyToEnv"]
            }
            assert git["optional"]
            assert environment == {
                "DVC_NO_ANALYTICS": "1",
                "DVC_CACHE_DIR": "/mnt/shared/dvc-cache",
                "CHECKPOINT_DIR": "/mnt/shared/checkpoints",
            }
            assert pod["imagePullPolicy"] == "IfNotPresent"

    def test_can_be_found_by_their_labels(self, whole) -> None:
        assert whole.pod("distill@sr-logits-3")["podMetadata"]["labels"] == {
            "app.kubernetes.io/part-of": "restoration-distillation",
            "app.kubernetes.io/component": "distill",
            "dvc-stage": "distill-sr-logits-3",
        }

    def test_train_on_gpu_nodes(self, whole) -> None:
        for name in whole.tasks:
            trains = name.startswith(("train_", "distill"))
            assert ("accelerator" in whole.container(name)["resources"]) == trains
            assert ("emptyDirMounts" in whole.pod(name)) == trains

    def test_get_what_the_stage_asks_for(self) -> None:
        pipeline = one(
            accelerator="amd.com/gpu",
            gpu=2,
            cpu="3500m",
            cpu_limit=8,
            memory="8Gi",
            memory_limit="32Gi",
            shm="16Gi",
            node_selector={"pool": "large", "zone": "a"},
            tolerations=[{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"}, {"key": "spot"}],
            timeout=600,
            retries={"count": 5, "backoff": 7, "factor": 3},
            labels={"team": "vision"},
            display_name="training",
        )
        assert pipeline.container("training")["resources"] == {
            "accelerator": {
                "count": "2",
                "resourceCount": "2",
                "resourceType": "amd.com/gpu",
                "type": "amd.com/gpu",
            },
            "cpuRequest": 3.5,
            "cpuLimit": 8.0,
            "memoryRequest": 8 * 2**30 / 1e9,
            "memoryLimit": 32 * 2**30 / 1e9,
            "resourceCpuRequest": "3500m",
            "resourceCpuLimit": "8",
            "resourceMemoryRequest": "8Gi",
            "resourceMemoryLimit": "32Gi",
        }
        pod = pipeline.pod("training")
        assert pod["emptyDirMounts"] == [
            {"mountPath": "/dev/shm", "volumeName": "shm", "medium": "Memory", "sizeLimit": "16Gi"}  # noqa: S108
        ]
        assert pod["nodeSelector"]["labels"] == {"pool": "large", "zone": "a"}
        assert pod["tolerations"] == [
            {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"},
            {"key": "spot", "operator": "Exists"},
        ]
        assert pod["activeDeadlineSeconds"] == "600"
        assert pod["podMetadata"]["labels"]["team"] == "vision"
        assert pipeline.tasks["training"]["retryPolicy"] == {
            "maxRetryCount": 5,
            "backoffDuration": "7s",
            "backoffFactor": 3.0,
            "backoffMaxDuration": "31536000s",
        }

    def test_are_tried_again_however_long_they_have_run(self, whole) -> None:
        """Kubeflow's `backoffMaxDuration` is no longest pause: it counts from the first start of a task."""
        for task in whole.tasks.values():
            assert int(task["retryPolicy"]["backoffMaxDuration"].rstrip("s")) > 30 * 24 * 3600

    def test_train_in_one_process_for_each_gpu(self) -> None:
        assert "STEP_LAUNCHER" not in one(gpu=1).environment("train@x")
        assert one(gpu=4).environment("train@x")["STEP_LAUNCHER"] == "torchrun --standalone --nproc-per-node=4"

    def test_know_the_images_digest_where_it_is_pinned_by_one(self) -> None:
        assert "IMAGE_DIGEST" not in one().environment("train@x")
        pinned = Compiled(compiled([stage("train@x")], "registry/image@sha256:1a2b"))
        assert pinned.environment("train@x")["IMAGE_DIGEST"] == "sha256:1a2b"

    def test_wait_on_a_cpu_for_training_on_several_nodes(self) -> None:
        pipeline = one(gpu=8, nodes=2, timeout=3600, cpu=32, memory="256Gi", shm="1Gi", node_selector={"pool": "large"})
        environment = pipeline.environment("train@x")
        words = environment["STEP_LAUNCHER"].split()
        assert words[:4] == ["python", "-m", "pipeline", "launch-train-job"]
        flags = dict(zip(words[4::2], words[5::2], strict=True))
        assert flags["--nodes"] == "2"
        assert flags["--gpus-per-node"] == "8"
        assert flags["--image"] == IMAGE
        assert flags["--cpu-per-node"] == "32"
        assert flags["--memory-per-node"] == "256Gi"
        assert pipeline.container("train@x")["resources"]["resourceMemoryLimit"] == "4Gi"
        assert pipeline.pod("train@x")["fieldPathAsEnv"] == [
            {"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"},
            {"name": "TRAIN_JOB_KEY", "fieldPath": "metadata.labels['pipeline/runid']"},
        ]
        assert environment["WORKSPACE_ROOT"].startswith("/mnt/shared/")
        assert "accelerator" not in pipeline.container("train@x")["resources"]
        assert "nodeSelector" not in pipeline.pod("train@x")


class TestBytes:
    def test_are_the_same_whatever_the_order_of_hashes(self, tmp_path, file) -> None:
        pipeline_command("compile", "--output", tmp_path / "again.yaml", PYTHONHASHSEED="2")
        assert (tmp_path / "again.yaml").read_bytes() == file.read_bytes()

    def test_hold_the_image_that_was_asked_for(self, tmp_path) -> None:
        pipeline_command("compile", "--output", tmp_path / "c.yaml", "--image", "registry.local:5000/r@sha256:ab")
        pipeline = Compiled((tmp_path / "c.yaml").read_text())
        assert {pipeline.container(name)["image"] for name in pipeline.tasks} == {"registry.local:5000/r@sha256:ab"}

    def test_hold_no_path_of_this_machine_and_no_value_of_a_secret(self, whole) -> None:
        assert str(ROOT) not in whole.text
        planted = {
            "AWS_SECRET_ACCESS_KEY": "planted-secret",
            "AWS_ACCESS_KEY_ID": "planted-key",
            "KFP_TOKEN": "planted",
        }
        assert "planted" not in pipeline_command("compile", "--output", "/dev/stdout", **planted).stdout


HEAVY = ("torch", "mlflow", "great_expectations", "pandas", "matplotlib", "sklearn", "components.run.params")


def imported_by(words):
    """Heavy modules that a command has imported when it has ended."""
    code = (
        "import json, sys\nfrom pipeline.__main__ import main\n"
        "try: main(json.loads(sys.argv[1]))\nexcept SystemExit: pass\n"
        f"print(*[name for name in {(*HEAVY, 'kfp', 'dvc', 'docker')} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.splitlines()[-1].split())


class TestCommands:
    def test_compile_imports_nothing_heavy(self, tmp_path) -> None:
        assert imported_by(["compile", "--output", str(tmp_path / "c.yaml")]) == {"kfp", "dvc"}

    def test_help_imports_nothing_at_all(self) -> None:
        assert imported_by(["--help"]) == set()

    @pytest.mark.parametrize("command", ["compile", "submit", "local"])
    def test_help_of_a_command_imports_nothing_heavy(self, command) -> None:
        assert not imported_by([command, "--help"]) & set(HEAVY)

    def test_help_names_every_command(self) -> None:
        said = pipeline_command("--help").stdout
        for command in ("check", "plan", "compile", "submit", "local", "publish", "task", "launch-train-job"):
            assert command in said

    def test_an_unknown_command_is_named(self) -> None:
        assert "invalid choice: 'complie'" in pipeline_command("complie", code=2).stderr

    def test_a_broken_dvc_yaml_is_one_line(self, tmp_path) -> None:
        project = make_project(tmp_path / "project")
        (project / "dvc.yaml").write_text("stages:\n  one: {cmdd: x}\n")
        result = pipeline_command("compile", folder=project, code=2)
        assert result.stderr.startswith("error: ")
        assert "dvc.yaml" in result.stderr
        assert "Traceback" not in result.stderr
