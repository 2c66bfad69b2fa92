"""Fixtures for tests that run the small project: `pytest_plugins = ["tests.pipeline.fixtures"]`."""

import shutil

import pytest

from tests.pipeline.runnable import Project
from tests.pipeline.s3_server import Proxy, s3_server


@pytest.fixture(scope="session")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def proxy(s3):
    with Proxy(s3).running() as between:
        yield between


@pytest.fixture
def project(tmp_path):
    """A project that was never run, with a folder as its remote."""
    return Project(tmp_path / "project", tmp_path / "remote").make()


@pytest.fixture(scope="session")
def reproduced_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced")
    return Project(folder / "project", folder / "remote").make().reproduce().folder.parent


@pytest.fixture
def reproduced(tmp_path, reproduced_once):
    """A project that `dvc repro` has run and `dvc push` has pushed."""
    for name in ("project", "remote"):
        shutil.copytree(reproduced_once / name, tmp_path / name, symlinks=True)
    return Project(tmp_path / "project", tmp_path / "remote")
