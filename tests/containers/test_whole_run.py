"""The project's own graph, small, on a real engine: a bare git repository, an S3 server, and a container a task.

What a cluster does, done here: the same compiled pipeline, the same image, the same hand-over by S3. Then the claims:
a preset with another weight runs its own student and nothing else, the lock is that of `dvc repro`, and the runs stand
beside local ones.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tests.containers.images import HARDENED, PROJECT
from tests.test_chain import edit, shrink

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]

BUCKET = "runs"
# Drawn anew, since this file is among those that are searched for them.
KEYS = {"AWS_ACCESS_KEY_ID": f"AKID{secrets.token_hex(8)}", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
SCORES = "data/scores/sr/dckd/3.json"
PRESET = "# @package _global_\nmethods:\n  dckd:\n    weights:\n      contrastive: 0.2\n"
BELOW_DCKD = ["distill_with_encoder@sr-dckd-3", "evaluate_with_encoder@sr-dckd-3", "report@sr"]


def call(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | environment,
        check=False,
        capture_output=True,
        text=True,
    )


def done(folder: Path, *command: str, **environment: str) -> str:
    result = call(folder, *command, **environment)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def storage():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1", **KEYS}
    boto3.client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket=BUCKET)
    yield settings | {"DVC_REMOTE_URL": f"s3://{BUCKET}/dvc"}
    server.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder, and the address under which git serves the repositories in it."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--reuseaddr", "--export-all", "--enable=receive-pack", "--listen=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen(["git", "daemon", *words, f"--base-path={folder}", str(folder)], start_new_session=True)
    url = f"git://127.0.0.1:{port}"
    while call(folder, "git", "ls-remote", f"{url}/none.git").stderr.count("Connection refused"):
        time.sleep(0.1)
    yield folder, url
    os.killpg(server.pid, signal.SIGTERM)
    server.wait()


def two_methods(params):
    """A student of each kind of stage above the report: each further one is two containers more."""
    params["run"]["methods"] |= {"teacher": ["logits"], "encoder": ["dckd"]}
    params["reports"]["few_methods"]["methods"] = ["logits", "dckd"]
    for report in params["reports"].values():
        report["reference"] = "logits"


class Cluster:
    """A clone from which runs are started, the bare repository they come from, and what they said."""

    def __init__(self, folder: Path, served: tuple[Path, str], image: str, storage: dict[str, str]) -> None:
        self.clone, self.image, self.storage = folder, image, storage
        self.bare, self.url = served[0] / "bare.git", f"{served[1]}/bare.git"
        files = done(PROJECT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        for name in filter(None, files):
            if (PROJECT / name).is_file() and name != "dvc.lock":
                (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
                (self.clone / name).write_bytes((PROJECT / name).read_bytes())
        edit(self.clone, shrink)
        edit(self.clone, two_methods)
        (self.clone / "conf/preset/more_contrast.yaml").write_text(PRESET)
        done(self.clone, sys.executable, "-m", "components", "list_dependencies")
        done(folder, "git", "init", "-q", "--bare", str(self.bare))
        for words in (["init", "-q"], ["add", "-A"], ["remote", "add", "origin", self.url]):
            done(self.clone, "git", *words)
        done(self.clone, "git", "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qam", "a small project")
        done(self.clone, "git", "push", "-q", "origin", "HEAD:refs/heads/main")
        self.said: list[str] = []

    def run(self, name: str, *flags: str) -> tuple[list[str], Path]:
        """Run the graph down to the report; the stages that ran, and the run's dvc.lock."""
        revision = done(self.clone, "git", "rev-parse", "HEAD").strip()
        said = done(
            self.clone,
            *(sys.executable, "-m", "pipeline", "local", "--image", self.image, "--network", "host", "--name", name),
            *("--revision", revision, "--repository", self.url),
            *("--targets", "report@sr", *flags),
            **self.storage,
        )
        self.said.append(said)
        (lock,) = re.findall(r"^dvc.lock of the run: (.*)$", said, re.MULTILINE)
        return re.findall(r"^(\S+) \| .*\1: runs: ", said, re.MULTILINE), Path(lock)


