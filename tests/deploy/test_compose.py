"""deploy/compose, as far as it can be judged without an engine: shape, versions, and no password anywhere."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = pytest.mark.parametrize("name", COMPOSE["services"])
TEMPLATE = (FOLDER / "env.template").read_text(encoding="utf-8")
SECRETS = {"ADMIN_PASSWORD", "SESSION_KEY", "DATABASE_PASSWORD", "STORE_KEY", "STORE_SECRET"}


def locked(package):
    return re.search(rf"^{package}==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]


@SERVICES
class TestEveryService:
    def test_knows_only_keys_of_the_compose_specification(self, name):
        known = {"image", "build", "restart", "environment", "volumes", "configs", "networks", "healthcheck", "command"}
        assert COMPOSE["services"][name].keys() <= known | {"depends_on", "ports"}

    def test_has_an_image_with_a_version(self, name):
        tag = COMPOSE["services"][name]["image"].rpartition(":")[2]
        assert re.match(r"\d+\.\d+", tag)

    def test_names_volumes_networks_and_configs_that_there_are(self, name):
        service = COMPOSE["services"][name]
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= COMPOSE["volumes"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        assert {config["source"] for config in service.get("configs", ())} <= COMPOSE["configs"].keys()
        assert set(service.get("depends_on", ())) <= COMPOSE["services"].keys()

    def test_waits_for_nothing_that_never_gets_healthy(self, name):
        for other, condition in COMPOSE["services"][name].get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in COMPOSE["services"][other]


def test_mlflow_alone_can_be_reached_and_by_default_from_this_machine_only():
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["mlflow"]
    assert COMPOSE["services"]["mlflow"]["ports"] == ["${LISTEN:-127.0.0.1:5000}:5000"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert [name for name, service in COMPOSE["services"].items() if "outside" in service["networks"]] == ["mlflow"]


def test_every_secret_is_asked_for_and_none_has_a_value():
    for name in SECRETS | {"ADMIN_NAME"}:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", TEXT)
        assert uses
        assert set(uses) == {":?see env.template"}
        assert re.search(rf"^{name}=$", TEMPLATE, re.MULTILINE)
    asked = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert asked == set(re.findall(r"^#?([A-Z_]+)=", TEMPLATE, re.MULTILINE))


def test_the_filled_in_file_is_ignored_by_git():
    ignored = subprocess.run(["git", "check-ignore", "-q", FOLDER / ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_versions_are_those_of_the_lock():
    text = (FOLDER / "Dockerfile").read_text()
    assert f'"mlflow[auth]=={locked("mlflow")}"' in text
    assert f"psycopg2-binary=={locked('psycopg2-binary')} boto3=={locked('boto3')}" in text
    assert COMPOSE["services"]["mlflow"]["image"].endswith(f":{locked('mlflow')}")


def test_the_server_asks_who_one_is():
    script = (FOLDER / "start.sh").read_text()
    assert "--app-name basic-auth" in script
    assert subprocess.run(["sh", "-n", FOLDER / "start.sh"], check=False).returncode == 0
