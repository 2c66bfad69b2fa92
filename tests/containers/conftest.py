import docker
import pytest

from tests.containers.images import PROJECT, build_image


@pytest.fixture(scope="session")
def engine():
    """A client of the Docker engine that DOCKER_HOST names, else of the one behind the usual socket."""
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers at DOCKER_HOST or the default socket: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine):
    """The tag of the working tree's image, built anew unless the engine's cache has it."""
    tag = "restoration-distillation:local"
    build_image(PROJECT, tag)
    return tag
