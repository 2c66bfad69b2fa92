import errno
import json
import os
import pickle
import re
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import lmdb
import numpy as np
import pytest

from components.images.store import Pair, Store, StoreWriter, _as_of_the_system
from components.run.errors import InputError
from components.run.files import sha256_of
from tests.bounded import bounded

ROOT = Path(__file__).parents[2]
SCALE = 3
PAGE = 4096
WHOLE = [((0, 0), (60, 90))]
LEFT_AND_RIGHT = [((0, 0), (60, 45)), ((0, 45), (60, 45))]


def noise(seed, height=60, width=90):
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def pair_of(seed):
    return Pair(noise(seed, 20, 30), noise(seed + 1000))


def write(folder, expected=1 << 20, images=3):
    with StoreWriter(folder, SCALE, expected) as writer:
        for seed in range(images):
            writer.add("training", f"set/{seed}", pair_of(seed), LEFT_AND_RIGHT)
        writer.add("validation", "set/last", Pair(None, noise(7)), WHOLE)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "lmdb")


def assert_same(found, wanted):
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wanted)


def test_a_crop_is_the_same_part_of_both_images(folder):
    store = Store(folder)
    record = store.records("training")[3]  # the right half of the second image
    degraded, clean = store.crop(record, 4, 2, 11, 9)
    assert_same(degraded, pair_of(1).degraded[4:15, 17:26])
    assert_same(clean, pair_of(1).clean[12:45, 51:78])


def test_a_whole_record_comes_back_as_it_was_stored(folder):
    store = Store(folder)
    left = store.whole(store.records("training")[2])
    assert_same(left.degraded, pair_of(1).degraded[:, :15])
    assert_same(left.clean, pair_of(1).clean[:, :45])


def test_a_record_without_degraded_image_gives_none(folder):
    store = Store(folder)
    degraded, clean = store.crop(store.records("validation")[0], 1, 2, 3, 4)
    assert degraded is None
    assert_same(clean, noise(7)[3:12, 6:18])


def test_records_say_what_they_are_cut_from(folder):
    store = Store(folder)
    assert store.scale == SCALE
    assert [record.image for record in store.records("training")] == ["set/0"] * 2 + ["set/1"] * 2 + ["set/2"] * 2
    right = store.records("training")[1]
    assert (right.corner, right.clean, right.degraded) == ((0, 45), (60, 45), (20, 15))
    assert store.records("validation")[0].degraded is None


