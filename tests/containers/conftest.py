import pytest

from tests.containers.images import PROJECT, build_image


@pytest.fixture(scope="session")
def image(engine):
    """The tag of the working tree's image, built anew unless the engine's cache has it."""
    tag = "restoration-distillation:local"
    build_image(PROJECT, tag)
    return tag
