"""`python -m components restore`: one's own pictures, as they come, and back."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from components.backbones import BackboneChoice
from components.backbones.weights import load_backbone, save_network
from components.images.bicubic import upscale
from components.restore import main
from tests.small_project import STUDENT
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_network(path, tiny.edsr(), {"backbone": BackboneChoice(**STUDENT).model_dump(), "scale": 2})
    return path


def picture(height=20, width=30):
    return tiny.photograph(1, 60)[:height, :width].copy()


def run(student, folder, *words):
    try:
        main([*map(str, words), "--student", str(student), "--out", str(folder / "out")])
    except SystemExit as stop:
        return stop.code
    return 0


def expected(student, colour, peak=255):
    """By the network itself, whole."""
    with torch.inference_mode():
        image = torch.from_numpy(colour.astype(np.float32) / peak).permute(2, 0, 1)[None]
        restored = load_backbone(student)(image)[0].permute(1, 2, 0).numpy()
    return np.rint(restored.clip(0, 1).astype(np.float64) * peak)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_a_picture_without_loss_is_what_the_network_makes_of_it(student, tmp_path, ending):
    Image.fromarray(picture()).save(tmp_path / f"a.{ending}")
    assert run(student, tmp_path, tmp_path / f"a.{ending}") == 0
    found = np.asarray(Image.open(tmp_path / "out" / f"a.{ending}"))
    assert np.abs(found - expected(student, picture())).max() <= 1


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a_picture_with_loss_is_near(student, tmp_path, ending):
    Image.fromarray(picture()).save(tmp_path / f"a.{ending}", quality=95)
    assert run(student, tmp_path, tmp_path / f"a.{ending}") == 0
    source = np.asarray(Image.open(tmp_path / f"a.{ending}").convert("RGB"))
    found = np.asarray(Image.open(tmp_path / "out" / f"a.{ending}").convert("RGB"))
    assert np.abs(found - expected(student, source)).mean() < 8


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(student, tmp_path, ending, channels):
    random = np.random.default_rng(0)
    deep = picture().astype(np.uint16) * 257 ^ random.integers(0, 256, (20, 30, 3), dtype=np.uint16)
    samples = {1: deep[..., 0], 3: deep, 4: np.concatenate([deep, deep[..., :1]], 2)}[channels]
    cv2.imwrite(str(tmp_path / f"a.{ending}"), samples)  # blue first
    assert run(student, tmp_path, tmp_path / f"a.{ending}") == 0
    found = cv2.imread(str(tmp_path / "out" / f"a.{ending}"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert found.shape == {1: (40, 60), 3: (40, 60, 3), 4: (40, 60, 4)}[channels]
    if channels > 1:
        wanted = expected(student, deep[..., ::-1], 65535)[..., ::-1]
        assert np.abs(found[..., :3] - wanted).max() <= 2
        assert len(np.unique(found % 256)) > 200, "not eight bits twice"


def test_gray_stays_gray(student, tmp_path):
    gray = picture()[..., 1]
    Image.fromarray(gray).save(tmp_path / "a.png")
    assert run(student, tmp_path, tmp_path / "a.png") == 0
    found = Image.open(tmp_path / "out/a.png")
    assert found.mode == "L"
    colour = expected(student, np.repeat(gray[..., None], 3, 2))
    assert np.abs(np.asarray(found) - colour @ [0.299, 0.587, 0.114]).max() <= 1.5


def test_opacity_is_enlarged_and_colour_restored(student, tmp_path):
    opacity = np.random.default_rng(1).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(np.dstack([picture(), opacity])).save(tmp_path / "a.png")
    assert run(student, tmp_path, tmp_path / "a.png") == 0
    found = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert np.abs(found[..., :3] - expected(student, picture())).max() <= 1
    # MATLAB rounds and saturates between its two passes; here nothing is.
    difference = np.abs(found[..., 3].astype(int) - upscale(opacity[..., None], 2)[..., 0])
    assert np.mean(difference <= 1) > 0.8
    assert difference.mean() < 2


def test_a_palette_becomes_its_colours(student, tmp_path):
    flat = Image.fromarray(picture()).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    flat.save(tmp_path / "a.png")
    assert run(student, tmp_path, tmp_path / "a.png") == 0
    found = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert np.abs(found - expected(student, np.asarray(flat.convert("RGB")))).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_it_looks_the_same_way_up(student, tmp_path, orientation, ending):
    """Beside Pillow's own turning: by corners of different colours."""
    corners = np.zeros((24, 36, 3), np.uint8)
    corners[:12, :18], corners[:12, 18:], corners[12:, :18] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = orientation, "Maker", {0xA002: 36, 0x9003: "2020:01:01 00:00:00"}
    Image.fromarray(corners).save(tmp_path / f"a.{ending}", exif=exif, icc_profile=b"a profile")
    assert run(student, tmp_path, tmp_path / f"a.{ending}") == 0
    from PIL import ImageOps

    turned = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"a.{ending}")))
    found = Image.open(tmp_path / "out" / f"a.{ending}")
    assert found.size == (turned.shape[1] * 2, turned.shape[0] * 2)
    assert np.abs(np.asarray(found) - expected(student, turned)).mean() < 6
    kept = found.getexif()
    assert 0x0112 not in kept
    assert kept[0x010F] == "Maker"
    assert kept.get_ifd(0x8769) == {0x9003: "2020:01:01 00:00:00"}
    assert found.info["icc_profile"] == b"a profile"


