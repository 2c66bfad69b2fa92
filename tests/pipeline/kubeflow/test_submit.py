"""Submitting a run: what reaches Kubeflow's API over HTTP, and what a user is told when it does not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from urllib3.util import Retry

from pipeline import patience
from pipeline.__main__ import main
from pipeline.graph.graph import read_graph
from pipeline.kubeflow import cluster
from pipeline.kubeflow.compile import compiled
from tests.pipeline.kubeflow.kubeflow_server import KubeflowServer
from tests.pipeline.toy import PARAMS, STAGES, make_project, pipeline_command, write_project
from tests.planted import REPOSITORIES, SECRET, is_in

TOKEN = "planted-token-8ed2"
IMAGE = "registry.local/image:1"


def git(folder, *words):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("submit") / "project")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "one")
    return project


@pytest.fixture
def server():
    with KubeflowServer() as running:
        yield running


@pytest.fixture
def submit(committed, server, monkeypatch, capsys):
    """`submit(*flags, code, **environment)` in the toy project; returns what was printed."""
    monkeypatch.chdir(committed)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    for name in [name for name in os.environ if name.startswith("KFP_")]:
        monkeypatch.delenv(name)

    def run(*flags, code=0, **environment):
        for name, value in {"KFP_HOST": server.host, **environment}.items():
            monkeypatch.setenv(name, value)
        ended = main(["submit", "--name", "first", "--image", IMAGE, *flags])
        printed = capsys.readouterr()
        assert ended == code, printed.out + printed.err
        assert TOKEN not in printed.out + printed.err
        return printed.out + printed.err

    return run


class TestRun:
    def test_is_posted_with_both_documents_and_its_parameters(self, server, submit, committed) -> None:
        said = submit("--set", "factor=3")
        assert said == f"run: run-0\n{server.host}/#/runs/details/run-0\n"
        [posted] = server.runs
        pipeline, platform = yaml.safe_load_all(compiled(read_graph(committed), IMAGE))
        assert posted["pipeline_spec"] == {"pipeline_spec": pipeline, "platform_spec": platform}
        assert posted["display_name"] == "first"
        assert posted["runtime_config"]["parameters"] == {
            "revision": "",
            "repository": "",
            "overrides": '{"factor":3}',
            "name": "first",
        }
        assert server.experiments[0]["display_name"] == "restoration-distillation"

    def test_has_the_stages_of_its_overrides(self, server, submit, committed) -> None:
        submit("--set", "names=[a,c]")
        [posted] = server.runs
        tasks = posted["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
        assert tasks.keys() == {"source", "double-a", "double-c", "sum", "publish"}
        assert posted["runtime_config"]["parameters"]["overrides"] == '{"names":["a","c"]}'
        assert yaml.safe_load((committed / "params.yaml").read_text()) == PARAMS

    def test_carries_the_token_to_every_address_and_prints_it_nowhere(self, server, submit) -> None:
        server.token = TOKEN
        submit(KFP_TOKEN=TOKEN)
        assert {authorization for _, _, _, authorization, _ in server.requests} == {f"Bearer {TOKEN}"}
        assert len(server.requests) >= 4
        assert TOKEN not in json.dumps(server.runs)

    def test_lands_in_the_namespace_and_experiment(self, server, submit) -> None:
        server.namespaces = {"restoration"}
        submit("--experiment", "nightly", "--service-account", "runner", KFP_NAMESPACE="restoration")
        assert server.experiments[0]["namespace"] == "restoration"
        assert server.experiments[0]["display_name"] == "nightly"
        assert server.runs[0]["experiment_id"] == "experiment-0"
        assert server.runs[0]["service_account"] == "runner"

    def test_joins_an_experiment_that_there_is(self, server, submit) -> None:
        submit()
        submit()
        assert len(server.experiments) == 1
        assert [run["experiment_id"] for run in server.runs] == ["experiment-0", "experiment-0"]

    def test_flags_stand_above_the_environment(self, server, submit) -> None:
        server.namespaces = {"mine"}
        submit(
            "--host", f"{server.host}/", "--namespace", "mine", KFP_HOST="http://nowhere.invalid", KFP_NAMESPACE="other"
        )
        assert server.experiments[0]["namespace"] == "mine"

    def test_may_be_of_some_stages_only(self, server, submit) -> None:
        submit("--targets", "double@a")
        tasks = server.runs[0]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
        assert tasks.keys() == {"source", "double-a", "publish"}


class TestRevision:
    def test_is_compiled_and_sent_as_one_commit(self, server, submit, committed) -> None:
        """A branch may move while a run goes on, and the working directory may differ from it."""
        git(committed, "remote", "add", "origin", "https://git.example.org/project.git")
        write_project(committed, {**STAGES, "extra": {"cmd": "x", "params": ["factor"], "outs": ["y"]}}, PARAMS)
        try:
            submit("--revision", "HEAD")
        finally:
            write_project(committed)
            git(committed, "remote", "remove", "origin")
        parameters = server.runs[0]["runtime_config"]["parameters"]
        assert parameters["revision"] == git(committed, "rev-parse", "HEAD")
        assert parameters["repository"] == "https://git.example.org/project.git"
        assert "extra" not in server.runs[0]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--revision", "nosuch"], "--revision nosuch: no commit of this clone. Commit first, or `git fetch`."),
            (["--revision", "HEAD"], "this clone has no remote `origin`"),
            (["--repository", "https://example.org"], "--repository: say which --revision of it to run"),
        ],
    )
    def test_is_checked_before_anything_is_sent(self, server, submit, flags, said) -> None:
        assert said in submit(*flags, code=2)
        assert server.requests == []


class TestSecrets:
    """Kubeflow stores a run's parameters, and shows them to whoever sees the run."""

    @pytest.mark.parametrize("address", [*REPOSITORIES, f"user:{SECRET}@127.0.0.1:x.git"])
    @pytest.mark.parametrize("given", ["--repository", "origin"])
    def test_an_address_with_one_is_refused_with_the_way_to_give_it(self, given, address, server, submit, committed):
        flags = ["--revision", "HEAD"] + (["--repository", address] if given == "--repository" else [])
        git(committed, "remote", "add", "origin", address)
        try:
            printed = submit(*flags, code=2)
        finally:
            git(committed, "remote", "remove", "origin")
        assert printed.startswith("error: --repository: holds a password or token, which Kubeflow would store: ")
        assert "GIT_USERNAME and GIT_PASSWORD from the Secret restoration-distillation-git" in printed
        assert printed.count("\n") == 1
        assert not is_in(printed)
        assert server.requests == []

    @pytest.mark.parametrize("address", ["git@127.0.0.1:x.git", "ssh://git@127.0.0.1/x.git", "https://127.0.0.1/x.git"])
    def test_an_address_without_one_reaches_the_cluster_as_it_is(self, address, server, submit):
        submit("--revision", "HEAD", "--repository", address)
        assert server.runs[0]["runtime_config"]["parameters"]["repository"] == address

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--set", f"factor='https://user:{SECRET}@host/x'"], "--set: holds a password or token"),
            (["--set", f"factor='https://host/x?token={SECRET}'"], "--set: holds a password or token"),
            (["--image", f"https://user:{SECRET}@registry/image:1"], "--image: holds a password or token"),
            (["--image", f"user:{SECRET}@registry/image:1"], "--image: holds a password or token"),
            (["--set", "factor=value-of-a-variable"], "--set: holds a password or token"),
        ],
    )
    def test_other_parameters_with_one_are_refused(self, flags, said, server, submit):
        printed = submit(*flags, code=2, MY_TOKEN="value-of-a-variable")  # noqa: S106
        assert said in printed
        assert not is_in(printed)
        assert server.requests == []

    def test_nothing_that_is_sent_has_one_of_the_environment(self, server, submit):
        names = ("AWS_SECRET_ACCESS_KEY", "GIT_PASSWORD", "KFP_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SESSION_TOKEN")
        addresses = {"MLFLOW_TRACKING_URI": REPOSITORIES[0], "DVC_REMOTE_URL": f"ssh://git:{SECRET}@host/x"}
        printed = submit(**dict.fromkeys(names, SECRET), **addresses)
        assert not is_in(printed + json.dumps(server.runs))

    def test_the_address_of_the_cluster_is_printed_without_one(self, server, submit):
        printed = submit(KFP_HOST=server.host.replace("://", f"://user:{SECRET}@"))
        assert "run: run-0\nhttp://***@127.0.0.1:" in printed
        assert not is_in(printed + json.dumps(server.runs))


