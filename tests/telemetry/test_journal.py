"""What is written of a run, and what never is."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem

from components.telemetry import context
from components.telemetry.hashes import dvc_md5, locked_inputs, size_of
from components.telemetry.journal import EVENTS, Journal, Sent, Writer, journals_in
from components.telemetry.registry import stored_at
from components.telemetry.settings import read_settings

ROOT = Path(__file__).parents[2]


def read(folder):
    return [event for event, _ in Journal(folder).events()]


class TestJournal:
    def test_gives_back_what_was_appended_in_order(self, tmp_path):
        writer = Writer(tmp_path)
        written = [{"event": "metrics", "step": step, "values": {"train/total": 1 / (step + 1)}} for step in range(5)]
        for event in written:
            writer.append(event)
        assert read(tmp_path) == written
        _, offset = list(Journal(tmp_path).events())[2]
        assert [event for event, _ in Journal(tmp_path).events(offset)] == written[3:]

    def test_threads_do_not_mix_their_lines(self, tmp_path):
        writer = Writer(tmp_path)
        threads = [
            threading.Thread(target=lambda n=n: [writer.append({"event": "x", "n": n}) for _ in range(50)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(event["n"] for event in read(tmp_path)) == sorted([*range(4)] * 50)

    def test_a_line_that_was_cut_off_is_left_out_and_dropped_when_it_goes_on(self, tmp_path):
        (tmp_path / EVENTS).write_text('{"event": "begin"}\n{"event": "met')
        assert read(tmp_path) == [{"event": "begin"}]
        Writer(tmp_path).append({"event": "end"})
        assert read(tmp_path) == [{"event": "begin"}, {"event": "end"}]

    def test_lines_that_are_no_events_are_left_out(self, tmp_path):
        (tmp_path / EVENTS).write_bytes(b'[1]\nno json\n\xff\xfe\n{"event": "end"}\n')
        assert read(tmp_path) == [{"event": "end"}]

    def test_it_is_alive_as_long_as_its_writer_and_has_one(self, tmp_path):
        writer = Writer(tmp_path)
        assert Journal(tmp_path).alive
        with pytest.raises(BlockingIOError):
            Writer(tmp_path)
        writer.close()
        assert not Journal(tmp_path).alive

    def test_what_a_killed_process_wrote_is_there_and_its_lock_is_not(self, tmp_path):
        lines = (
            "import os, pathlib, signal",
            "from components.telemetry.journal import Writer",
            f"writer = Writer(pathlib.Path({str(tmp_path)!r}))",
            "writer.append({'event': 'begin'})",
            "os.kill(os.getpid(), signal.SIGKILL)",
        )
        ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, check=False)
        assert ended.returncode == -9
        assert read(tmp_path) == [{"event": "begin"}]
        assert not Journal(tmp_path).alive
        assert not Journal(tmp_path).ended

    def test_a_full_disk_is_told_at_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr("fcntl.flock", lambda *_: None)  # of one device there is one lock for all processes
        (tmp_path / EVENTS).symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            Writer(tmp_path).append({"event": "begin"})

    def test_how_far_it_was_sent_holds_for_one_server(self, tmp_path):
        writer = Writer(tmp_path / "one")
        writer.append({"event": "begin"})
        (journal,) = journals_in(tmp_path)
        assert journal.sent("http://a") == Sent("http://a")
        journal.note(Sent("http://a", "id", 19, "RUNNING"))
        assert journal.sent("http://a").offset == journal.size == 19
        assert journal.sent("http://b") == Sent("http://b")
        (journal.folder / "sent.json").write_text("broken")
        assert journal.sent("http://a") == Sent("http://a")


HIDDEN = "s3cr3t/pa ss"


class TestSettings:
    def test_off_is_off(self):
        assert read_settings({"TRACKING": "off"}) is None

    def test_without_a_server_a_database_in_the_project_is_taken(self, tmp_path):
        found = read_settings({}, tmp_path)
        assert found.server == f"sqlite:///{tmp_path}/.mlflow/mlflow.db"
        assert found.journals == tmp_path / ".cache" / "tracking"

    def test_with_mlflow_skinny_alone_it_is_only_written_down_and_said_why(self, tmp_path, monkeypatch):
        monkeypatch.setattr("components.telemetry.settings._has_database", lambda: False)
        found = read_settings({}, tmp_path)
        assert found.server == ""
        assert "MLFLOW_TRACKING_URI names no server" in found.why_none
        assert read_settings({"MLFLOW_TRACKING_URI": "http://a"}, tmp_path).server == "http://a"

    def test_journals_of_pods_outlive_them_where_checkpoints_do(self, tmp_path):
        assert read_settings({"CHECKPOINT_DIR": "/mnt/x"}, tmp_path).journals == Path("/mnt/x/tracking")
        both = {"CHECKPOINT_DIR": "/mnt/x", "TRACKING_DIR": "/mnt/y"}
        assert read_settings(both, tmp_path).journals == Path("/mnt/y")

    def test_a_queued_experiment_records_in_the_project_that_it_is_of(self, tmp_path):
        copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
        assert read_settings({}, copy) == read_settings({}, tmp_path)

    def test_journal_alone_sends_nothing(self, tmp_path):
        found = read_settings({"TRACKING": "journal", "MLFLOW_TRACKING_URI": "http://a"}, tmp_path)
        assert (found.server, found.why_none) == ("", "TRACKING=journal")


class TestHashes:
    def test_are_those_of_dvc(self, tmp_path):
        folder = tmp_path / "out"
        for name, text in {"b.txt": "2", "a/z.txt": "1", "a/ü.bin": "", "a.txt": "x" * 3_000_000}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        store = HashFileDB(LocalFileSystem(), str(tmp_path / "cache"))
        for path in (folder, folder / "b.txt"):
            _, _, expected = build(store, str(path), LocalFileSystem(), "md5", dry_run=False)
            assert dvc_md5(path) == expected.hash_info.value
        assert size_of(folder, 10**9) == 3_000_002
        assert size_of(folder, 2) > 2

    def test_inputs_are_found_in_the_lock_but_not_what_the_stage_itself_wrote(self):
        lock = ROOT / "dvc.lock"
        paths = [Path("data/teachers/sr/teacher.safetensors"), Path("data/students/sr/logits/3"), Path("no/such")]
        found = locked_inputs(lock, paths, "distill@sr-logits-3")
        assert list(found) == ["data/teachers/sr"]
        assert found["data/teachers/sr"].endswith(".dir")
        assert locked_inputs(ROOT / "no.lock", paths, "") == {}

    @pytest.mark.parametrize(
        ("config", "variables", "expected"),
        [
            ("", {}, "{project}/.dvc/cache/files/md5/ab/cd"),
            ("[core]\nremote = r\n['remote \"r\"']\nurl = s3://bucket/x/\n", {}, "s3://bucket/x/files/md5/ab/cd"),
            ("[cache]\ndir = /mnt/c\n", {}, "/mnt/c/files/md5/ab/cd"),
            ("broken", {"DVC_REMOTE_URL": "https://me:pw@h/p"}, "https://***@h/p/files/md5/ab/cd"),
        ],
    )
    def test_the_place_of_a_file_is_dvcs(self, config, variables, expected, tmp_path):
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").write_text(config)
        assert stored_at("abcd", tmp_path, variables) == expected.format(project=tmp_path)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_EXP_NAME", "DVC_STAGE", "KFP_RUN_ID", "MLFLOW_RUN_ID", "GIT_REVISION", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    return tmp_path


class TestContext:
    def test_names_revision_and_whether_files_differ(self, repository):
        revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        found = context.read_context("distill", [], {})
        assert (found.tags["git.rev"], found.tags["git.dirty"]) == (revision.strip(), "false")
        assert found.parent == f"git:{revision.strip()}"
        (repository / "file").write_text("2")
        assert context.read_context("distill", [], {}).tags["git.dirty"] == "true"

    def test_outside_of_git_there_is_none(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        monkeypatch.delenv("GIT_REVISION", raising=False)
        found = context.read_context("distill", [], {})
        assert "git.rev" not in found.tags
        assert found.parent_name == "no revision"

    @pytest.mark.usefixtures("repository")
    def test_a_cluster_run_goes_before_an_experiment_and_that_before_a_revision(self, monkeypatch):
        monkeypatch.setenv("DVC_EXP_NAME", "wider")
        assert context.read_context("distill", [], {}).parent_name == "wider"
        monkeypatch.setenv("KFP_RUN_ID", "1234567890")
        found = context.read_context("distill", [], {})
        assert (found.parent, found.parent_name) == ("kfp:1234567890", "kubeflow 12345678")
        assert (found.tags["dvc.exp"], found.tags["kfp.run_id"]) == ("wider", "1234567890")

    def test_the_identity_changes_with_all_that_a_result_depends_on(self, repository, monkeypatch):
        def identity(step="fetch", words=("--x", "y"), **values):
            return context.read_context(step, list(words), {"teacher": Path("data/t/x"), **values}).identity

        first = identity(limit=1)
        assert identity(limit=1) == first
        assert len({first, identity(limit=2), identity("evaluate", limit=1), identity(words=(), limit=1)}) == 4
        lock = {"stages": {"train": {"outs": [{"path": "data/t", "md5": "a" * 32}]}}}
        (repository / "dvc.lock").write_text(json.dumps(lock))
        assert identity(limit=1) != first
        monkeypatch.setenv("DVC_STAGE", "../x/dvc.yaml:train")
        assert context.read_context("distill", [], {}).stage == "train"


def test_nothing_is_recorded_in_tests_that_do_not_ask_for_it():
    assert os.environ["TRACKING"] == "off"
