"""Planted secrets: in files beside the source, in the address of the repository, and in pip's settings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.images import PROJECT, build_image, find_in_image

pytestmark = pytest.mark.containers

SECRET = "planted-" + "secret"  # in two parts, so that this file does not hold what is looked for
FILES = (
    *(".env", ".git-credentials", "id_rsa", "notes.txt", "data/raw/photo.png", ".cache/checkpoints/state"),
    *("tests/x.py", "deploy/kubeconfig", "deploy/secret.yaml", ".dvc/config.local", ".dvc/tmp/lock"),
    *(".dvc/cache/files/md5/00/1", "components/.env", "components/.env.local", "components/run/credentials.json"),
    *("conf/server.pem", "conf/client.key", "conf/.netrc", "pipeline/kubeconfig", "pipeline/my-secret.yaml"),
    "pipeline/__pycache__/x.pyc",
)


def git(folder, *words):
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    """A copy of all that could reach the build, with a repository of its own."""
    own = (".venv", ".git", ".cache", ".mlflow", ".hypothesis", "__pycache__", ".*_cache")
    unneeded = shutil.ignore_patterns(*own, "data", "tmp")
    copy = Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=unneeded))
    git(copy, "init", "--quiet")
    git(copy, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    git(copy, "remote", "add", "origin", f"https://user:{SECRET}@git.example.org/group/project.git")
    return copy


@pytest.fixture
def tag(engine, request):
    name = f"restoration-distillation:{request.node.name.replace('_', '-')}"
    yield name
    engine.images.remove(name, force=True)


def test_secrets_in_the_folder_stay_out_and_new_source_costs_one_small_layer(engine, image, project, tag):
    for name in FILES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"{SECRET} {name}")
    (project / "conf" / "wanted.yaml").write_text("planted-wanted")
    build_image(project, tag)
    assert find_in_image(tag, {SECRET.encode(), b"planted-wanted"}) == {b"planted-wanted"}

    built = engine.images.get(tag)
    assert built.labels["org.opencontainers.image.source"] == "https://git.example.org/group/project.git"
    layers, before = (found.attrs["RootFS"]["Layers"] for found in (built, engine.images.get(image)))
    assert sum(layer != old for layer, old in zip(layers, before, strict=True)) == 1
    assert abs(built.attrs["Size"] - engine.images.get(image).attrs["Size"]) < 1e6


@pytest.mark.slow
def test_pips_settings_and_certificates_reach_the_build_and_no_layer(project, tag, tmp_path):
    """With fewer packages, so that the step that installs them runs, in a shorter time."""
    text = (project / "pyproject.toml").read_text()
    text = re.sub(r'(?s)\ndependencies = \[.*?"torch==', '\ndependencies = [\n  "torch==', text)
    (project / "pyproject.toml").write_text(text)
    settings = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    usual = re.findall(r"[.:]cert='(.*)'", settings) or [os.environ.get("SSL_CERT_FILE", "")]
    certificates = tmp_path / "certificates.crt"
    certificates.write_text((Path(usual[-1]).read_text() if usual[-1] else "") + f"\n# {SECRET}\n")
    build_image(project, tag, PIP_CERT=str(certificates), PIP_TRUSTED_HOST=f"{SECRET}.example.org")
    assert find_in_image(tag, {SECRET.encode(), b"trusted-host = ", b"libtorch_cpu.so"}) == {b"libtorch_cpu.so"}