class TestMistakes:
    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--set", "facto=3"], "facto"),
            (["--set", "factor"], "KEY=VALUE"),
            (["--set", "+conf/preset=bsds500"], "write `--preset bsds500`"),
            (["--preset", "nosuch"], "conf/preset: no preset 'nosuch'."),
            (["--targets", "nosuch"], "no stage 'nosuch'"),
            (["--name", "a b"], "--name a b: only letters, digits and `._-`"),
        ],
    )
    def test_are_told_before_anything_is_sent(self, server, submit, flags, said) -> None:
        assert said in submit(*flags, code=2)
        assert server.requests == []

    def test_an_unsound_graph_is_refused_before_anything_is_sent(self, server, submit, committed) -> None:
        write_project(committed, {**STAGES, "sum": {**STAGES["sum"], "frozen": True}})
        try:
            assert "stage 'sum': `frozen`" in submit(code=2)
        finally:
            write_project(committed)
        assert server.requests == []

    def test_an_unset_host_is_told(self, submit) -> None:
        assert submit(code=2, KFP_HOST="").startswith("error: KFP_HOST is not set")

    def test_the_token_is_no_flag(self, committed) -> None:
        result = pipeline_command(
            "submit", "--name", "a", "--image", "b", "--token", "c", folder=committed, code=2, KFP_HOST="http://x"
        )
        assert "unrecognized arguments: --token" in result.stderr