@pytest.fixture(scope="module")
def cluster(image, storage, served, tmp_path_factory):
    return Cluster(tmp_path_factory.mktemp("cluster"), served, image, storage)


@pytest.fixture(scope="module")
def first(cluster):
    return cluster.run("first")


@pytest.fixture(scope="module")
def weight(cluster, first):
    return cluster.run("weight", "--preset", "more_contrast")


def stages(lock: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(lock.read_text())["stages"]
    return found


def test_every_stage_above_the_report_runs_in_a_container_of_its_own(cluster, first):
    ran, lock = first
    assert ran[0] == "fetch@sr"
    assert ran[-1] == "report@sr"
    assert set(ran) == set(stages(lock))
    assert "evaluate_with_encoder@sr-dckd-3  photographs_test.psnr = " in cluster.said[0]
    page = Path(re.findall(r"^report@sr  page: (.*)$", cluster.said[0], re.MULTILINE)[0])
    assert "<html" in page.read_text(encoding="utf-8")


def test_the_lock_is_the_one_of_dvc_repro_in_the_same_image(cluster, first, engine, tmp_path):
    source = tmp_path / "source"
    done(tmp_path, "git", "clone", "-q", "-b", "main", cluster.url, str(source))
    done(source, "chmod", "-R", "a+rwX", ".")
    container = engine.containers.run(
        cluster.image,
        ["dvc", "repro", "report@sr"],
        detach=True,
        working_dir="/source",
        volumes={str(source): {"bind": "/source", "mode": "rw"}},
        environment={"PYTHONPATH": "/source", "GIT_CONFIG_COUNT": "1"}
        | {"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
        **HARDENED,
    )
    try:
        assert container.wait()["StatusCode"] == 0, container.logs().decode()[-4000:]
    finally:
        container.remove(force=True)
    # The order is that in which stages were run, here by dvc.yaml.
    assert stages(source / "dvc.lock") == stages(first[1])


def test_a_preset_runs_the_student_that_it_changes_and_the_report(first, weight):
    ran, lock = weight
    assert sorted(ran) == BELOW_DCKD
    changed = {name for name, entry in stages(lock).items() if entry != stages(first[1])[name]}
    assert changed == set(BELOW_DCKD)


@pytest.mark.usefixtures("first", "weight")
def test_the_runs_stand_beside_local_ones(cluster, tmp_path):
    """In a clone without any data: the experiments are listed, and their scores compared."""
    clone = tmp_path / "clone"
    done(tmp_path, "git", "clone", "-q", "-b", "main", cluster.url, str(clone))
    done(clone, "dvc", "remote", "add", "--local", "-d", "storage", cluster.storage["DVC_REMOTE_URL"])
    listed = done(clone, "dvc", "exp", "list", "origin")
    assert {"first", "weight"} <= set(re.findall(r"\[(\w+)\]", listed)) | set(listed.split())
    done(clone, "dvc", "exp", "pull", "--no-cache", "origin", "first", "weight")
    shown = done(clone, "dvc", "exp", "show", "--md", **cluster.storage)
    assert "first" in shown
    assert "weight" in shown
    compared = done(clone, "dvc", "metrics", "diff", "--md", "first", "weight", **cluster.storage)
    assert SCORES in compared
    assert "data/scores/sr/logits/3.json" not in compared


def test_no_secret_is_in_what_was_said_or_compiled_or_kept(cluster, first, image):
    kept = [path for path in (cluster.clone / ".cache/pipeline").rglob("*") if path.is_file()]
    assert kept
    for secret in (KEYS["AWS_SECRET_ACCESS_KEY"], KEYS["AWS_ACCESS_KEY_ID"]):
        assert all(secret not in said for said in cluster.said)
        assert all(secret.encode() not in path.read_bytes() for path in kept)
        logged = done(cluster.clone, "git", "--git-dir", str(cluster.bare), "log", "--all", "-p")
        assert secret not in logged
