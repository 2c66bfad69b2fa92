"""A small image on a real Docker engine, in which a shell script stands for each stage."""

import io
import tarfile
import uuid
from pathlib import Path

import pytest

BASE = "restoration-distillation-base:bookworm"
DOCKERFILE = f"""
FROM {BASE}
RUN ln -s python3.11 /usr/bin/python
COPY __main__.py /app/pipeline/__main__.py
WORKDIR /app
ENTRYPOINT ["/no/such/entrypoint"]
USER 10001:0
"""


@pytest.fixture(scope="session")
def image(engine):
    """Name of an image that runs as user 10001, as the project's own."""
    if not engine.images.list(BASE):
        pytest.skip(f"the engine has no image {BASE}: run deploy/containers/make_base_image.sh, then the tests again")
    files = {"Dockerfile": DOCKERFILE.encode(), "__main__.py": Path(__file__).with_name("stand_in.py").read_bytes()}
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    name = f"restoration-distillation-test:{uuid.uuid4().hex[:8]}"
    engine.images.build(fileobj=io.BytesIO(context.getvalue()), custom_context=True, tag=name, rm=True)
    yield name
    engine.images.remove(name, force=True)