class TestCluster:
    def test_that_is_away_is_told_at_once(self, submit) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            host = f"http://127.0.0.1:{unused.getsockname()[1]}"
            said = submit(code=2, KFP_HOST=host)
        assert said.startswith(f"error: {host} can't be reached: is KFP_HOST right?")
        assert "refused" in said

    @pytest.mark.parametrize("host", ["no-scheme", "http:", "ftp://x"])
    def test_with_a_wrong_address_is_told(self, submit, host) -> None:
        assert f"error: {host}" in submit(code=2, KFP_HOST=host)

    def test_whose_authorities_are_in_no_file_is_told(self, submit, tmp_path) -> None:
        for name in (tmp_path, tmp_path / "none"):
            assert f"SSL_CERT_FILE: {name}: no such file" in submit(code=2, SSL_CERT_FILE=str(name))

    def test_that_asks_for_a_token_is_told(self, server, submit) -> None:
        server.token = "another"
        assert "it asks for a token: set KFP_TOKEN. (HTTP 401" in submit(code=2)

    def test_that_does_not_accept_the_token_is_told_without_the_token(self, server, submit) -> None:
        server.token = "another"
        said = submit(code=2, KFP_TOKEN=TOKEN)
        assert "it does not accept the token in KFP_TOKEN. (HTTP 401: Unauthenticated: Bearer ***)" in said

    def test_whose_namespace_is_not_open_is_told(self, server, submit) -> None:
        server.namespaces = {"restoration"}
        said = submit(code=2, KFP_NAMESPACE="others", KFP_TOKEN=TOKEN)
        assert "namespace 'others' is not open to this user: see KFP_NAMESPACE and KFP_TOKEN. (HTTP 403" in said
        assert server.runs == []

    def test_with_users_needs_a_namespace(self, server, submit) -> None:
        server.namespaces = {"restoration"}
        assert "has several users: set KFP_NAMESPACE" in submit(code=2)

    def test_without_users_takes_no_namespace(self, submit) -> None:
        assert "has no users with namespaces: unset KFP_NAMESPACE" in submit(code=2, KFP_NAMESPACE="kubeflow")

    def test_behind_a_page_to_log_in_is_told(self, server, submit) -> None:
        server.page = True
        assert "this is not the API of Kubeflow Pipelines but a page" in submit(code=2)

    def test_under_another_path_is_told(self, server, submit) -> None:
        said = submit(code=2, KFP_HOST=f"{server.host}/wrong")
        assert "there is no API of Kubeflow Pipelines: check KFP_HOST, which often ends with /pipeline" in said


class TestWaiting:
    def test_tells_each_state_once_and_ends_with_the_run(self, server, submit) -> None:
        server.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
        assert submit("--wait").splitlines()[2:] == ["PENDING", "RUNNING", "SUCCEEDED"]

    def test_fails_with_the_names_of_the_tasks_that_failed(self, server, submit) -> None:
        server.states = ["RUNNING", "FAILED"]
        server.task_details = [
            {"display_name": "distill@x", "state": "FAILED", "error": {"code": 2, "message": "exit code 3"}},
            {"display_name": "fetch", "state": "SUCCEEDED"},
        ]
        said = submit("--wait", code=2)
        assert "error: run run-0: FAILED\nerror: task distill@x: exit code 3\n" in said
        assert "fetch" not in said

    def test_ends_with_a_run_that_somebody_cancelled(self, server, submit) -> None:
        server.states = ["RUNNING", "CANCELING", "CANCELED"]
        assert "run run-0: CANCELED" in submit("--wait", code=2)

    def test_goes_on_through_an_outage(self, server, submit, monkeypatch) -> None:
        monkeypatch.setattr(patience, "RETRY", Retry(total=None, backoff_factor=0.01))
        original = cluster.Cluster.wait

        def wait(self, identifier):
            server.broken = 3
            original(self, identifier)

        monkeypatch.setattr(cluster.Cluster, "wait", wait)
        assert "SUCCEEDED" in submit("--wait")

    def test_ends_when_the_outage_does_not(self, server, submit, monkeypatch) -> None:
        monkeypatch.setattr(cluster, "OUTAGE_SECONDS", 0.2)
        original = cluster.Cluster.wait

        def wait(self, identifier):
            server.broken = 100
            original(self, identifier)

        monkeypatch.setattr(cluster.Cluster, "wait", wait)
        assert "HTTP 503" in submit("--wait", code=2)


def test_the_whole_command_prints_no_token_even_with_warnings(server, committed) -> None:
    server.token = "another"
    result = pipeline_command(
        *("submit", "--name", "a", "--image", "b"),
        folder=committed,
        code=2,
        KFP_HOST=server.host,
        KFP_TOKEN=TOKEN,
        PYTHONWARNINGS="default",
    )
    assert TOKEN not in result.stdout + result.stderr


def test_submit_imports_nothing_of_the_steps() -> None:
    names = ("torch", "mlflow", "components")
    code = f"import sys, pipeline.kubeflow.submit; print([name for name in {names} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