def test_values_are_raw_pixels_and_no_lock_is_left(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["data.mdb", "index.json"]
    record = json.loads((folder / "index.json").read_text())["records"][1]
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get(f"{record['key']}/clean".encode()) == pair_of(0).clean[:, 45:].tobytes()
        assert transaction.get(f"{record['key']}/degraded".encode()) == pair_of(0).degraded[:, 15:].tobytes()


def test_a_crop_outlives_its_store(folder):
    store = Store(folder)
    crop = store.whole(store.records("training")[0]).clean
    crop[:] = 0  # a copy: neither read-only nor the stored image
    assert store.whole(store.records("training")[0]).clean.any()


def test_equal_images_give_equal_bytes_in_every_process(tmp_path):
    sums = set()
    for name in ("1", "2"):
        path = str(tmp_path / name)
        code = f"import pathlib, runpy; runpy.run_path({__file__!r})['write'](pathlib.Path({path!r}), images=99)"
        # Each process has its memory at other addresses; the C library fills it with other rubbish, too.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_PERTURB_": name}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        sums.add((sha256_of(tmp_path / name / "data.mdb"), sha256_of(tmp_path / name / "index.json")))
    assert len(sums) == 1


def test_the_map_grows_when_more_is_written_than_expected(tmp_path):
    with StoreWriter(tmp_path / "lmdb", 1, expected=0) as writer:
        for seed in range(4):
            writer.add("training", f"set/{seed}", Pair(None, noise(seed, 700, 900)), [((0, 0), (700, 900))])
    store = Store(tmp_path / "lmdb")
    for seed, record in enumerate(store.records("training")):
        assert_same(store.whole(record).clean, noise(seed, 700, 900))


def test_one_process_may_hold_a_store_twice_and_see_it_rebuilt(folder, tmp_path):
    first, second = Store(folder), Store(folder)
    assert_same(first.whole(first.records("training")[0]).clean, second.whole(second.records("training")[0]).clean)
    folder.rename(tmp_path / "old")
    with StoreWriter(folder, SCALE, 0) as writer:
        writer.add("training", "set/new", pair_of(50), WHOLE)
    rebuilt = Store(folder)
    assert_same(rebuilt.whole(rebuilt.records("training")[0]).clean, pair_of(50).clean)


def first_clean(store):
    return store.whole(store.records("training")[0]).clean


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_reads_a_store_that_this_one_has_read(folder, method):
    store = Store(folder)
    first_clean(store)
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert_same(pool.submit(first_clean, store).result(), pair_of(0).clean[:, :45])
    assert_same(first_clean(store), pair_of(0).clean[:, :45])


def test_a_pickled_store_reads_after_the_working_directory_changed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    copy = pickle.dumps(Store(folder.relative_to(folder.parent)))
    monkeypatch.chdir("/")
    assert_same(first_clean(pickle.loads(copy)), pair_of(0).clean[:, :45])  # noqa: S301 - our own bytes


def test_what_is_no_store_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no image store .*build_lmdb"):
        Store(tmp_path / "nowhere")


def test_a_broken_index_is_refused(folder):
    (folder / "index.json").write_text("{")
    with pytest.raises(InputError, match="no image store"):
        Store(folder)
    (folder / "index.json").write_text('{"scale": 2, "records": [{"key": "00000000"}]}')
    with pytest.raises(InputError, match=r"index.json.*records"):
        Store(folder)


def test_a_file_that_is_cut_short_is_refused_before_it_can_crash_the_process(folder):
    os.truncate(folder / "data.mdb", (folder / "data.mdb").stat().st_size // 2)
    store = Store(folder)
    with pytest.raises(InputError, match=r"data\.mdb: cut short"):
        store.whole(store.records("training")[-1])


def test_a_file_that_is_no_lmdb_is_refused(folder):
    (folder / "data.mdb").write_bytes(b"text" * 10_000)
    store = Store(folder)
    with pytest.raises(InputError, match=r"data\.mdb: "):
        store.whole(store.records("training")[0])


def read_damaged(folder, whole):
    """Read a store once for each of its pages of keys, with another kind written on that page."""
    refused = set()
    for start in range(2 * PAGE, len(whole), PAGE):
        kind = int.from_bytes(whole[start + 10 : start + 12], "little")
        if int.from_bytes(whole[start : start + 8], "little") == start // PAGE and kind in {1, 2}:
            damaged = bytearray(whole)
            damaged[start + 10] ^= 7
            (folder / "new").write_bytes(damaged)
            (folder / "new").replace(folder / "data.mdb")
            store = Store(folder)
            try:
                for record in store.records("training"):
                    store.whole(record)
            except InputError as error:
                refused.add(str(error))
    assert any(re.search(r"data\.mdb: damaged .*Rerun build_lmdb or pull it", one) for one in refused), refused


def test_a_file_with_damaged_pages_is_refused(tmp_path):
    write(tmp_path / "lmdb", images=60)
    ended = bounded(read_damaged, tmp_path / "lmdb", (tmp_path / "lmdb" / "data.mdb").read_bytes())
    assert ended.error is None, ended


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPERM, errno.ENODEV])
def test_every_error_of_the_system_is_told_as_such(tmp_path, code):
    error = lmdb.Error("mdb_put")
    error.code = code
    with pytest.raises(OSError, match=re.escape(os.strerror(code))) as caught, _as_of_the_system(tmp_path):
        raise error
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path))


def test_an_index_of_another_store_is_refused(folder, tmp_path):
    other = write(tmp_path / "other", images=9)
    (other / "index.json").rename(folder / "index.json")
    store = Store(folder)
    with pytest.raises(InputError, match=r"index\.json and data\.mdb differ"):
        store.whole(store.records("training")[-1])


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # a write past it comes back short, as on a full disk
    try:
        with pytest.raises(OSError, match="No space left") as caught:
            write(tmp_path / "lmdb", images=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "lmdb" / "index.json").exists()
