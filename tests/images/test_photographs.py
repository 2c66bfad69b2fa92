"""The one reader of pictures: what files say of their pixels is what is read, and the rest is refused by name."""

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from components.images.files import read_image
from components.images.photographs import read_photograph
from components.run.errors import InputError
from components.telemetry.memory import own_peak
from tests.bad_pictures import BAD, BOMBS, DEEP, DENSE, PIXELS, chunk, png, tiff

CHANNELS = {"minisblack": 1, "miniswhite": 1, "rgb": 3}
LAYOUTS = [
    (kind, opacity, planes, compression, tile, order)
    for kind, opacity, planes, compression, tile, order in itertools.product(
        CHANNELS, (False, True), (False, True), (None, "adobe_deflate"), (None, (16, 16)), "<>"
    )
    if not (planes and kind != "rgb" and not opacity)
]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_is_read_as_its_tags_say(tmp_path, bits):
    """Every arrangement that tifffile writes, beside the samples that were written."""
    path, wrong = tmp_path / "a.tif", []
    whole = (DEEP >> 8).astype(np.uint8) if bits == 8 else DEEP
    for kind, opacity, planes, compression, tile, order in LAYOUTS:
        channels = CHANNELS[kind] + opacity
        samples = whole[..., :channels]
        stored = np.moveaxis(samples, -1, 0) if planes else samples
        options = {"extrasamples": ["unassalpha"] if opacity else None, "tile": tile, "byteorder": order}
        if channels > 1:
            options["planarconfig"] = "separate" if planes else "contig"
        content = tiff(
            np.ascontiguousarray(stored if channels > 1 else stored[..., 0]),
            photometric=kind, compression=compression, predictor=compression is not None, **options,
        )  # fmt: skip
        path.write_bytes(content)
        wanted = samples.copy()
        if kind == "miniswhite":
            wanted[..., 0] = np.iinfo(wanted.dtype).max - wanted[..., 0]
        try:
            found = read_photograph(path).samples
        except InputError as error:
            wrong.append((kind, opacity, planes, compression, tile, order, str(error)))
        else:
            if found.dtype != wanted.dtype or not np.array_equal(found, wanted):
                wrong.append((kind, opacity, planes, compression, tile, order, "other samples"))
    assert wrong == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_tiff_is_turned_once(tmp_path, orientation):
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }[orientation]
    path = tmp_path / "a.tif"
    for order, samples in itertools.product("<>", (DEEP[..., :3], (DEEP[..., :3] >> 8).astype(np.uint8))):
        path.write_bytes(tiff(samples, photometric="rgb", byteorder=order, extratags=[(274, 3, 1, orientation, True)]))
        np.testing.assert_array_equal(read_photograph(path).samples, upright(samples))


def deep_png(samples, colour, extra=b""):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(samples.shape[1], samples.shape[0], 16, colour, rows, extra)


@pytest.mark.parametrize(
    ("colour", "channels", "hole", "opaque"),
    [
        (0, 1, b"", 0),
        (4, 2, b"", 0),
        (2, 3, b"", 0),
        (6, 4, b"", 0),
        (0, 1, b"\x12\x34", 1),
        (2, 3, b"\x12\x34" * 3, 1),
    ],
)
def test_a_deep_png_is_read_as_its_header_says(tmp_path, colour, channels, hole, opaque):
    samples = DEEP[..., :channels].copy()
    samples[3, 4] = 0x1234
    (tmp_path / "a.png").write_bytes(deep_png(samples, colour, chunk(b"tRNS", hole) if hole else b""))
    found = read_photograph(tmp_path / "a.png").samples
    assert found.shape[2] == channels + opaque
    np.testing.assert_array_equal(found[..., :channels], samples)
    if hole:
        assert np.argwhere(found[..., -1] == 0).tolist() == [[3, 4]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_packed_by_lzw_is_read_too(tmp_path, channels):
    cv2.imwrite(str(tmp_path / "a.tif"), DEEP[..., :channels])
    order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.tif").samples, DEEP[..., order])


@pytest.mark.parametrize("read", [read_image, read_photograph])
@pytest.mark.parametrize("bad", [*BAD, *BOMBS], ids=lambda one: one.name)
def test_what_can_not_be_read_is_refused_by_name(tmp_path, bad, read):
    path = tmp_path / bad.name
    path.write_bytes(bad.content)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert bad.reason in str(error.value)


@pytest.mark.parametrize("bad", DENSE, ids=lambda one: one.name)
def test_more_pixels_than_the_bytes_can_hold_are_refused_before_they_are_unpacked(tmp_path, bad):
    path = tmp_path / bad.name
    path.write_bytes(bad.content)
    before = own_peak()
    with pytest.raises(InputError, match=bad.reason):
        read_photograph(path)
    assert own_peak() - before < 50e6


def test_a_picture_that_needs_more_memory_than_is_free_is_refused(tmp_path, monkeypatch):
    import psutil

    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    little = psutil.virtual_memory()._replace(available=6000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(InputError, match=r"a\.png: needs 0\.0 GB of memory, and 0\.0 GB are free"):
        read_photograph(tmp_path / "a.png")
