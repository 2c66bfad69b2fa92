"""No server, whatever it does, costs a step more than a bounded wait, and what it did not take stays."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.telemetry import __main__ as command
from components.telemetry import follow
from components.telemetry.follow import AwayError
from components.telemetry.journal import Journal, Writer, journals_in
from components.telemetry.settings import Settings
from tests.telemetry import slow_server

ROOT = Path(__file__).parents[2]


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self):
        self.now = 0.0
        self.naps = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds


class Server:
    """Takes journals, or does not."""

    server = "http://me:password@host"

    def __init__(self, *, away=False):
        self.away, self.asked = away, []

    def send(self, journal):
        self.asked.append(journal.folder.name)
        if self.away:
            raise AwayError("does not answer")
        sent = journal.sent(follow.shown(self.server))
        sent.offset, sent.status = journal.size, "FINISHED"
        journal.note(sent)


def written(folder, name="one", *, ended=True):
    writer = Writer(folder / name)
    writer.append({"event": "begin"})
    if ended:
        writer.append({"event": "end", "status": "FINISHED"})
    return writer


class TestSending:
    def test_what_was_sent_and_is_over_is_removed(self, tmp_path):
        written(tmp_path).close()
        server = Server()
        assert follow.send_all(tmp_path, server) == 1
        assert journals_in(tmp_path) == []

    def test_what_may_go_on_is_kept_and_not_sent_again(self, tmp_path):
        written(tmp_path, ended=False).close()
        server = Server()
        assert [follow.send_all(tmp_path, server) for _ in range(3)] == [1, 0, 0]
        assert len(journals_in(tmp_path)) == 1

    def test_but_not_for_ever(self, tmp_path):
        written(tmp_path, ended=False).close()
        follow.send_all(tmp_path, Server(), now=lambda: time.time() + 31 * 86400)
        assert journals_in(tmp_path) == []

    def test_a_writer_that_lives_keeps_its_journal(self, tmp_path):
        writer = written(tmp_path)
        follow.send_all(tmp_path, Server())
        assert len(journals_in(tmp_path)) == 1
        writer.close()

    def test_nothing_is_lost_where_the_server_is_away(self, tmp_path):
        written(tmp_path).close()
        with pytest.raises(AwayError):
            follow.send_all(tmp_path, Server(away=True))
        assert len(journals_in(tmp_path)) == 1
        follow.send_all(tmp_path, Server())
        assert journals_in(tmp_path) == []

    def test_one_that_nobody_can_read_does_not_keep_the_others(self, tmp_path):
        class Picky(Server):
            def send(self, journal):
                if journal.folder.name == "a":
                    raise KeyError("stage")
                super().send(journal)

        for name in "ab":
            written(tmp_path, name).close()
        follow.send_all(tmp_path, Picky())
        assert [journal.folder.name for journal in journals_in(tmp_path)] == ["a"]


class TestFollowing:
    def run(self, folder, server, clock):
        follow.follow(folder, server, clock, clock.sleep)

    def test_ends_a_little_after_the_last_step_where_all_was_sent(self, tmp_path):
        written(tmp_path).close()
        clock = Clock()
        self.run(tmp_path, Server(), clock)
        assert clock.now <= follow.LINGER + follow.POLL

    def test_gives_a_server_that_is_away_its_budget_and_asks_it_ever_more_seldom(self, tmp_path):
        written(tmp_path).close()
        clock, server = Clock(), Server(away=True)
        self.run(tmp_path, server, clock)
        assert clock.now <= follow.BUDGET + follow.LONGEST_PAUSE
        assert clock.naps == sorted(clock.naps)
        assert len(server.asked) < 8
        assert follow._status(tmp_path) == ("away", "does not answer")

    def test_stays_while_a_step_is_recorded_and_sends_on_the_way(self, tmp_path):
        writer, clock, server = written(tmp_path, ended=False), Clock(), Server()

        def sleep(seconds):
            clock.sleep(seconds)
            if clock.now <= 100:
                writer.append({"event": "metrics"})
            elif clock.now <= 100 + follow.POLL:
                writer.close()

        follow.follow(tmp_path, server, clock, sleep)
        assert 100 < clock.now <= 100 + follow.LINGER + 2 * follow.POLL
        assert len(server.asked) > 10

    def test_ends_by_force_where_sending_hangs(self, tmp_path, monkeypatch):
        class EndedError(Exception):
            pass

        def end(code):
            raise EndedError(code)

        monkeypatch.setattr(os, "_exit", end)
        written(tmp_path).close()
        clock = Clock()
        with pytest.raises(EndedError):
            follow.end_in_time(tmp_path, clock, clock.sleep)
        assert clock.now == follow.BUDGET

    def test_there_is_one_process_for_all_steps(self, tmp_path, monkeypatch):
        started = []
        monkeypatch.setattr(subprocess, "Popen", lambda *words, **_: started.append(words) or SimpleNamespace())
        settings = Settings(tmp_path, "http://host")
        with follow.only_one(tmp_path) as mine:
            assert mine
            follow.follow_later(settings)
            assert started == []
        follow.follow_later(settings)
        assert len(started) == 1
        follow.follow_later(Settings(tmp_path, ""))
        assert len(started) == 1

    def test_its_command_line_holds_no_password(self, tmp_path, monkeypatch):
        started = []
        monkeypatch.setattr(subprocess, "Popen", lambda words, **given: started.append((words, given)))
        follow.follow_later(Settings(tmp_path, "http://me:password@host"))
        ((words, given),) = started
        assert not any("password" in word for word in words)
        assert given["env"]["MLFLOW_TRACKING_URI"] == "http://me:password@host"
        assert {given["stdin"], given["stdout"], given["stderr"]} == {subprocess.DEVNULL}
        assert given["start_new_session"]


class TestFarewell:
    @pytest.fixture(autouse=True)
    def _no_process(self, monkeypatch):
        monkeypatch.setattr(follow, "follow_later", lambda _: None)

    def waited(self, folder, state, *, pod, sent_after=None):
        writer = written(folder)
        writer.close()
        journal, clock = Journal(writer.folder), Clock()
        follow.tell(folder, state, "does not answer")

        def sleep(seconds):
            clock.sleep(seconds)
            if sent_after is not None and clock.now >= sent_after:
                Server().send(journal)

        settings = Settings(folder, Server.server)
        environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"} if pod else {}
        return clock, follow.farewell(settings, journal, environment, clock, sleep)

    @pytest.mark.parametrize("state", ["", "starting", "sending", "away"])
    def test_waits_for_nothing_outside_of_a_pod(self, state, tmp_path):
        clock, _ = self.waited(tmp_path, state, pod=False)
        assert clock.now == 0

    @pytest.mark.parametrize("state", ["", "starting", "away"])
    def test_waits_half_a_second_in_a_pod_for_a_server_that_never_answered(self, state, tmp_path):
        clock, _ = self.waited(tmp_path, state, pod=True)
        assert clock.now <= follow.PATIENCE + 0.1 < 1

    def test_waits_some_seconds_in_a_pod_for_one_that_answered_before(self, tmp_path):
        clock, _ = self.waited(tmp_path, "sending", pod=True)
        assert clock.now <= follow.FAREWELL + 0.1

    def test_goes_as_soon_as_all_arrived(self, tmp_path):
        clock, told = self.waited(tmp_path, "sending", pod=True, sent_after=0.3)
        assert clock.now == pytest.approx(0.3)
        assert told == ""

    def test_says_where_the_journal_is_and_what_sends_it_and_no_password(self, tmp_path):
        _, told = self.waited(tmp_path, "away", pod=False)
        assert told == (
            f"http://***@host does not answer; the journal is kept in {tmp_path}, "
            "`python -m components.telemetry` sends it."
        )


class TestProbe:
    def test_a_server_that_hangs_is_left_after_its_time(self):
        with slow_server.hanging() as (address, taken):
            with pytest.raises(AwayError, match=r"does not answer \(ReadTimeout\)"):
                command.probe(address, seconds=0.2)
            assert len(taken) == 1

    def test_one_that_is_away_or_ill_is_told(self):
        with pytest.raises(AwayError, match=r"does not answer \(ConnectionError\)"):
            command.probe(slow_server.away())
        with slow_server.answering(500) as (address, asked):
            with pytest.raises(AwayError, match="answers with HTTP 500"):
                command.probe(address)
            assert asked == ["/health"]

    def test_one_that_answers_and_a_database_pass(self):
        with slow_server.answering(404) as (address, _):
            command.probe(address)
        command.probe("sqlite:///no/such")


def synced(folder, server):
    return subprocess.run(
        [sys.executable, "-m", "components.telemetry"],
        cwd=ROOT,
        env=os.environ | {"TRACKING": "on", "TRACKING_DIR": str(folder), "MLFLOW_TRACKING_URI": server},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestCommand:
    def test_tells_what_waits_where_the_server_is_ill_and_exits_with_1(self, tmp_path):
        written(tmp_path).close()
        with slow_server.answering(500) as (address, _):
            server = address.replace("http://", "http://me:pass-word@")
            ended = synced(tmp_path, server)
        assert (ended.returncode, ended.stdout) == (1, "")
        shown = address.replace("http://", "http://***@")
        assert ended.stderr == f"error: {shown} answers with HTTP 500; 1 journals are waiting in {tmp_path}.\n"

    @pytest.mark.parametrize(
        ("flags", "environment", "told"),
        [
            *(
                (
                    [],
                    {"MLFLOW_TRACKING_URI": uri},
                    f"MLFLOW_TRACKING_URI: {uri!r} is no address of a server or database",
                )
                for uri in ("127.0.0.1:5000", "./mlruns", "http://", "htp://host", "sqlite:/x", "http://host:50o0")
            ),
            ([], {"TRACKING": "of"}, "TRACKING: 'of': expected on, off or journal"),
            ([], {"TRACKING": "off"}, "TRACKING=off: there is nowhere to send to."),
            ([], {"TRACKING_DIR": "file/below"}, "file/below: Not a directory"),
            ([], {"TRACKING_DIR": "x" * 300}, ": File name too long"),
            *(
                (["--ui"], {"PORT": port}, f"PORT: {port!r} is no port: write a number from 1 to 65535")
                for port in ("abc", "0", "99999", "-1", "50.5", "")
            ),
        ],
    )
    def test_refuses_what_it_can_not_use(self, flags, environment, told, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        monkeypatch.setattr(sys, "argv", ["telemetry", *flags])
        usable = {"TRACKING": "on", "TRACKING_DIR": "journals", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/m.db"}
        for name, value in {**usable, **environment}.items():
            monkeypatch.setenv(name, value)
        try:
            code = command.main()
        except (OSError, ValueError, SystemExit) as error:
            code = getattr(error, "code", error)
        assert code == 2
        said = capsys.readouterr().err
        assert told in said
        assert said.startswith("error: ")
        assert said.count("\n") == 1

    def test_has_nothing_to_do_beside_a_steps_own_process(self, tmp_path):
        with follow.only_one(tmp_path):
            ended = synced(tmp_path, "http://host")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "is already sending to http://host" in ended.stdout

    def test_the_process_of_a_step_is_over_in_time_though_the_server_never_answers(self, tmp_path, monkeypatch):
        """A real one, with its budget cut to a second; its own request would wait for 5."""
        written(tmp_path).close()
        line = "from components.telemetry import follow, __main__ as it; follow.BUDGET = 1.0; it.main()"
        with slow_server.hanging() as (address, taken):
            environment = os.environ | {"TRACKING": "on", "TRACKING_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": address}
            command = [sys.executable, "-c", line, "--follow"]
            ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False)
            assert len(taken) <= 1
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
        assert len(journals_in(tmp_path)) == 1
