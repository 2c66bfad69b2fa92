"""What the commands tell people."""

import os
import sqlite3
from functools import partial
from pathlib import Path

import boto3
import docker
import kfp_server_api
import kubernetes
import pytest
import requests
import urllib3
from dvc.repo import Repo

from pipeline.__main__ import main
from pipeline.graph import check
from pipeline.messages import did_you_mean, lines_of
from pipeline.working_copy.git import Git
from tests.pipeline.refusals import refusal
from tests.pipeline.toy import make_project
from tests.planted import REPOSITORIES, is_in


@pytest.mark.parametrize(("last", "rest"), [(True, ["last"]), (False, [])])
def test_lines_of_a_log_are_whole_however_they_come(last, rest) -> None:
    pieces = [b"on", b"e\ntwo\n\xc3", b"\xa4\nlast"]
    assert list(lines_of(pieces, last=last)) == ["one", "two", "ä", *rest]


def test_a_known_name_is_guessed_only_where_one_is_near() -> None:
    assert did_you_mean("reprot", ["fetch", "report"]) == " Did you mean 'report'?"
    assert did_you_mean("x", ["fetch", "report"]) == ""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("toy") / "project")


@pytest.fixture
def places(tmp_path):
    """Where nothing can be written, by why; whoever is root may write everywhere else."""
    (tmp_path / "file").write_text("as it was")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    return {
        "Is a directory": tmp_path / "folder",
        "File exists": tmp_path / "file" / "x",
        "Not a directory": tmp_path / "file" / "x" / "y",
        "File name too long": tmp_path / ("x" * 300),
        "Too many levels of symbolic links": tmp_path / "loop" / "x" / "y",
        "No space left on device": Path("/dev/full"),
        "No such file or directory": Path("/proc/x"),
    }


def test_a_file_that_can_not_be_written_is_one_line_that_names_it(toy, places, monkeypatch, capsys):
    monkeypatch.chdir(toy)
    for why, place in places.items():
        told = refusal(["compile", "--output", place], capsys)
        assert why in told
        assert "Check that the path is right" in told
    assert places["File exists"].parent.read_text() == "as it was"
    assert sorted(place.name for place in places["Is a directory"].parent.iterdir()) == ["file", "folder", "loop"]


def test_a_folder_that_can_not_be_written_is_one_line_that_names_it(toy, places, monkeypatch, capsys):
    monkeypatch.chdir(toy)
    for why in ("Not a directory", "File name too long", "Too many levels of symbolic links", "No such file or"):
        place = next(place for known, place in places.items() if known.startswith(why))
        monkeypatch.setenv("WORKSPACE_ROOT", str(place / "below"))
        for words in (["plan"], ["submit", "--name", "a", "--image", "b", "--host", "http://127.0.0.1:9"]):
            told = refusal(words, capsys)
            assert told.startswith("WORKSPACE_ROOT: ")
            assert why in told


def _of_requests():
    requests.get("http://127.0.0.1:9/x", timeout=1)


def _of_urllib3():
    urllib3.PoolManager(retries=False).request("GET", "http://127.0.0.1:9/x")


def _of_botocore():
    boto3.Session().client("ec2")


def _of_kubernetes():
    kubernetes.config.load_kube_config("nowhere")


def _of_docker():
    docker.DockerClient("tcp://127.0.0.1:9").ping()


def _of_kfp():
    kfp_server_api.HealthzServiceApi(
        kfp_server_api.ApiClient(kfp_server_api.Configuration(host="http://127.0.0.1:9"))
    ).healthz_service_get_healthz(_request_timeout=1)


def _of_sqlite():
    sqlite3.connect("/proc/x")


def _of_dvc():
    Repo("/proc")


def _of_git():
    Git(Path("nowhere")).run("status")


@pytest.mark.parametrize(
    ("act", "advice"),
    [
        (_of_requests, "Check the address, and the network."),
        (_of_urllib3, "Check the address, and the network."),
        (_of_botocore, "Check AWS_ENDPOINT_URL"),
        (_of_kubernetes, "Check the cluster that kubectl's settings name"),
        (_of_docker, "Check that the Docker engine of DOCKER_HOST runs."),
        (_of_kfp, "Check the address, and the network."),
        (_of_sqlite, "Another process may hold DVC's database"),
        (_of_dvc, "you are not inside of a DVC repository"),
        (_of_git, "not a git repository"),
        (Path("/proc/x").touch, "/proc/x: No such file or directory. Check that the path is right"),
        (partial(os.link, ".", "x"), ".: Operation not permitted. Check that the path is right"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_fault_of_files_or_of_a_library_is_one_line_that_says_what_to_do(act, advice, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "run", lambda _: act())
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert advice in refusal(["check"], capsys)


def test_a_fault_of_the_program_ends_with_its_traceback_but_no_secret(monkeypatch, capsys):
    def fault(_):
        raise ZeroDivisionError(REPOSITORIES)

    monkeypatch.setattr(check, "run", fault)
    try:
        code = main(["check"])
    except ZeroDivisionError:
        code = None
    assert code == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert "ZeroDivisionError" in told
    assert not is_in(told)
