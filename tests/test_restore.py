"""`python -m components restore`: one's own pictures, as they come, and back."""

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from components.backbones import BackboneChoice
from components.backbones.weights import load_backbone, save_network
from components.images.bicubic import upscale
from components.restore import main
from tests.bad_pictures import BAD, BOMBS, DENSE
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
    except Exception as fault:  # noqa: BLE001 - a user would see its traceback
        return repr(fault)
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


def test_whatever_a_picture_is_the_others_are_restored(student, tmp_path, caplog):
    """A folder of bad pictures, links and pipes, between good ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    for bad in (*BAD, *BOMBS, *DENSE):
        (folder / bad.name).write_bytes(bad.content)
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "memory.png").symlink_to("/proc/self/mem")
    (folder / "zero.png").symlink_to("/dev/zero")
    reasons = {bad.name: bad.reason for bad in (*BAD, *BOMBS, *DENSE)}
    reasons |= {"pipe.png": "is a pipe, not a file", "link.png": "is a link to nowhere.png, which is not there"}
    reasons |= {"loop.png": "Too many levels", "memory.png": "Input/output error", "zero.png": "is a device"}
    for name in ("0.png", "z.png"):
        Image.fromarray(picture(4, 5)).save(folder / name)
    assert run(student, tmp_path, folder) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "z.png"]
    told = {path: line for line in caplog.messages for path in reasons if line.startswith(f"{folder / path}: ")}
    assert [name for name, reason in reasons.items() if reason not in told.get(name, "")] == []
    assert len([line for line in caplog.messages if line.startswith(str(folder))]) == len(reasons)


def directory(entries, base):
    """One EXIF directory of tags: number, type, count, value."""
    size, body, out = 2 + 12 * len(entries) + 4, b"", struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", base + size + len(body))
        out += struct.pack("<HHI", tag, kind, count) + place
        body += value + bytes(len(value) % 2) if len(value) > 4 else b""
    return out + bytes(4) + body


GPS, EXIF = 0x8825, 0x8769
ODD = {
    "GPSLatitude": (GPS, (2, 2, 8, b"51,30,0\0")),
    "GPSAltitudeRef": (GPS, (5, 5, 1, bytes(8))),
    "GPSAltitudeRef too large": (GPS, (5, 3, 1, struct.pack("<H", 300))),
    "GPSTimeStamp": (GPS, (7, 2, 9, b"12:00:00\0")),
    "GPSLongitudeRef": (GPS, (3, 5, 1, struct.pack("<II", 1, 2))),
    "ExposureTime": (EXIF, (0x829A, 2, 6, b"1/250\0")),
    "ISOSpeedRatings": (EXIF, (0x8827, 2, 5, b"fast\0")),
}


@pytest.mark.parametrize("tag", ODD)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_a_tag_of_another_type_than_the_standards_is_left_out_and_told(student, tmp_path, caplog, tag, ending):
    folder, entry = ODD[tag]
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8)
    exif += directory([(folder, 4, 1, struct.pack("<I", 26))], 8) + directory([entry], 26)
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif)
    assert run(student, tmp_path, tmp_path / "a.jpg", "--format", ending) == 0
    with Image.open(tmp_path / "out" / f"a.{ending}") as found:
        kept = found.getexif().get_ifd(folder)
    assert kept == {} or entry[0] in kept
    assert bool(kept) != (f"a.{ending}: is without {tag.split()[0]}" in caplog.text)


KEPT = {0x010F: "Maker", 0x013B: "K\u00fcnstler", 0x8298: "Me"}
FOLDERS = {
    EXIF: {0x829A: 0.004, 0x9003: "2020:01:01 00:00:00", 0xA432: (24.0, 70.0, math.nan, math.nan)},
    GPS: {1: "N", 2: (51.0, 30.0, 0.5), 5: b"\0", 6: 12.5},
}


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "bmp"])
@pytest.mark.parametrize("large", [False, True])
def test_what_a_picture_says_of_itself_is_kept_or_told(student, tmp_path, caplog, monkeypatch, ending, large):
    if large:
        monkeypatch.setattr("components.use.photograph_files._LARGEST_TIFF", 0)
    exif = Image.Exif()
    for tag, value in (KEPT | FOLDERS).items():
        exif[tag] = value.encode() if isinstance(value, str) else value
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif, icc_profile=b"a profile", dpi=(300, 200))
    assert run(student, tmp_path, tmp_path / "a.jpg", "--format", ending) == 0
    with Image.open(tmp_path / "out" / f"a.{ending}") as found:
        found.load()
        kept = found.getexif()
        texts = {tag: kept[tag].encode("latin-1").decode() for tag in KEPT if tag in kept}
        folders = {tag: kept.get_ifd(tag) for tag in FOLDERS}
        profile, resolution = found.info.get("icc_profile"), found.info.get("dpi")
    if ending == "bmp":
        assert "is without EXIF, the colour profile, which can't be written to a BMP" in caplog.text
    else:
        assert (texts, repr(folders)) == (KEPT, repr(FOLDERS))
        assert profile == b"a profile"
    if ending == "webp":
        assert "is without the resolution, which can't be written to a WEBP" in caplog.text
    else:
        assert resolution == pytest.approx((300, 200), abs=0.01)


@pytest.mark.parametrize("profile", [b"", b"a profile"])
def test_a_webp_without_loss_stays_without_loss(student, tmp_path, profile):
    Image.fromarray(picture()).save(tmp_path / "a.webp", lossless=True, icc_profile=profile)
    assert run(student, tmp_path, tmp_path / "a.webp") == 0
    found = np.asarray(Image.open(tmp_path / "out/a.webp"))
    assert np.abs(found - expected(student, picture())).max() <= 1


def test_a_tiff_of_planes_and_one_whose_zero_is_white_are_restored(student, tmp_path):
    deep = picture().astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "p.tif", np.moveaxis(deep, -1, 0).copy(), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "w.tif", 65535 - deep[..., 0], photometric="miniswhite")
    assert run(student, tmp_path, tmp_path / "p.tif", tmp_path / "w.tif") == 0
    wanted = expected(student, deep, 65535)
    assert np.abs(tifffile.imread(tmp_path / "out/p.tif") - wanted).max() <= 2
    gray = expected(student, np.repeat(deep[..., :1], 3, 2), 65535) @ [0.299, 0.587, 0.114]
    assert np.abs(tifffile.imread(tmp_path / "out/w.tif") - gray).max() <= 400


def test_a_network_that_makes_no_numbers_makes_no_picture(tmp_path, caplog):
    network = tiny.edsr()
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(1e6)
    path = tmp_path / "student.safetensors"
    save_network(path, network, {"backbone": BackboneChoice(**STUDENT).model_dump(), "scale": 2})
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert run(path, tmp_path, tmp_path / "a.png") == 2
    assert "a.png: the network makes values of it that are not finite" in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 246 + ".png", "\u00fc" * 122 + ".tiff"])
def test_a_name_of_250_bytes_is_a_name(student, tmp_path, name):
    Image.fromarray(picture(4, 5)).save(tmp_path / name)
    assert run(student, tmp_path, tmp_path / name) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_every_ending_is_taken_and_what_is_left_out_is_counted(student, tmp_path, caplog):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    (folder / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    image = Image.fromarray(picture(4, 5))
    for name, kind in {"a.JPE": "JPEG", "b.jfif": "JPEG", "c.dib": "BMP", "deep/d.PNG": "PNG", "e.gif": "GIF"}.items():
        image.save(folder / name, kind)
    image.save(elsewhere / "x.png")
    (folder / "notes").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder / "deep")
    (folder / "deep/up").symlink_to(folder)
    assert run(student, tmp_path, folder) == 0
    out = tmp_path / "out"
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {"a.JPE", "b.jfif", "c.dib", "deep/d.PNG", "linked/x.png"}
    assert "2 left out, whose names do not end as pictures' do: 1 of .gif, 1 of no ending" in caplog.text


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file", "nothing can be written into {}/file: Not a directory; write another folder"),
        ("file/x", "nothing can be written into {}/file: Not a directory"),
        ("link", "nothing can be written into {}/link: No such file"),
        ("loop", "nothing can be written into {}/loop: Too many levels"),
        ("/proc/x", "nothing can be written into /proc: No such file"),
        ("/dev/null", "nothing can be written into /dev/null: Not a directory"),
    ],
)
def test_an_output_folder_that_can_be_none_is_told_before_the_network_is_opened(tmp_path, capsys, out, reason):
    Image.fromarray(picture(4, 5)).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "a.png"), "--student", "absent", "--out", str(tmp_path / out)])
    assert stop.value.code == 2
    assert reason.format(tmp_path) in capsys.readouterr().err


def test_pictures_are_restored_beside_themselves_but_never_replaced(student, tmp_path, capsys, caplog):
    Image.fromarray(picture(4, 5)).save(tmp_path / "a.png")
    words = [str(tmp_path), "--student", str(student), "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main([*words, "--overwrite"])
    assert "a.png: its result would take its place; write another --out, or a --suffix" in capsys.readouterr().err
    for _ in range(2):
        main([*words, "--suffix", "_x2"])
    assert {path.name: Image.open(path).size for path in tmp_path.iterdir()} == {"a.png": (5, 4), "a_x2.png": (10, 8)}
    assert "a_x2.png: left out, since its name is that of the result of" in caplog.text


def test_a_folder_in_the_place_of_a_result_stays(student, tmp_path, caplog):
    for name in ("a.png", "z.png"):
        Image.fromarray(picture(4, 5)).save(tmp_path / name)
    (tmp_path / "out/a.png").mkdir(parents=True)
    (tmp_path / "out/a.png/dear").touch()
    assert run(student, tmp_path, tmp_path / "a.png", tmp_path / "z.png", "--overwrite") == 2
    assert (tmp_path / "out/a.png/dear").exists()
    assert (tmp_path / "out/z.png").is_file()
    assert "a.png is a folder; move that away" in caplog.text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--suffix", "/x"], "is added to names, so it has no slash"),
        (["--tile", "0", "--overlap", "0"], "tiles have pixels"),
        (["--tile", "-8", "--overlap", "-9"], "overlap by at most half"),
        (["--tile", "64", "--overlap", "33"], "overlap by at most half"),
    ],
)
def test_flags_without_sense_are_told(student, tmp_path, capsys, words, reason):
    Image.fromarray(picture(4, 5)).save(tmp_path / "a.png")
    assert run(student, tmp_path, tmp_path / "a.png", *words) == 2
    assert reason in capsys.readouterr().err


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
