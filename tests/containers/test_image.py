"""What the image of all stages promises to a cluster."""

import hashlib
import importlib.metadata
import json
import re
import subprocess
import tomllib
from importlib.util import find_spec

import pytest
import yaml

from tests.containers.images import PROJECT, run_in

pytestmark = pytest.mark.containers

LOCK = PROJECT / "requirements.lock"
# What a stage's container reads; .dockerignore has to keep out the rest.
SOURCES = (
    *("components", "pipeline", "conf", ".dvc/config", ".dvcignore", "dvc.yaml", "dvc.lock", "params.yaml"),
    *("pyproject.toml", "requirements.lock", "LICENSE"),
)
QUESTIONS = {
    "user": "id -u",
    "python": "command -v python",
    "version": "python -c 'import sys; print(*sys.version_info[:2], sep=\".\")'",
    "tools": "for tool in gcc g++ cc c++ make ld as strip cmake pip pip3 uv curl; do command -v $tool; done",
    "pip": "python -c 'import pip' 2>&1 | tail -1",
    "caches": "ls -d /root/.cache /tmp/* /var/lib/apt/lists/* /var/cache/apt/* 2>/dev/null",
    "writable": "find / -xdev -not -type l -not -path '/proc/*' -not -path '/dev/*' -writable 2>/dev/null",
    "setup": "git --version; ls /usr/bin/sh; pwd; echo $PYTHONPATH $DVC_NO_ANALYTICS",
    "certificates": "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt",
    "home": 'touch "$HOME/a" "$TMPDIR/b" && rm "$HOME/a" "$TMPDIR/b" && echo yes',
    "strangers": "find /app /opt/venv '(' -not -user 0 -o -perm /022 ')' -not -type l",
    "files": "find . -type f -not -name '*.pyc'",
}
VERSIONS = """
import importlib.metadata as metadata, json, re
name = lambda distribution: re.sub("[-_.]+", "-", distribution.metadata["Name"]).lower()
print(json.dumps({name(found): found.version for found in metadata.distributions(path=["%s"])}))
"""

# One process for all, since most of the time goes into importing torch.
HELP = """
import runpy, sys
for step in sys.argv[1:]:
    sys.argv[1:] = [step, "--help"]
    try:
        runpy.run_module("components", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, step
"""


@pytest.fixture(scope="module")
def answers(engine, image):
    """What one container answers to all questions, since each container takes a third of a second."""
    script = "".join(f"echo '@@{name}'; {question}; " for name, question in QUESTIONS.items())
    _, text = run_in(engine, image, "sh", "-c", script)
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in text.split("@@")[1:]}


def test_runs_as_a_fixed_user_who_is_not_root(engine, image, answers):
    assert answers["user"] == "10001"
    # Kubernetes checks runAsNonRoot against a number, and can't against a name.
    assert engine.images.get(image).attrs["Config"]["User"] == "10001:0"


def test_nothing_but_the_temporary_folder_is_writable(engine, image, answers):
    """Also where the root file system is not mounted read-only."""
    assert answers["strangers"] == ""
    _, writable = run_in(engine, image, "sh", "-c", QUESTIONS["writable"], read_only=False, tmpfs={})
    allowed = {"/tmp", "/var/tmp", "/run/lock"}  # noqa: S108
    assert set(writable.split()) <= allowed
    code, text = run_in(engine, image, "touch", "/app/params.yaml", read_only=False)
    assert (code, "Permission denied" in text) == (1, True)


def test_home_and_temporary_folder_are_writable_on_a_read_only_file_system(answers):
    assert answers["home"] == "yes"


def test_a_cluster_may_choose_the_user_number(engine, image):
    command = (
        "python -c 'import getpass, torch; print(getpass.getuser())' && touch $HOME/a && git -C $HOME init -q a.git"
    )
    assert run_in(engine, image, "sh", "-c", command, user="12345:0") == (0, "app")


def test_no_compilers_package_tools_or_caches_are_left(answers):
    assert answers["tools"] == ""
    assert answers["pip"] == "ModuleNotFoundError: No module named 'pip'"
    assert answers["caches"] == ""


