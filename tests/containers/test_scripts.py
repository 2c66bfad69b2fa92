"""What the scripts say where they can't go on."""

import os
import subprocess

import pytest

from tests.containers.images import PROJECT


def run_script(name, *words, **variables):
    done = subprocess.run(
        ["sh", f"deploy/containers/{name}", *words],
        cwd=PROJECT,
        env=os.environ | variables,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_an_engine_that_is_named_and_away_is_an_error_and_nothing_is_started():
    code, text = run_script("start_engine.sh", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert code == 2
    assert "no Docker engine answers at DOCKER_HOST=unix:///nowhere/docker.sock" in text


def test_an_engine_that_was_not_started_here_is_not_ended(tmp_path):
    code, text = run_script("start_engine.sh", "--stop", ENGINE_STATE=str(tmp_path))
    assert (code, "no engine was started from here" in text) == (0, True)
    # The number of a process that is no engine: this one.
    (tmp_path / "dockerd.pid").write_text(str(os.getpid()))
    assert run_script("start_engine.sh", "--stop", ENGINE_STATE=str(tmp_path)) == (0, "")


@pytest.mark.parametrize("words", [(), ("--cpu",), ("a:b", "--gpu")])
def test_the_build_says_how_it_is_called(words):
    assert run_script("build_image.sh", *words) == (2, "usage: sh deploy/containers/build_image.sh TAG [--cpu]\n")


@pytest.mark.containers
def test_a_running_engine_is_left_alone(engine):
    before = engine.info()["ID"]
    assert run_script("start_engine.sh") == (0, "")
    assert engine.info()["ID"] == before


@pytest.mark.containers
def test_the_build_names_the_way_to_an_engine(engine):
    code, text = run_script("build_image.sh", "a:b", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert (code, "start_engine.sh" in text) == (2, True)
