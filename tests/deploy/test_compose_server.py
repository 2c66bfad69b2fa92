"""A real server as a team runs it, with PostgreSQL and a store over HTTP: what steps recorded arrives there once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import psycopg2
import pytest
from pydantic import BaseModel

from components.telemetry.recorder import current, tracked
from tests.deploy import tracking_backend

ROOT = Path(__file__).parents[2]

PLANTED = (tracking_backend.WORD, tracking_backend.DATABASE_WORD)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Section(BaseModel):
    name: str = "sr"
    scale: int = 2


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with tracking_backend.backend(tmp_path_factory.mktemp("server")) as found:
        yield found


def record(folder, monkeypatch):
    """Two stages of one run of the pipeline, in journals."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRACKING", "journal")
    monkeypatch.setenv("DVC_EXP_NAME", "wider")
    (folder / "student.safetensors").write_bytes(b"weights")
    for stage in ("distill", "evaluate"):
        with tracked(stage, [], {"task": Section(), "output": folder / "out"}):
            current().metrics({"train/total": 0.5}, 10)
            if stage == "distill":
                current().file("samples/10.png", lambda: b"picture")
            else:
                current().model(Section(), folder / "student.safetensors", "Set5", {"psnr": 33.5})


def sync(folders, address, **variables):
    """Send what is in each of the folders, one after the other, as the command does."""
    lines = (
        "import os, sys",
        "from components.telemetry.__main__ import main",
        f"for folder in {list(map(str, folders))}:",
        "    os.environ['TRACKING_DIR'] = folder",
        "    try: print(main())",
        "    except SystemExit as stopped: print(stopped.code)",
    )
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=ROOT,
        env=os.environ | {"TRACKING": "on", "MLFLOW_TRACKING_URI": address} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert not any(word in ended.stdout + ended.stderr for word in PLANTED)
    return ended.stdout.splitlines(), ended.stderr


def test_what_steps_recorded_arrives_once(backend, tmp_path, monkeypatch):
    address, store, database = backend
    account = {"MLFLOW_TRACKING_USERNAME": tracking_backend.NAME, "MLFLOW_TRACKING_PASSWORD": tracking_backend.WORD}
    record(tmp_path, monkeypatch)
    journals = tmp_path / ".cache" / "tracking"
    shutil.copytree(journals, tmp_path / "copy")

    if tracking_backend.ACCOUNTS:
        told, why = sync([journals], address)
        assert told == ["2"]
        assert "denies access (HTTP 401): check MLFLOW_TRACKING_USERNAME" in why
    # Then again, with nothing left, and as by somebody who kept a copy.
    told, why = sync([journals, journals, tmp_path / "copy"], address, **account)
    expected = [f"{count} journals sent to {address}." for count in (2, 0, 2)]
    assert (told[::2], told[1::2]) == (expected, ["0"] * 3), why

    with (
        psycopg2.connect(
            host="127.0.0.1", port=database, user="mlflow", password=tracking_backend.DATABASE_WORD, dbname="mlflow"
        ) as connection,
        connection.cursor() as cursor,
    ):

        def ask(text):
            cursor.execute(text)
            return cursor.fetchall()

        names = ask("SELECT name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY name")
        assert names == [("distill", "FINISHED"), ("evaluate", "FINISHED"), ("wider", "FINISHED")]
        (parent,) = ask("SELECT run_uuid FROM runs WHERE name = 'wider'")
        nested = ask("SELECT value FROM tags WHERE key = 'mlflow.parentRunId'")
        assert nested == [parent, parent]
        assert ask("SELECT value, step FROM metrics WHERE key = 'train/total'") == [(0.5, 10), (0.5, 10)]
        assert ask("SELECT value FROM params WHERE key = 'task.scale'") == [("2",), ("2",)]
        # md5 of b"weights", by md5sum.
        source = ask("SELECT version, source FROM model_versions WHERE name = 'restoration-sr'")
        assert source == [(1, "dvc://cache/files/md5/63/f4f1e9b725370f459720575cd5f953")]
        assert ask("SELECT alias, version FROM registered_model_aliases") == [("champion", 1)]

    client = boto3.session.Session("planted-key", "planted-secret", region_name="x").client("s3", endpoint_url=store)
    (stored,) = client.list_objects_v2(Bucket="mlflow")["Contents"]
    assert stored["Key"].endswith("/artifacts/samples/10.png")
    assert client.get_object(Bucket="mlflow", Key=stored["Key"])["Body"].read() == b"picture"
