"""A training that is killed, as by `kill -9`, while it reads the crops of its eighth step."""

import os
import signal
import sys
from pathlib import Path

import torch

from components.images.patches import TrainingPatches
from tests.training import tiny

KILLED = 8


class Deadly(TrainingPatches):
    def __getitem__(self, index):
        if index >= (KILLED - 1) * tiny.recipe().batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


if __name__ == "__main__":
    torch.set_num_threads(1)  # as the tests
    name, network, lmdb, checkpoint = sys.argv[1:]
    tiny.distilled(tiny.refreshing(name), Path(lmdb), Path(checkpoint), kind=tiny.NETWORKS[network], patch_kind=Deadly)
