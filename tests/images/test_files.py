import cv2
import numpy as np
import pytest
from PIL import Image

from components.images.files import read_image, write_png
from components.run.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.webp"])
def test_colour_is_read_as_it_was_saved(tmp_path, name):
    image = read_image(saved(tmp_path / name, Image.fromarray(PIXELS), lossless=True))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PIXELS)


def test_jpeg_is_read_as_another_decoder_reads_it(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    path = saved(tmp_path / "a.jpg", Image.fromarray(smooth), quality=95)
    expected = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 1


def test_grayscale_becomes_three_equal_channels(tmp_path):
    gray = PIXELS[..., 0]
    image = read_image(saved(tmp_path / "gray.png", Image.fromarray(gray)))
    np.testing.assert_array_equal(image, np.stack([gray, gray, gray], axis=-1))


def test_black_and_white_becomes_0_and_255(tmp_path):
    bits = PIXELS[..., 0] > 127
    image = read_image(saved(tmp_path / "bits.png", Image.fromarray(bits)))
    np.testing.assert_array_equal(image, np.where(bits, np.uint8(255), np.uint8(0))[..., None].repeat(3, axis=2))


def test_a_palette_becomes_its_colours(tmp_path):
    colours = PIXELS.reshape(-1, 3)
    indices = np.arange(len(colours), dtype=np.uint8).reshape(PIXELS.shape[:2])
    palette = Image.fromarray(indices)
    palette.putpalette(colours.tobytes())
    path = saved(tmp_path / "palette.png", palette)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(read_image(path), PIXELS)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_channel_is_dropped(tmp_path, mode):
    path = saved(tmp_path / "opaque.png", Image.fromarray(PIXELS).convert(mode))
    assert Image.open(path).mode == mode
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB")))


def test_one_transparent_pixel_is_refused(tmp_path):
    alpha = np.full((*PIXELS.shape[:2], 1), 255, dtype=np.uint8)
    alpha[3, 4] = 254
    path = saved(tmp_path / "alpha.png", Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)))
    with pytest.raises(InputError, match=r"alpha\.png: 1 of its 63 pixels are transparent.*flatten"):
        read_image(path)


def test_a_transparent_palette_entry_counts_only_where_it_is_used(tmp_path):
    for name, used in (("unused.png", 0), ("used.png", 7)):
        palette = Image.fromarray(np.full((4, 5), used, dtype=np.uint8))
        palette.putpalette(bytes(range(24)))
        saved(tmp_path / name, palette, transparency=7)
    assert (read_image(tmp_path / "unused.png") == [0, 1, 2]).all()
    with pytest.raises(InputError, match="20 of its 20 pixels are transparent"):
        read_image(tmp_path / "used.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.webp"])
def test_a_photograph_is_turned_upright_once(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, Image.fromarray(PIXELS), exif=exif, lossless=True)
    # EXIF 2.3, tag 0x0112: where the stored row 0 and column 0 belong.
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.swapaxes(0, 1),
        6: np.rot90(PIXELS, -1),
        7: np.rot90(PIXELS, 2).swapaxes(0, 1),
        8: np.rot90(PIXELS, 1),
    }
    np.testing.assert_array_equal(read_image(path), upright[orientation])


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_refused_and_never_cut_in_silence(tmp_path, name, channels):
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8, channels), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / name), deep)
    with pytest.raises(InputError, match=rf"{name}: holds 16 bits a channel; convert it to 8-bit"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("mode", "reason"), [("CMYK", "CMYK"), ("F", "floating-point"), ("I", "32-bit"), ("LAB", "LAB")]
)
def test_pixels_of_another_kind_are_refused_with_the_reason(tmp_path, mode, reason):
    path = saved(tmp_path / "other.tiff", Image.new(mode, (6, 5)))
    with pytest.raises(InputError, match=rf"other\.tiff: holds .*{reason}.*; convert it"):
        read_image(path)


@pytest.mark.parametrize("name", ["moving.png", "moving.webp", "pages.tiff"])
def test_an_animation_is_refused(tmp_path, name):
    others = [Image.fromarray(255 - PIXELS)]
    path = saved(tmp_path / name, Image.fromarray(PIXELS), save_all=True, append_images=others)
    with pytest.raises(InputError, match="several pictures"):
        read_image(path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tiff", "a.webp"])
def test_a_truncated_file_is_refused_by_name(tmp_path, name, kept):
    noise = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    path = saved(tmp_path / name, Image.fromarray(noise))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=rf"{name}: is damaged or cut off .*; fetch it again"):
        read_image(path)


def test_a_flipped_byte_in_a_png_is_noticed(tmp_path):
    path = tmp_path / "flipped.png"
    write_png(path, PIXELS)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 30] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"flipped\.png: is damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty; fetch"),
        (b"<html>404</html>", r"is not a JPEG, PNG, TIFF, WebP or BMP, or too damaged"),
    ],
)
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"text\.png: {reason}"):
        read_image(path)


def test_a_format_that_cannot_hold_photographs_is_refused(tmp_path):
    path = saved(tmp_path / "few_colours.gif", Image.fromarray(PIXELS))
    with pytest.raises(InputError, match=r"few_colours\.gif: is not a JPEG, PNG, TIFF, WebP or BMP"):
        read_image(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.png: not found"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="Is a directory"):
        read_image(tmp_path)


def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path):
    path = saved(tmp_path / "bomb.png", Image.new("1", (20000, 9000)))
    assert path.stat().st_size < 50_000
    with pytest.raises(InputError, match=r"bomb\.png: has 20000x9000 pixels; at most 178\.957 million"):
        read_image(path)


def test_written_png_reads_back_and_has_reproducible_bytes(tmp_path):
    write_png(tmp_path / "new" / "one.png", PIXELS)
    write_png(tmp_path / "two.png", PIXELS.copy())
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "one.png"), PIXELS)
    assert (tmp_path / "new" / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "kept.png"
    write_png(path, PIXELS)
    with pytest.raises(TypeError):
        write_png(path, np.zeros((4, 4, 7), dtype=np.uint8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.png"]
    np.testing.assert_array_equal(read_image(path), PIXELS)
