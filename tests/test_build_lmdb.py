import multiprocessing
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.build_lmdb import Packing, build_lmdb, cuts, pack
from components.images.files import write_png
from components.images.manifest import Entry, write_manifest
from components.images.store import Store
from components.run.errors import InputError
from components.run.files import sha256_of
from components.run.params import Choice, typed
from components.run.step import run_step
from components.tasks import TaskChoice
from components.tasks.sr import SuperResolution
from components.telemetry.recorder import observed

PACKING = Packing(size=24, step=12)
TIMES_TWO = Choice(name="sr", scale=2)


class DrawnOnce(SuperResolution):
    """Random, but made when the store is built."""

    def degrade(self, clean, random):
        return random.integers(256, size=super().degrade(clean, random).shape, dtype=np.uint8)


class DrawnInTraining(SuperResolution):
    packed = False


def photograph(seed, height, width):
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def entry_of(raw, split, name, image, degraded=None):
    """Write the files of one image and return its row of the manifest."""
    paths = [f"set/{name}.png", f"set/LR/{name}x2.png" if degraded is not None else ""]
    for path, pixels in zip(paths, (image, degraded), strict=True):
        if path:
            write_png(raw / path, pixels)
    return Entry(split, "set", name, *paths, *image.shape[:2], sha256_of(raw / paths[0]), "0" * 16)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


@pytest.fixture
def entries(raw):
    sizes = [(60, 41), (24, 24), (35, 90), (20, 30), (60, 41), (61, 37), (50, 50)]
    training = [entry_of(raw, "training", f"t{n}", photograph(n, *size)) for n, size in enumerate(sizes)]
    kept_out = [entry_of(raw, split, split, photograph(9, 61, 43)) for split in ("validation", "test")]
    return training + kept_out


def run(entries, raw, folder, task=TIMES_TWO, packing=PACKING):
    write_manifest(raw / "manifest.csv", entries)
    build_lmdb(task, packing, raw / "manifest.csv", raw, folder)
    return Store(folder)


