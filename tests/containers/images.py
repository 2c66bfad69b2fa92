"""Build an image, run commands in it as a hardened pod would, and search all its layers."""

import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

PROJECT = Path(__file__).parents[2]

# What a cluster's strictest policy leaves: nothing writable but /tmp, no rights, no network.
HARDENED = {
    "read_only": True,
    "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108
    "network_mode": "none",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


def build_image(project: Path, tag: str, **environment: str) -> None:
    """Build the CPU image of `project` by its own script."""
    done = subprocess.run(
        ["sh", "deploy/containers/build_image.sh", tag, "--cpu"],
        cwd=project,
        env=os.environ | {"PYTHON": sys.executable} | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def run_in(engine, image, *command, **options):
    """Exit code and output of `command` in a new container."""
    container = engine.containers.create(image, list(command), **(HARDENED | options))
    try:
        container.start()
        code = container.wait()["StatusCode"]
        return code, container.logs().decode().strip()
    finally:
        container.remove(force=True)


def _unpacked(file):
    """The bytes of a layer, which some engines keep packed."""
    inflate = None
    for number, chunk in enumerate(iter(lambda: file.read(1 << 22), b"")):
        if number == 0 and chunk.startswith(b"\x1f\x8b"):
            inflate = zlib.decompressobj(wbits=31)
        yield inflate.decompress(chunk) if inflate else chunk


def find_in_image(tag, needles):
    """Those of `needles` (bytes) that are in a layer, as content or name of a file, or in the image's history."""
    found = set()
    longest = max(map(len, needles))
    with (
        subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE) as saving,
        tarfile.open(fileobj=saving.stdout, mode="r|") as saved,
    ):
        for member in filter(tarfile.TarInfo.isfile, saved):
            window = b""
            for chunk in _unpacked(saved.extractfile(member)):
                window = window[-longest:] + chunk
                found |= {needle for needle in needles if needle in window}
    assert saving.returncode == 0
    return found
