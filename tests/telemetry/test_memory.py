"""Peak memory of a process and its children, by real allocations."""

import subprocess
import sys

from components.telemetry.memory import PeakMemory

# In a process of its own: one that ran other tests may have had more at a time than both children.
TWO_CHILDREN = """
import subprocess, sys
from components.telemetry.memory import PeakMemory

child = "import time; held = bytearray(150_000_000); print(flush=True); time.sleep(1.5)"
with PeakMemory(0.05) as alone:
    pass
with PeakMemory(0.05) as memory:
    for _ in range(2):
        subprocess.run([sys.executable, "-c", child], check=True, capture_output=True)
print(memory.most - alone.most)
"""


def test_children_count_while_they_run() -> None:
    ended = subprocess.run([sys.executable, "-c", TWO_CHILDREN], check=True, capture_output=True, text=True)
    assert 150e6 < int(ended.stdout) + 20e6 < 290e6, "one child at a time"


def test_the_peak_of_the_process_that_started_this_one_does_not_count() -> None:
    held = bytearray(400_000_000)
    code = "from components.telemetry.memory import own_peak; print(own_peak())"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(ended.stdout) < 2e8 < len(held)


def test_ones_own_peak_counts_between_two_measurements() -> None:
    with PeakMemory(60) as before:
        pass
    with PeakMemory(60) as memory:
        held = bytearray(before.most)
        del held
    assert memory.most > before.most * 1.5
