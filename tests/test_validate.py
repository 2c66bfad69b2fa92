import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

from components.build_lmdb import Packing, pack
from components.images.manifest import read_manifest
from components.images.store import Store
from components.run.step import run_step
from components.tasks.deblur import Deblurring
from components.tasks.sr import SuperResolution
from components.telemetry.recorder import observed
from components.validate import validate
from tests.bad_pictures import BOMBS

TASK = SuperResolution(scale=2)
PARAMS = {
    "tasks": {"sr": {"name": "sr", "scale": 2}},
    "collections": {"sr": {"training": ["photographs"], "validation": ["kept"], "test": ["benchmark"]}},
    "datasets": {
        "photographs": {"source": "photographs", "clean": ["*.*"]},
        "kept": {"source": "kept", "clean": ["*.png"]},
        "benchmark": {"source": "benchmark", "clean": ["HR/*.png"], "degraded": "LR/X{scale}/{name}x{scale}.png"},
    },
    "validate": {"smallest_training_side": 64, "smallest_test_side": 48},
}


def photograph(image, width=150, height=101):
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)


CAT, COFFEE = photograph(data.chelsea()), photograph(data.coffee())
ROCKET, ASTRONAUT = photograph(data.rocket()), photograph(data.astronaut())
CHINA, FLOWER = (photograph(load_sample_image(f"{name}.jpg")) for name in ("china", "flower"))


