"""What steps are made of: files are steps, folders are parts."""

import os

# Read when torch loads its threads. By default they wait for each other in busy loops, and training with two threads is
# ten times slower as soon as anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