def shifted(store, record):
    """Slices of a record within its images: clean, then degraded."""
    clean = tuple(slice(start, start + side) for start, side in zip(record.corner, record.clean, strict=True))
    return clean, tuple(slice(part.start // store.scale, part.stop // store.scale) for part in clean)


def test_sub_images_are_parts_of_the_image_and_of_its_bicubic_reduction(entries, raw, tmp_path):
    store = run(entries, raw, tmp_path / "lmdb")
    records = store.records("training")
    assert {record.image for record in records} == {f"set/t{n}" for n in range(7)}
    for record in records:
        seed = int(record.image[-1])
        entry = entries[seed]
        image = photograph(seed, entry.height, entry.width)[: entry.height // 2 * 2, : entry.width // 2 * 2]
        clean, degraded = shifted(store, record)
        pair = store.whole(record)
        np.testing.assert_array_equal(pair.clean, image[clean])
        np.testing.assert_array_equal(pair.degraded, SuperResolution(2).degrade(image, None)[degraded])


def test_validation_images_stay_whole_and_test_images_stay_out(entries, raw, tmp_path):
    store = run(entries, raw, tmp_path / "lmdb")
    (record,) = store.records("validation")
    assert record.image == "set/validation"
    np.testing.assert_array_equal(store.whole(record).clean, photograph(9, 61, 43)[:60, :42])
    assert store.records("test") == ()


@pytest.mark.parametrize(
    ("shape", "size", "step", "count"),
    [
        ((1356, 2040), 480, 240, 40),  # files that BasicSR's extract_subimages.py writes for an image of DIV2K's size
        ((480, 480), 480, 240, 1),
        ((482, 480), 480, 240, 2),
        ((720, 960), 480, 240, 6),
        ((100, 1000), 480, 240, 4),  # lower than a sub-image: BasicSR fails
        ((100, 100), 480, 240, 1),
    ],
)
def test_the_number_of_sub_images_is_that_of_basicsr(shape, size, step, count):
    entry = Entry("training", "set", "name", "", "", *shape, "0" * 64, "0" * 16)
    assert len(cuts(entry, shape, Packing(size=size, step=step))) == count


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_sub_images_cover_every_pixel_once_or_more_and_keep_to_the_grid(rows, columns, size, step, scale):
    shape = rows * scale, columns * scale
    packing = Packing(size=size * scale, step=min(size, step) * scale)
    entry = Entry("training", "set", "name", "", "", *shape, "0" * 64, "0" * 16)
    found = cuts(entry, shape, packing)
    covered = np.zeros(shape, int)
    for (top, left), (height, width) in found:
        assert (height, width) == (min(packing.size, shape[0]), min(packing.size, shape[1]))
        assert top % scale == left % scale == height % scale == width % scale == 0
        assert 0 <= top <= shape[0] - height
        assert 0 <= left <= shape[1] - width
        covered[top : top + height, left : left + width] += 1
    assert covered.min() >= 1
    assert len(set(found)) == len(found)


def test_a_degraded_file_is_taken_as_it_is(raw, tmp_path):
    degraded = photograph(5, 30, 20)
    store = run([entry_of(raw, "training", "a", photograph(0, 61, 41), degraded)], raw, tmp_path / "lmdb")
    for record in store.records("training"):
        np.testing.assert_array_equal(store.whole(record).degraded, degraded[shifted(store, record)[1]])


def test_a_pair_that_does_not_match_is_refused_with_both_files_and_sizes(raw, tmp_path):
    entry = entry_of(raw, "training", "a", photograph(0, 60, 40), photograph(5, 31, 20))
    with pytest.raises(InputError) as caught:
        run([entry], raw, tmp_path / "lmdb")
    for words in ("set/LR/ax2.png: 20x31 pixels", "set/a.png has 40x60 pixels", "must have 20x30 pixels"):
        assert words in str(caught.value)
    assert not (tmp_path / "lmdb").exists()


def test_what_is_drawn_depends_on_the_image_alone(entries, raw, tmp_path):
    def drawn(folder, chosen):
        pack(DrawnOnce(2), PACKING, chosen, raw, folder, workers=1)
        store = Store(folder)
        records = store.records("training")
        return {(record.image, record.corner): store.whole(record).degraded.tobytes() for record in records}

    everything = drawn(tmp_path / "a", entries[:5])
    assert drawn(tmp_path / "b", entries[3:1:-1]).items() <= everything.items()
    assert len(set(everything.values())) == len(everything)


def test_nothing_degraded_is_stored_where_training_draws_it(entries, raw, tmp_path):
    pack(DrawnInTraining(2), PACKING, entries, raw, tmp_path / "lmdb", workers=1)
    store = Store(tmp_path / "lmdb")
    assert all(store.whole(record).degraded is None for record in store.records("training"))


def test_the_bytes_do_not_depend_on_workers_or_process(entries, raw, tmp_path):
    for workers in (1, 3):
        pack(SuperResolution(2), PACKING, entries[:-1], raw, tmp_path / str(workers), workers)
    process = start(entries, raw, tmp_path / "process")
    assert process.wait() == 0
    for name in ("data.mdb", "index.json"):
        assert len({sha256_of(tmp_path / folder / name) for folder in ("1", "3", "process")}) == 1


def test_a_broken_image_is_named_and_leaves_neither_store_nor_process(entries, raw, tmp_path):
    broken = raw / entries[2].clean
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(InputError, match=r"set/t2\.png"):
        run(entries, raw, tmp_path / "out" / "lmdb")
    assert list((tmp_path / "out").iterdir()) == []
    assert multiprocessing.active_children() == []


def start(entries, raw, folder):
    """Run the stage as the pipeline does."""
    write_manifest(raw / "manifest.csv", entries)
    params = raw / "params.yaml"
    params.write_text("tasks: {two: {name: sr, scale: 2}}\npackings: {two: {size: 24, step: 12}}\n")
    files = {"manifest": raw / "manifest.csv", "raw": raw, "lmdb": folder, "params": params}
    flags = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    command = [sys.executable, "-m", "components", "build_lmdb", "--task", "two", "--packing", "two", *flags]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1])


def test_a_kill_leaves_no_store_and_no_worker_and_the_next_run_succeeds(raw, tmp_path):
    image = photograph(0, 300, 400)
    entry = entry_of(raw, "training", "again", image)
    entries = [replace(entry, name=f"{number:03d}") for number in range(500)]
    process = start(entries, raw, tmp_path / "out" / "lmdb")
    watched = psutil.Process(process.pid)
    wait_until(lambda: any(file.stat().st_size > 1 << 20 for file in tmp_path.glob("out/.*.partial/data.mdb")))
    workers = watched.children(recursive=True)
    assert workers
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / "lmdb").exists()
    wait_until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))
    store = run([entry], raw, tmp_path / "out" / "lmdb")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lmdb"]
    assert len(store.records("training")) == len(cuts(entry, image.shape, PACKING))


def wait_until(happens):
    while not happens():  # the test's own time limit ends it
        time.sleep(0.01)


@pytest.mark.parametrize(("size", "step", "message"), [(25, 12, "size: 25 .* 26"), (24, 11, "step: 11 .* 12")])
def test_a_packing_off_the_degraded_grid_is_refused(entries, raw, tmp_path, size, step, message):
    with pytest.raises(InputError, match=message):
        run(entries, raw, tmp_path / "lmdb", packing=Packing(size=size, step=step))


def test_a_packing_that_leaves_gaps_is_refused():
    with pytest.raises(InputError, match="leaves out pixels"):
        typed(Packing, {"size": 24, "step": 26}, "packings.sr")


def test_an_unknown_task_is_refused_with_the_list_of_tasks(entries, raw, tmp_path):
    with pytest.raises(InputError, match=r"unknown name 'sf'.*sr"):
        run(entries, raw, tmp_path / "lmdb", task=typed(TaskChoice, {"name": "sf", "scale": 2}, "tasks.sf"))


def test_a_manifest_without_images_to_pack_is_refused(entries, raw, tmp_path):
    with pytest.raises(InputError, match="no training or validation image"):
        run(entries[-1:], raw, tmp_path / "lmdb")


def test_the_command_line_refuses_bad_input_in_one_message(raw, tmp_path, capsys):
    raw.mkdir()
    (raw / "params.yaml").write_text("tasks: {two: {name: sr, scale: 2}}\npackings: {two: {size: 24, steps: 12}}\n")
    files = f"--params {raw / 'params.yaml'} --manifest none --raw {raw} --lmdb {tmp_path / 'lmdb'}"
    with pytest.raises(SystemExit) as caught:
        run_step(build_lmdb, ["--task", "two", "--packing", "two", *files.split()], observe=observed)
    assert caught.value.code == 2
    assert "packings.two: unknown key 'steps'. Did you mean 'step'?" in capsys.readouterr().err