def test_a_tiff_keeps_what_it_says_of_itself(student, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = "Maker", "Me"
    Image.fromarray(picture(70, 60)).save(tmp_path / "a.tif", exif=exif, icc_profile=b"a profile")
    assert run(student, tmp_path, tmp_path / "a.tif") == 0
    found = Image.open(tmp_path / "out/a.tif")
    assert (found.getexif()[0x010F], found.getexif()[0x8298]) == ("Maker", "Me")
    assert found.info["icc_profile"] == b"a profile"


def test_tiles_show_no_seam(student, tmp_path):
    """EDSR of one block sees 6 pixels to a side, a quarter of the overlap is 8."""
    Image.fromarray(tiny.photograph(0, 150)).save(tmp_path / "a.png")
    assert run(student, tmp_path, tmp_path / "a.png", "--suffix", "_whole") == 0
    assert run(student, tmp_path, tmp_path / "a.png", "--tile", 64, "--overlap", 32) == 0
    whole, tiled = (np.asarray(Image.open(tmp_path / "out" / name)).astype(int) for name in ("a_whole.png", "a.png"))
    assert np.abs(whole - tiled).max() <= 1
    assert np.mean(whole != tiled) < 0.001


def test_the_mean_of_eight_orientations(student, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert run(student, tmp_path, tmp_path / "a.png", "--self-ensemble") == 0
    network, image = load_backbone(student), torch.from_numpy(picture() / np.float32(255)).permute(2, 0, 1)[None]
    restored = []
    with torch.inference_mode():
        for axes in ([], [-1], [-2], [-1, -2]):
            restored.append(network(image.flip(axes)).flip(axes))
            restored.append(network(image.mT.flip(axes)).flip(axes).mT)
    mean = torch.stack(restored).mean(0)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(np.asarray(Image.open(tmp_path / "out/a.png")) - mean).max() <= 0.51
    assert np.abs(mean - expected(student, picture())).max() > 1


def test_folders_keep_their_structure_and_patterns_their_names(student, tmp_path):
    for name in ("in/a.png", "in/deep/er/b.png", "in/note.txt", "c1.png", "c2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(4, 5)).save(tmp_path / name, format="PNG")
    assert run(student, tmp_path, tmp_path / "in", tmp_path / "c*.png", "--format", "bmp", "--suffix", "_x2") == 0
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a_x2.bmp", "deep/er/b_x2.bmp", "c1_x2.bmp", "c2_x2.bmp"}


def test_nothing_is_overwritten_unasked(student, tmp_path, caplog):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"dear to me")
    assert run(student, tmp_path, tmp_path / "a.png") == 0
    assert (tmp_path / "out/a.png").read_bytes() == b"dear to me"
    assert "already exists" in caplog.text
    assert run(student, tmp_path, tmp_path / "a.png", "--overwrite") == 0
    assert Image.open(tmp_path / "out/a.png").size == (60, 40)


def test_a_broken_picture_is_named_and_the_others_go_on(student, tmp_path, capsys):
    for name in "abc":
        Image.fromarray(picture()).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    assert run(student, tmp_path, *(tmp_path / f"{name}.png" for name in "abc")) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png"}
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == f"error: 1 of 3 pictures could not be restored: {tmp_path / 'b.png'}."


@pytest.mark.parametrize(
    ("make", "words", "reason"),
    [
        (lambda path: Image.new("CMYK", (8, 8)).save(path, "TIFF"), [], "printing inks"),
        (lambda path: Image.new("F", (8, 8)).save(path, "TIFF"), [], "floating-point"),
        (lambda path: path.write_bytes(b""), [], "is empty"),
        (lambda path: Image.new("RGBA", (8, 8)).save(path, "PNG"), ["--format", "jpg"], "write --format png"),
        (lambda path: Image.new("RGB", (8200, 1)).save(path, "PNG"), ["--format", "webp"], "exceed the 16383 of WEBP"),
    ],
)
def test_what_can_not_be_restored_is_refused_in_words(student, tmp_path, caplog, make, words, reason):
    make(tmp_path / "a.tif")
    assert run(student, tmp_path, tmp_path / "a.tif", *words) == 2
    assert reason in caplog.text
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("names", [["absent.png"], ["no*.png"], ["."]])
def test_inputs_that_are_not_there_are_told(student, tmp_path, capsys, names):
    assert run(student, tmp_path, *(tmp_path / name for name in names)) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_two_pictures_never_become_one_file(student, tmp_path, capsys):
    for name in ("a.png", "a.bmp"):
        Image.fromarray(picture()).save(tmp_path / name)
    assert run(student, tmp_path, tmp_path / "a.png", tmp_path / "a.bmp", "--format", "png") == 2
    assert "would both become" in capsys.readouterr().err


def test_help_and_mistyped_names_load_no_torch(tmp_path):
    code = (
        "import json, sys; from components.restore import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted({'torch', 'onnxruntime', 'cv2'} & set(sys.modules))))"
    )
    for words in (["--help"], ["absent.png", "--student", "x", "--out", "y"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout.splitlines()[-1]) == []


MEMORY = """
import sys, threading, numpy as np, torch
torch.set_num_threads(1)
from pathlib import Path
from components.exporting.costs import Peak
from components.exporting.opening import open_network
from components.use.photograph_files import write_photograph
from components.images.photographs import read_photograph
from components.use.bands import restored_rows
network = open_network(Path(sys.argv[1]))
network(torch.rand(1, 3, 64, 64))
before = Peak().megabytes
with Peak() as peak:
    source = read_photograph(Path(sys.argv[2]))
    write_photograph(Path(sys.argv[3]), "PNG", source, 2, restored_rows(network, source, 128, 32))
print(peak.megabytes - before)
"""


def test_memory_does_not_grow_with_the_height(student, tmp_path):
    """The result is 600x6000: 43 MB as one float image, and several of those; a band of it has 2 MB."""
    Image.fromarray(np.tile(picture(20, 30), (150, 10, 1))).save(tmp_path / "tall.bmp")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, student, tmp_path / "tall.bmp", tmp_path / "out.png"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Image.open(tmp_path / "out.png").size == (600, 6000)
    assert float(done.stdout) < 40