def low(image):
    return Image.fromarray(TASK.degrade(TASK.crop(np.asarray(image)), np.random.default_rng(0)))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Six sound photographs in three splits, two of them with their low-resolution partner."""
    raw = tmp_path / "raw"
    for folder in ("photographs", "kept", "benchmark/HR", "benchmark/LR/X2"):
        (raw / folder).mkdir(parents=True)
    CAT.save(raw / "photographs/cat.png")
    COFFEE.convert("L").save(raw / "photographs/gray.png")
    ROCKET.save(raw / "photographs/rocket.jpg", quality=95)
    ASTRONAUT.save(raw / "kept/astronaut.png")
    for name, image in (("china", CHINA), ("flower", FLOWER)):
        image.save(raw / f"benchmark/HR/{name}.png")
        low(image).save(raw / f"benchmark/LR/X2/{name}x2.png")
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    return raw


def run():
    files = ["--raw", "raw", "--manifest", "out/manifest", "--docs", "out/docs"]
    run_step(validate, ["--task", "sr", "--collection", "sr", *files], observe=observed)


def refused(capsys):
    with pytest.raises(SystemExit) as error:
        run()
    assert error.value.code == 2
    assert not Path("out/manifest").exists()
    assert not list(Path("out").glob(".*"))
    return capsys.readouterr().err


def told(message, words):
    """The lines under the one expectation that has these words, as `split dataset: file: found`."""
    parts = [part for part in message.split("  Expected: ")[1:] if words in part.splitlines()[0]]
    assert len(parts) == 1, message
    return [line.strip() for line in parts[0].splitlines()[1:] if line.startswith("    ")][:-1]


def test_sound_photographs_become_a_manifest_of_equal_bytes_in_every_run(project):
    run()
    first = {path.name: path.read_bytes() for path in Path("out/manifest").iterdir()}
    run()
    assert {path.name: path.read_bytes() for path in Path("out/manifest").iterdir()} == first
    assert set(first) == {"manifest.csv", "validation.json"}
    assert str(project.parent).encode() not in b"".join(first.values())
    entries = read_manifest(Path("out/manifest/manifest.csv"))
    assert [(entry.split, entry.key, entry.clean, entry.degraded) for entry in entries] == [
        ("test", "benchmark/china", "benchmark/HR/china.png", "benchmark/LR/X2/chinax2.png"),
        ("test", "benchmark/flower", "benchmark/HR/flower.png", "benchmark/LR/X2/flowerx2.png"),
        ("training", "photographs/cat", "photographs/cat.png", ""),
        ("training", "photographs/gray", "photographs/gray.png", ""),
        ("training", "photographs/rocket", "photographs/rocket.jpg", ""),
        ("validation", "kept/astronaut", "kept/astronaut.png", ""),
    ]
    assert {(entry.height, entry.width) for entry in entries} == {(101, 150)}
    result = json.loads(first["validation.json"])
    assert all(expectation["success"] and not expectation["failures"] for expectation in result["expectations"])
    assert {row["dataset"]: row["images"] for row in result["datasets"]} == {
        "photographs": 3,
        "kept": 1,
        "benchmark": 2,
    }
    assert Path("out/docs/index.html").is_file()


def test_every_kind_of_unfit_image_is_listed_by_file_under_what_was_expected_of_it(project, capsys):
    training, benchmark = project / "photographs", project / "benchmark"
    training.joinpath("cut.png").write_bytes((training / "cat.png").read_bytes()[:9000])
    training.joinpath("text.png").write_text("not a picture")
    Image.fromarray(np.asarray(CAT)[..., 0].astype(np.uint16) * 257).save(training / "deep.png")
    planes = np.moveaxis(np.asarray(CAT).astype(np.uint16) * 257, -1, 0).copy()
    tifffile.imwrite(training / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    training.joinpath("bomb.png").write_bytes(BOMBS[0].content)
    training.joinpath("memory.png").symlink_to("/proc/self/mem")
    half = CAT.copy()
    half.putalpha(Image.linear_gradient("L").resize(CAT.size))
    half.save(training / "transparent.png")
    CAT.resize((90, 63)).save(training / "small.png")
    CAT.resize((300, 70)).save(training / "wide.png")
    CAT.convert("1").save(training / "scan.png")
    Image.open(project / "kept/astronaut.png").save(training / "again.jpg", quality=60)
    CHINA.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(training / "mirrored.png")
    training.joinpath("same.png").write_bytes((project / "kept/astronaut.png").read_bytes())
    training.joinpath("cat.bmp").write_bytes((training / "cat.png").read_bytes())
    low(FLOWER).save(benchmark / "LR/X2/chinax2.png")
    benchmark.joinpath("LR/X2/flowerx2.png").unlink()

    message = refused(capsys)
    assert [line.split(": ")[1] for line in told(message, "can be read")] == [
        "photographs/bomb.png",
        "photographs/cut.png",
        "photographs/deep.png",
        "photographs/memory.png",
        "photographs/planes.tif",
        "photographs/text.png",
        "photographs/transparent.png",
    ]
    assert told(message, "is stored as one of") == ["training photographs: photographs/scan.png: 1"]
    assert told(message, "training image is under 64") == ["training photographs: photographs/small.png: 63"]
    assert told(message, "longer side") == ["training photographs: photographs/wide.png: 4.29"]
    assert told(message, "every degraded image") == [
        "test benchmark: benchmark/HR/flower.png: benchmark/LR/X2/flowerx2.png is missing"
    ]
    (mixed_up,) = told(message, "shows what")
    assert mixed_up.startswith("test benchmark: benchmark/HR/china.png: ")
    assert told(message, "same name") == [
        "training photographs: photographs/cat.bmp: cat",
        "training photographs: photographs/cat.png: cat",
    ]
    assert told(message, "in two splits") == [
        "training photographs: photographs/same.png: kept/astronaut.png",
    ]
    assert [line.split(",")[0] for line in told(message, "looks like")] == [
        "training photographs: photographs/again.jpg: kept/astronaut.png (as it is",
        "training photographs: photographs/mirrored.png: benchmark/HR/china.png (mirrored",
    ]
    assert "17 of 20 images" in message
    assert "exclude" in message
    assert "Traceback" not in message
    assert "twice in one split" not in message
    rows = json.loads(Path("out/docs/validation.json").read_text())["expectations"]
    assert rows[0]["failed"] == 7
    assert Path("out/docs/index.html").is_file()


def test_pairs_of_ones_own_and_blurry_images_that_share_a_sharp_one_are_fit_for_use(project, caplog):
    """Two folders of equal names; and Levin's layout, in gray: no false alarm, and both reach training and test."""
    for folder in ("own/clean", "own/degraded", "blurred/gt"):
        (project / folder).mkdir(parents=True)
    for name, image in (("cat", CAT), ("rocket", ROCKET)):
        image.save(project / f"own/clean/{name}.png")
        noise = np.random.default_rng(0).normal(0, 20, (101, 150, 3))
        noisy = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(project / f"own/degraded/{name}.png")
    china = CHINA.convert("L")
    china.save(project / "blurred/gt/im1.png")
    for kernel, size in (("kernel1", (5, 1)), ("kernel2", (1, 7))):
        Image.fromarray(cv2.blur(np.asarray(china), size)).save(project / f"blurred/im1_{kernel}_img.png")
    datasets = PARAMS["datasets"] | {
        "own": {"source": "own", "clean": ["clean/*.png"], "degraded": "degraded/{name}.png"},
        "blurred": {"source": "blurred", "degraded": ["im*_kernel*_img.png"], "clean": "gt/im{1}.png"},
    }
    collection = {"training": ["own"], "validation": ["kept"], "test": ["blurred"]}
    params = PARAMS | {
        "datasets": datasets,
        "collections": {"sr": collection},
        "tasks": {"sr": {"name": "deblur", "shake": {}}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    run()
    assert "Reported only" not in caplog.text
    entries = read_manifest(Path("out/manifest/manifest.csv"))
    assert [(entry.split, entry.key, entry.clean, entry.degraded) for entry in entries] == [
        ("test", "blurred/im1_kernel1_img", "blurred/gt/im1.png", "blurred/im1_kernel1_img.png"),
        ("test", "blurred/im1_kernel2_img", "blurred/gt/im1.png", "blurred/im1_kernel2_img.png"),
        ("training", "own/cat", "own/clean/cat.png", "own/degraded/cat.png"),
        ("training", "own/rocket", "own/clean/rocket.png", "own/degraded/rocket.png"),
        ("validation", "kept/astronaut", "kept/astronaut.png", ""),
    ]
    pack(Deblurring(), Packing(size=60, step=60), [entries[2]], project, Path("out/lmdb"), workers=1)
    store = Store(Path("out/lmdb"))
    pair = store.whole(store.records("training")[0])
    assert np.array_equal(pair.clean, np.asarray(CAT)[:60, :60])
    with Image.open(project / "own/degraded/cat.png") as noisy:
        assert np.array_equal(pair.degraded, np.asarray(noisy)[:60, :60])


@pytest.mark.parametrize("task", ["denoise", "derain", "deblur"])
def test_clean_images_alone_are_refused_where_the_task_makes_no_degraded_ones(project, capsys, task):
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"tasks": {"sr": {"name": task}}}))
    message = refused(capsys)
    assert "training photographs, validation kept: has only clean images" in message
    assert f"{task}: `" in message


