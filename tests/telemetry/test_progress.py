import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.telemetry import progress as module
from components.telemetry.progress import Progress, progress

ROOT = Path(__file__).parents[2]
SCRIPT = """
from components.telemetry.progress import Progress

shown = Progress("train student", 40)
for step in range(1, 41):
    shown.advance(loss=f"{1 / step:.3f}")
shown.close()
"""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Lines come every 15 seconds: nobody waits for them here."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def on_a_terminal(script: str) -> str:
    """All that a script writes to a terminal of 100 columns."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    try:
        with subprocess.Popen([sys.executable, "-c", script], stderr=terminal, cwd=ROOT) as running:
            os.close(terminal)
            written = b""
            while True:
                try:
                    block = os.read(controller, 65536)
                except OSError:  # what Linux says where the other end is closed
                    block = b""
                if not block:
                    break
                written += block
        assert running.returncode == 0
    finally:
        os.close(controller)
    return written.decode()


def test_a_terminal_gets_one_bar_with_step_values_rate_and_time_left() -> None:
    shown = on_a_terminal(SCRIPT)
    bars = shown.strip().split("\r")
    assert len(bars) > 1, "a bar is drawn over and over"
    assert shown.strip().count("\n") == 0
    assert bars[-1].startswith("train student: 100%|")
    assert "40/40 [" in bars[-1]
    assert "loss=0.025" in bars[-1]
    assert "step/s" in bars[-1]
    assert "<" in bars[-1], "time left"


def test_elsewhere_there_are_plain_lines() -> None:
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout == ""
    assert shown.stderr.startswith("train student: step 40/40 loss=0.025 ")
    assert shown.stderr.endswith(" step/s, 0 s left\n")
    assert "\r" not in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_lines_are_sparse_and_tell_step_values_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress("train", 100)
    for step in range(1, 101):
        clock.now += 0.5
        shown.advance(loss=f"{step}.0")
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "train: step 30/100 loss=30.0 2.0 step/s, 35 s left",
        "train: step 60/100 loss=60.0 2.0 step/s, 20 s left",
        "train: step 90/100 loss=90.0 2.0 step/s, 5 s left",
        "train: step 100/100 loss=100.0 2.0 step/s, 0 s left",
    ]


def test_a_resumed_run_counts_from_where_it_stood(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("train", 100, start=80)
    clock.now += 5
    shown.advance(20)
    assert shown.rate() == pytest.approx(4)
    assert capsys.readouterr().err == "train: step 100/100 4.0 step/s, 0 s left\n"


def test_values_stay_until_they_are_replaced(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("train", 4)
    for values in ({"loss": "1"}, {"psnr": "30"}, {"loss": "2"}, {}):
        clock.now += 20
        shown.advance(1, **values)
    ends = [line.split("/4 ")[1].rsplit(" ", 5)[0] for line in capsys.readouterr().err.splitlines()]
    assert ends == ["loss=1", "loss=1 psnr=30", "loss=2 psnr=30", "loss=2 psnr=30"]


def test_bytes_are_told_in_megabytes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("fetch", 50_000_000, unit="B")
    clock.now += 20
    shown.advance_to(20_000_000)
    clock.now += 20
    shown.advance_to(50_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "fetch: MB 20/50 1.0 MB/s, 30 s left",
        "fetch: MB 50/50 1.2 MB/s, 0 s left",
    ]


def test_a_total_that_is_not_known_is_left_out(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("fetch", 0, unit="B")
    clock.now += 20
    shown.advance(40_000_000)
    shown.close()
    assert capsys.readouterr().err == "fetch: MB 40 2.0 MB/s\n"


def test_items_pass_through_and_are_counted_when_they_are_done_with(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    for item in progress(iter("abc"), "measure", 3):
        clock.now += 20
        seen.append(item)
    assert seen == ["a", "b", "c"]
    assert [line.split(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["1/3", "2/3", "3/3"]
