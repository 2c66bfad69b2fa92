"""Every variable that the documents name is read: by this project, by its deployment, or by a library."""

import os
import re
from pathlib import Path

import boto3
import pytest
from mlflow import environment_variables

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *("README.md", "deploy/kubernetes/README.md", "deploy/kubernetes/secrets.template.yaml"),
    *("deploy/compose/README.md", "deploy/compose/env.template"),
)
_NAME = re.compile(r"(?<![\w/.-])\$?\{?((?!RCAN|SAN)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b")  # RCAN_BIX4.pt is a file
_PASSES_ON = "pods.py"  # does not read what it passes on to a pod


def named():
    return sorted({name for file in DOCUMENTS for name in _NAME.findall((ROOT / file).read_text())})


def read_by_this_project():
    """All texts that can read a variable: code, params, and the deployment's scripts."""
    files = [path for folder in ("components", "pipeline", "conf", "deploy") for path in (ROOT / folder).rglob("*.*")]
    return "\n".join(
        path.read_text()
        for path in files
        if path.suffix in {".py", ".sh", ".yaml"} and path.name != _PASSES_ON and "kubernetes" not in path.parts
    )


def test_each_is_read():
    code = read_by_this_project()
    unread = [
        name
        for name in named()
        if not name.startswith("AWS_") and not hasattr(environment_variables, name)
        if not re.search(rf"[\"'${{]{name}\b", code)
    ]
    assert len(named()) > 25
    assert unread == []


@pytest.fixture
def client(monkeypatch):
    """boto3's client of S3 where each variable of AWS that the documents name has its own value."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {name: f"http://{name.lower().replace('_', '-')}" for name in named() if name.startswith("AWS_")}
    for name, value in values.items():
        monkeypatch.setenv(name, value if name.endswith("_URL") else value.removeprefix("http://"))
    made = boto3.Session().client("s3")
    return {*made._request_signer._credentials.get_frozen_credentials(), made.meta.region_name, made.meta.endpoint_url}


def test_each_of_aws_reaches_the_client(client):
    values = {os.environ[name] for name in named() if name.startswith("AWS_")}
    assert len(values) >= 4
    assert values - client == set()
