"""Working copies: the project's files as git keeps them, elsewhere, for a while."""

import os
import shutil
import subprocess
from base64 import b64encode
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.messages import PipelineError
from pipeline.working_copy.git import Git
from pipeline.working_copy.workspace import link_checkpoints, working_copy
from tests.planted import REPOSITORIES, SECRET, is_in

pytest_plugins = ["tests.pipeline.fixtures"]


@pytest.fixture
def here(project, monkeypatch):
    """The project, in whose folder the command is called."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("WORKSPACE_ROOT", str(project.workspaces))
    for name in ("DVC_REMOTE_URL", "DVC_CACHE_DIR", "CHECKPOINT_DIR", "GIT_USERNAME", "GIT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return project


@contextmanager
def private_server(folder, account):
    """A folder by HTTP, for one account alone; yields its address."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.headers.get("Authorization") == f"Basic {b64encode(account.encode()).decode()}":
                super().do_GET()
                return
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def files(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {".dvc/config.local"}


TRACKED = {".dvc/.gitignore", ".dvc/config", ".gitignore", "dvc.yaml", "params.yaml", "steps.py"}


class TestSource:
    def test_has_what_git_keeps_and_what_is_new_but_no_data_or_caches(self, here):
        for name in ("data/raw/x", ".cache/y", ".dvc/tmp/z", "new.py"):
            (here.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (here.folder / name).write_text("x")
        (here.folder / ".gitignore").unlink()
        (here.folder / ".gitignore").write_text("/data/*\n/.cache/\n")
        with working_copy("", "", {}) as copy:
            assert files(copy.folder) == TRACKED | {"new.py"}
            assert copy.commit is None

    def test_is_the_same_without_git(self, here):
        for name in ("data/raw/x", ".cache/y", ".dvc/tmp/z", ".dvc/cache/files/a", "new.py"):
            (here.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (here.folder / name).write_text("x")
        shutil.rmtree(here.folder / ".git")
        with working_copy("", "", {}) as copy:
            assert files(copy.folder) == TRACKED | {"new.py"}
            assert (copy.git, copy.commit) == (None, None)

    def test_may_be_read_only(self, here):
        shutil.rmtree(here.folder / ".git")
        for path in (here.folder, *here.folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            with working_copy("", "", {"fetch.images": 5}) as copy:
                (copy.folder / "steps.py").write_text("")
                (copy.folder / "data").mkdir()
        finally:
            for path in (here.folder, *here.folder.rglob("*")):
                path.chmod(0o755)

    def test_leaves_out_what_was_deleted_but_not_committed(self, here):
        (here.folder / "steps.py").unlink()
        with working_copy("", "", {}) as copy:
            assert files(copy.folder) == TRACKED - {"steps.py"}

    def test_a_folder_without_dvc_yaml_is_no_project(self, here, tmp_path, monkeypatch):
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        with pytest.raises(PipelineError, match=r"no dvc\.yaml"), working_copy("", "", {}):
            pass


class TestRevision:
    @pytest.fixture
    def first(self, here):
        """The commit before the one that the project stands at."""
        commit = here.git("rev-parse", "HEAD")
        here.git("tag", "v1")
        (here.folder / "steps.py").write_text("changed")
        here.commit("changed")
        return commit

    @pytest.mark.parametrize("name", ["full", "short", "v1", "HEAD~1"])
    def test_of_this_clone(self, name, here, first):
        revision = {"full": first, "short": first[:7]}.get(name, name)
        with working_copy(revision, "", {}) as copy:
            assert "def fetch" in (copy.folder / "steps.py").read_text()
            assert copy.commit == first
            assert files(copy.folder) == TRACKED

    @pytest.mark.parametrize("name", ["full", "short", "v1", "main"])
    def test_of_another_repository(self, name, here, first, tmp_path, monkeypatch):
        revision = {"full": first, "short": first[:7]}.get(name, name)
        here.git("clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with working_copy(revision, str(tmp_path / "origin.git"), {}) as copy:
            assert ("def fetch" in (copy.folder / "steps.py").read_text()) == (name != "main")
            assert files(copy.folder) == TRACKED
            assert copy.commit == (here.git("rev-parse", "main") if name == "main" else first)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
    def test_of_a_repository_that_belongs_to_another_user(self, here, first, tmp_path, monkeypatch):
        """As one that is mounted into a container does."""
        here.git("clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
        for path in (tmp_path / "origin.git", *(tmp_path / "origin.git").rglob("*")):
            os.chown(path, 12345, 12345)
        monkeypatch.setenv("HOME", str(tmp_path))
        with working_copy("v1", str(tmp_path / "origin.git"), {}) as copy:
            assert copy.commit == first

    def test_the_clone_itself_stays_as_it_is(self, here, first):
        (here.folder / "params.yaml").write_text("mine: 1\n")
        before = here.git("status", "--porcelain=2", "--branch")
        with working_copy("v1", "", {"fetch.images": 5}):
            pass
        assert here.git("status", "--porcelain=2", "--branch") == before
        assert (here.folder / "params.yaml").read_text() == "mine: 1\n"

    def test_an_unknown_one_is_named_with_its_neighbour(self, here, tmp_path):
        with pytest.raises(PipelineError, match=r"--revision mian: no branch, tag or commit of .* Did you mean 'main'"):
            working_copy("mian", str(here.folder), {}).__enter__()
        with pytest.raises(PipelineError, match="--revision mian: no commit of this clone"):
            working_copy("mian", "", {}).__enter__()

    @pytest.mark.parametrize("revision", ["--upload-pack=touch x", "-x"])
    def test_a_revision_is_never_taken_for_a_flag(self, revision, here):
        with pytest.raises(PipelineError, match="--revision"):
            working_copy(revision, str(here.folder), {}).__enter__()
        assert not (here.folder / "x").exists()

    def test_without_git_here_a_repository_is_asked_for(self, here):
        shutil.rmtree(here.folder / ".git")
        with pytest.raises(PipelineError, match="give --repository too"):
            working_copy("main", "", {}).__enter__()

    @pytest.mark.parametrize("address", REPOSITORIES)
    def test_a_repository_that_can_not_be_read_is_named_without_its_credentials(self, address, here, capfd):
        with pytest.raises(PipelineError, match=r"git could not read (https?|ssh)://.*127\.0\.0\.1:9/") as error:
            working_copy("main", address, {}).__enter__()
        assert not is_in(str(error.value) + "".join(capfd.readouterr()))

    @pytest.mark.parametrize(("user", "given"), [("reader", {"GIT_USERNAME": "reader"}), ("git", {})])
    def test_a_repository_that_asks_who_reads_it_is_told_by_the_environment(self, user, given, here, monkeypatch):
        here.git("update-server-info")
        monkeypatch.setenv("GIT_PASSWORD", SECRET)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        with (
            private_server(here.folder / ".git", f"{user}:{SECRET}") as address,
            working_copy("main", address, {}) as copy,
        ):
            assert copy.commit == here.git("rev-parse", "main")
            stored = [path.read_bytes() for path in copy.folder.parent.rglob("*") if path.is_file()]
            assert not any(SECRET.encode() in content for content in stored)

    def test_without_them_its_variables_are_named(self, here):
        with private_server(here.folder / ".git", "reader:x") as address, pytest.raises(PipelineError) as error:
            working_copy("main", address, {}).__enter__()
        assert "GIT_USERNAME and GIT_PASSWORD" in str(error.value)

    def test_credentials_of_the_repository_are_stored_nowhere(self, here, monkeypatch):
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{here.folder}.insteadOf")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"http://user:{SECRET}@host/x.git")
        with working_copy("main", f"http://user:{SECRET}@host/x.git", {}) as copy:
            stored = [path.read_bytes() for path in copy.folder.parent.rglob("*") if path.is_file()]
            assert stored
            assert not any(SECRET.encode() in content for content in stored)


class TestOverrides:
    def test_are_in_the_copy_and_not_here(self, here):
        with working_copy("", "", {"fetch.images": 9}) as copy:
            assert "images: 9" in (copy.folder / "params.yaml").read_text()
        assert "images: 4" in (here.folder / "params.yaml").read_text()

    def test_an_unknown_key_is_told(self, here):
        with pytest.raises(PipelineError, match="unknown key 'image'"):
            working_copy("", "", {"fetch.image": 9}).__enter__()
        assert list(here.workspaces.iterdir()) == []


class TestEnd:
    def test_nothing_is_left_after_an_error(self, here):
        def fail():
            with working_copy("", "", {}) as copy:
                (copy.folder / "data").mkdir()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert list(here.workspaces.iterdir()) == []

    def test_the_copy_is_kept_on_request_and_its_place_told(self, here, capsys):
        with working_copy("", "", {}, keep=True) as copy:
            pass
        assert copy.folder.exists()
        assert f"kept: {copy.folder.parent}" in capsys.readouterr().out

    def test_the_place_is_made(self, here, monkeypatch, tmp_path):
        monkeypatch.setenv("WORKSPACE_ROOT", str(tmp_path / "deep" / "place"))
        with working_copy("", "", {}) as copy:
            assert copy.folder.is_relative_to(tmp_path / "deep" / "place")

    def test_a_place_that_can_not_be_made_is_named(self, here, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setenv("WORKSPACE_ROOT", str(tmp_path / "file" / "place"))
        with pytest.raises(PipelineError, match=r"WORKSPACE_ROOT: .*/file/place: Not a directory"):
            working_copy("", "", {}).__enter__()


class TestSettings:
    def config(self, copy, name):
        words = ["git", "config", "--file", str(copy.folder / ".dvc" / "config.local"), name]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    def test_dvc_finds_cache_and_remote_of_the_environment(self, here, monkeypatch, tmp_path):
        from dvc.repo import Repo

        monkeypatch.setenv("DVC_CACHE_DIR", str(tmp_path / "shared, with a comma"))
        monkeypatch.setenv("DVC_REMOTE_URL", "s3://bucket/a prefix, with a comma")
        with working_copy("", "", {}) as copy, Repo(str(copy.folder)) as repo:
            assert repo.cache.local.path == str(tmp_path / "shared, with a comma" / "files" / "md5")
            assert repo.config["remote"]["storage"]["url"] == "s3://bucket/a prefix, with a comma"
            assert repo.config["core"]["remote"] == "storage"
            assert Path(repo.site_cache_dir).is_relative_to(copy.folder.parent)

    def test_no_key_or_endpoint_is_written(self, here, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{SECRET}")
        with working_copy("", "", {}) as copy:
            assert SECRET not in (copy.folder / ".dvc" / "config.local").read_text()

    def test_without_settings_dvc_stays_in_the_copy(self, here):
        from dvc.repo import Repo

        with working_copy("", "", {}) as copy, Repo(str(copy.folder)) as repo:
            assert Path(repo.cache.local.path).is_relative_to(copy.folder)


class TestCheckpoints:
    def test_lie_outside_by_the_runs_key(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "shared"))
        for name in ("one", "two"):  # a pod and its retry
            (tmp_path / name).mkdir()
            link_checkpoints(tmp_path / name, "abc")
        (tmp_path / "one" / ".cache" / "checkpoints" / "a.pt").write_text("x")
        (tmp_path / "one" / ".cache" / "downloads" / "b.tar").write_text("y")
        assert (tmp_path / "two" / ".cache" / "checkpoints" / "a.pt").read_text() == "x"
        assert (tmp_path / "two" / ".cache" / "downloads" / "b.tar").read_text() == "y"
        (tmp_path / "one" / ".cache" / "check" / "verdict").touch()
        assert (tmp_path / "shared" / "check" / "verdict").exists(), "what one stage found holds for all"
        assert {path.name for path in (tmp_path / "shared").iterdir()} == {"abc", "check"}

    def test_stay_in_the_copy_without_a_place(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CHECKPOINT_DIR", raising=False)
        link_checkpoints(tmp_path, "abc")
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_can_not_be_made_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "file"))
        with pytest.raises(PipelineError, match="CHECKPOINT_DIR: "):
            link_checkpoints(tmp_path, "abc")


def test_a_worktree_of_git_is_a_clone_too(here, tmp_path, monkeypatch):
    here.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    monkeypatch.chdir(tmp_path / "tree")
    with working_copy("main", "", {}) as copy:
        assert isinstance(copy.git, Git)
        assert files(copy.folder) == TRACKED