def test_has_what_pods_call(answers):
    assert answers["python"] == "/opt/venv/bin/python"
    assert answers["version"] == "3.11"
    assert re.fullmatch(r"git version [\d.]+\n/usr/bin/sh\n/app\n/app 1", answers["setup"])
    assert int(answers["certificates"]) > 100


def test_no_entry_point_stands_before_a_tasks_command(engine, image):
    config = engine.images.get(image).attrs["Config"]
    assert not config["Entrypoint"]
    assert config["Cmd"] == ["python", "-m", "pipeline", "--help"]


def test_labels_name_revision_licence_and_lock(engine, image):
    labels = engine.images.get(image).labels
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=PROJECT, text=True).strip()
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == head
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "org.opencontainers.image.source" in labels
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    assert labels["restoration-distillation.requirements-lock.sha256"] == lock


def test_holds_the_source_and_nothing_else(answers):
    folders = [PROJECT / name for name in SOURCES]
    files = [file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*"))]
    expected = {
        f"./{file.relative_to(PROJECT)}"
        for file in files
        if file.is_file() and not {"__pycache__"}.intersection(file.parts)
    }
    assert set(answers["files"].split("\n")) == expected


def test_packages_are_those_of_the_lock(engine, image):
    packages = "/opt/venv/lib/python3.11/site-packages"
    code, text = run_in(engine, image, "python", "-c", VERSIONS % packages)
    assert code == 0, text
    found = {name: version.partition("+")[0] for name, version in json.loads(text).items()}
    locked = dict(line.split("==") for line in LOCK.read_text().splitlines())
    assert found == {name: locked.get(name, "not in the lock") for name in found}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert {re.split("[=<>]", name)[0] for name in project["dependencies"]} <= set(found)
    # Needed only to compile, submit or test.
    assert not {"kfp", "docker", "pytest", "moto", "mypy", "ruff"} & set(found)


def test_every_stage_answers_without_network_on_a_read_only_file_system(engine, image):
    commands = [stage["cmd"] for stage in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].values()]
    steps = sorted({re.match(r"python -m components (\w+)", command)[1] for command in commands})
    code, text = run_in(engine, image, "python", "-c", HELP, *steps)
    assert code == 0, text
    assert re.findall(r"(?m)^usage: python -m components (\S+)", text) == steps


def test_every_library_of_the_main_dependencies_can_be_imported(engine, image):
    """Slim bases lack libraries that wheels may link to, such as libGL, and files were taken off some packages."""
    names = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {re.split("[=<>]", name)[0] for name in names}
    modules = {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if wanted & {re.sub("[-_.]+", "-", name).lower() for name in distributions} and find_spec(module)
    }
    assert {"torch", "cv2", "sklearn", "skimage", "dvc", "yaml"} <= modules
    also = ["torch.distributed.run", "torch.testing", "numpy.testing", "torch.multiprocessing", "dvc.repo", "s3fs"]
    lines = [f"import {module}" for module in sorted(modules) + also]
    code, text = run_in(engine, image, "python", "-W", "ignore", "-c", "\n".join(lines))
    assert code == 0, text


def test_calculates_and_shares_tensors_between_processes(engine, image):
    """torch's library has no debug symbols, and most of its programs are gone: a loader's workers need one."""
    program = """
import torch
from torch.utils.data import DataLoader
torch.multiprocessing.set_sharing_strategy("file_system")
network = torch.nn.Conv2d(1, 1, 3, bias=False)
torch.nn.init.ones_(network.weight)
batches = list(DataLoader(torch.ones(4, 1, 3, 3), batch_size=2, num_workers=2, multiprocessing_context="fork"))
output = network(torch.cat(batches))
output.sum().backward()
print(output.flatten().tolist(), network.weight.grad.sum().item())
"""
    code, text = run_in(engine, image, "python", "-c", program)
    assert (code, text) == (0, "[9.0, 9.0, 9.0, 9.0] 36.0")


def test_its_own_source_is_a_dvc_project_once_copied(engine, image):
    """What a task without a git repository does first."""
    command = """
cp -r /app "$HOME/work" && cd "$HOME/work" && printf '[core]\\n    no_scm = true\\n' > .dvc/config.local &&
python -c 'import dvc.repo; print(len(dvc.repo.Repo().index.stages))'
"""
    code, text = run_in(engine, image, "sh", "-c", command)
    assert code == 0, text
    assert int(text) > 10
