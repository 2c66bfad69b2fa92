"""What the image's build is told of this machine's pip settings."""

import configparser
import os
import subprocess
import sys

import pytest

from tests.containers.images import PROJECT


@pytest.fixture
def settings_of(tmp_path):
    """Run the script with one file of settings and some variables: its pip.conf, the folder, and what it said."""

    def run(text, **variables):
        (tmp_path / "machine.conf").write_text(text)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        # pip reads the machine's own files too, unless told otherwise; the one named here wins over them.
        environment = kept | {"PIP_CONFIG_FILE": str(tmp_path / "machine.conf")} | variables
        done = subprocess.run(
            [sys.executable, "deploy/containers/pip_settings.py", str(tmp_path)],
            cwd=PROJECT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        parser = configparser.RawConfigParser()
        parser.read(tmp_path / "pip.conf")
        return parser["global"], done.stderr

    return run


def test_indexes_with_their_passwords_are_handed_on(settings_of):
    settings, _ = settings_of("[global]\nindex-url = https://user:word@index.example.org/simple\ntimeout = 7\n")
    assert settings["index-url"] == "https://user:word@index.example.org/simple"
    assert settings["timeout"] == "7"


def test_the_environment_wins_over_files_and_install_over_global(settings_of):
    text = "[global]\nindex-url = https://a.example.org\nretries = 1\n[install]\nretries = 2\n"
    settings, _ = settings_of(text, PIP_INDEX_URL="https://b.example.org")
    assert (settings["index-url"], settings["retries"]) == ("https://b.example.org", "2")


def test_folders_of_wheels_are_listed_and_addresses_of_wheels_kept(settings_of, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    text = f"[global]\nfind-links = {folders[0]}\n  {folders[1].as_uri()}\n  https://wheels.example.org/list.html\n"
    settings, _ = settings_of(text)
    assert (tmp_path / "wheels.txt").read_text().splitlines() == [str(folder) for folder in folders]
    assert settings["find-links"] == "https://wheels.example.org/list.html"


def test_indexes_on_this_disk_are_left_out_with_a_notice(settings_of, tmp_path):
    settings, said = settings_of(f"[global]\nextra-index-url = file://{tmp_path}/simple https://c.example.org\n")
    assert settings["extra-index-url"] == "https://c.example.org"
    assert f"{tmp_path}/simple" in said


@pytest.mark.parametrize("variable", ["PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_become_a_file_of_the_build(settings_of, tmp_path, variable):
    (tmp_path / "own.crt").write_text("certificate")
    empty = {"PIP_CERT": ""} if variable != "PIP_CERT" else {}
    settings, _ = settings_of("[global]\n", **empty, **{variable: str(tmp_path / "own.crt")})
    assert (tmp_path / "certificates.crt").read_text() == "certificate"
    assert settings["cert"] == "/run/secrets/certificates"


def test_settings_that_mean_nothing_in_the_build_are_left_out(settings_of):
    settings, _ = settings_of("[global]\ncache-dir = /somewhere\nlog = /elsewhere\ntarget = /there\n")
    assert not {"cache-dir", "log", "target"} & set(settings)
