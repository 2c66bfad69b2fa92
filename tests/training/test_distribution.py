import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.methods import METHODS
from components.training.checkpoint import load_checkpoint
from components.training.distribution import loader_workers, start
from tests.training import tiny

ROOT = Path(__file__).parents[2]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAININGS = [*METHODS, "restorer", "autoencoder"]


def run(launcher, lmdb, folder):
    """Run all trainings in processes of their own, and end every one of them whatever happens."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "tests.training.shared", lmdb, folder]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, said = process.communicate(timeout=180)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process gave, and what two gave."""
    root = tmp_path_factory.mktemp("processes")
    lmdb = tiny.write_store(root / "lmdb")
    said = run([], lmdb, root / "one")
    assert said.count("dckd: step 6/6") == 1
    said = run(LAUNCHER, lmdb, root / "two")
    assert said.count("dckd: step 6/6") == 1, "progress of more than one process"
    return root / "one", root / "two"


def curves(folder, name, rank=0):
    return json.loads((folder / f"{name}-{rank}.json").read_text())


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_with_half_the_batch_give_the_losses_of_one_with_the_whole(name, folders):
    one, two = (curves(folder, name) for folder in folders)
    assert [row["step"] for row in one["history"]] == [1, 2, 3, 4, 5, 6]
    for whole, halves in zip(one["history"], two["history"], strict=True):
        assert halves == pytest.approx(whole, rel=1e-5)
    assert two["validation"] == [pytest.approx(row, rel=1e-4) for row in one["validation"]]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_give_the_weights_of_one(name, folders):
    one, two = (load_file(folder / f"{name}-0.safetensors") for folder in folders)
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_both_processes_hold_the_same_network_and_curves(name, folders):
    first, second = (load_file(folders[1] / f"{name}-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert curves(folders[1], name, 0) == curves(folders[1], name, 1)


def test_only_the_main_process_writes_an_outcome(folders):
    assert (folders[1] / "autoencoder-0.json").exists()
    assert not (folders[1] / "autoencoder-1.json").exists()


def test_every_process_refuses_a_batch_that_cannot_be_split(folders):
    for rank in range(2):
        said = (folders[1] / f"refused-{rank}.txt").read_text()
        assert said.startswith("training.batch: 7 can't be split over 2 processes: write a multiple")
        said = (folders[1] / f"refused-later-{rank}.txt").read_text()
        assert said.startswith("training.batch: 9 can't be split over 2 processes: write a multiple")
    assert not list(folders[0].glob("refused*"))


def test_every_process_stops_where_a_loss_of_one_is_not_finite(folders):
    for rank in range(2):
        said = (folders[1] / f"diverged-{rank}.txt").read_text()
        assert said.startswith("the loss is not finite: logits, at step 2.")
    assert not list(folders[0].glob("diverged*"))


@pytest.mark.usefixtures("own_accelerator")
def test_every_process_stops_at_the_same_row_where_one_is_asked_to(folders):
    _, two = folders
    assert sorted(path.name for path in two.glob("stopped-*.txt")) == ["stopped-0.txt", "stopped-1.txt"]
    assert load_checkpoint(two / "stopped.pt")["step"] == 2


def test_one_process_on_the_cpu_reads_its_own_crops_deterministically():
    accelerator = start(tiny.recipe(batch=7))
    assert (accelerator.num_processes, accelerator.device.type) == (1, "cpu")
    assert loader_workers(accelerator) == 0
    assert torch.are_deterministic_algorithms_enabled()
