import os

import pytest

# No step that a test runs is recorded, here or in a process that it starts, except those whose test asks for it.
os.environ["TRACKING"] = "off"


def pytest_collection_modifyitems(items):
    """Begin with the files that may take longest: of several workers, none should begin one of them at the end."""
    longest = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), mark.args[0] if mark else 0)
    items.sort(key=lambda item: -longest[item.path] if longest[item.path] > 600 else 0)  # 600 is the usual limit


@pytest.fixture
def one_thread():
    """Networks as small as the tests' are fastest with one thread, on a busy machine by far."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_accelerator(one_thread, monkeypatch):
    """Accelerate keeps device and precision for the whole process: each test gets its own, on the CPU."""
    import torch
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    torch.use_deterministic_algorithms(mode=False)
    torch.set_flush_denormal(False)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def engine():
    """A client of the Docker engine that DOCKER_HOST names, or of the one at the usual socket."""
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers ({error}): deploy/containers/start_engine.sh starts one")
    yield client
    client.close()
