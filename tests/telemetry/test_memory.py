"""Peak memory of a process and its children, by real allocations.

Each is measured in a process of its own: this one may have had more before, in other tests.
"""

import subprocess
import sys

PREPARED = """
import subprocess, sys
from components.telemetry.memory import PeakMemory, own_peak
"""
TWO_CHILDREN = """
child = "import time; held = bytearray(150_000_000); print(flush=True); time.sleep(1.5)"
with PeakMemory(0.05) as alone:
    pass
with PeakMemory(0.05) as memory:
    for _ in range(2):
        subprocess.run([sys.executable, "-c", child], check=True, capture_output=True)
print(memory.most - alone.most)
"""
BETWEEN = """
with PeakMemory(60) as before:
    pass
with PeakMemory(60) as memory:
    held = bytearray(150_000_000)
    del held
print(memory.most - before.most)
"""


def printed(code: str) -> int:
    """What a new process prints."""
    ended = subprocess.run([sys.executable, "-c", PREPARED + code], check=True, capture_output=True, text=True)
    return int(ended.stdout)


def test_children_count_while_they_run() -> None:
    assert 150e6 < printed(TWO_CHILDREN) + 20e6 < 290e6, "one child at a time"


def test_the_peak_of_the_process_that_started_this_one_does_not_count() -> None:
    held = bytearray(400_000_000)
    assert printed("print(own_peak())") < 2e8 < len(held)


def test_ones_own_peak_counts_between_two_measurements() -> None:
    assert 120e6 < printed(BETWEEN) < 180e6