def test_a_link_to_nothing_is_told_before_any_image_is_judged(project, capsys):
    (project / "photographs/link.png").symlink_to("nowhere.png")
    message = refused(capsys)
    assert message.startswith("error: raw/photographs/link.png: is a link to nowhere.png, which is not there")
    assert not Path("out").exists()


def test_a_file_twice_in_training_is_reported_and_accepted(project, caplog):
    (project / "photographs/tomcat.png").write_bytes((project / "photographs/cat.png").read_bytes())
    with caplog.at_level("INFO"):
        run()
    assert "training photographs: photographs/tomcat.png: photographs/cat.png" in caplog.text
    expectations = json.loads(Path("out/manifest/validation.json").read_text())["expectations"]
    assert [one["failures"] for one in expectations if not one["required"]] == [
        [
            {
                "dataset": "photographs",
                "file": "photographs/tomcat.png",
                "found": "photographs/cat.png",
                "split": "training",
            }
        ]
    ]


def test_only_the_first_twenty_rows_are_told_and_the_rest_is_counted(project, capsys):
    for number in range(25):
        (project / f"photographs/text{number:02}.png").write_text("not a picture")
    message = refused(capsys)
    lines = told(message, "can be read")
    assert len(lines) == 21
    assert lines[-1] == "and 5 more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {"sr": {"name": "srr", "scale": 2}}}, "unknown name 'srr'"),
        ({"validate": {"smallest_training_side": 64}}, "smallest_test_side: missing"),
        ({"validate": PARAMS["validate"] | {"modes": ["I;16"]}}, "validate.modes.0"),
        ({"validate": PARAMS["validate"] | {"largest_aspekt": 2}}, "Did you mean 'largest_aspect'"),
        (
            {"datasets": PARAMS["datasets"] | {"kept": {"source": "kept", "clean": ["*.jpg"]}}},
            "datasets.kept.clean: the pattern '*.jpg' matches no file in raw/kept. Found there: astronaut.png",
        ),
    ],
)
def test_a_mistake_in_params_is_named_before_any_image_is_judged(project, capsys, change, message):
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | change))
    assert message in refused(capsys)
    assert not Path("out").exists()


def test_help_does_not_wait_for_great_expectations():
    command = [sys.executable, "-X", "importtime", "-m", "components", "validate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--manifest" in done.stdout
    assert "components.validating.inspection" in done.stderr
    assert "great_expectations" not in done.stderr
