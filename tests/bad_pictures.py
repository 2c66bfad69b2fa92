"""Pictures that can't be read as they are: what each holds, by a name, and what is said of it."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import tifffile
from PIL import Image

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (24, 32, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Bad:
    """A file and the reason for which it is refused, as a part of the message."""

    name: str
    content: bytes
    reason: str


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(samples, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth=8, colour=2, body=b"", extra=b""):
    """A PNG with this header, whatever its body is."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + end


def raw_tiff(*entries, size=2000):
    """A little-endian TIFF of these tags: number, type (3: 2 bytes, 4: 4 bytes), values."""
    out, after = b"II*\0" + struct.pack("<IH", 8, len(entries)), b""
    start = len(out) + 12 * len(entries) + 4
    for number, kind, *values in entries:
        packed = b"".join(value.to_bytes({3: 2, 4: 4}[kind], "little") for value in values)
        if len(packed) > 4:
            after, packed = after + packed, struct.pack("<I", start + len(after))
        out += struct.pack("<HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    return (out + bytes(4) + after).ljust(size, b"\0")


def gray_tiff(width=32, height=24, bits=16, compression=1, kind=1, count=1000, offset=200):
    return raw_tiff(
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, kind), (273, 4, offset),
        (277, 3, 1), (278, 4, height), (279, 4, count),
    )  # fmt: skip


def bmp(width, height):
    """The header of a BMP of these sizes."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def swollen_tiff():
    """16-bit gray with opacity, whose one strip unpacks to a hundred megabytes."""
    packed = zlib.compress(bytes(100_000_000))
    tags = raw_tiff(
        (256, 4, 32), (257, 4, 24), (258, 3, 16, 16), (259, 3, 8), (262, 3, 1), (273, 4, 200), (277, 3, 2),
        (278, 4, 24), (279, 4, len(packed)), (338, 3, 2), size=200,
    )  # fmt: skip
    return tags + packed


def flat_png():
    """400 million black pixels in about a megabyte, whole and without a fault."""
    packer = zlib.compressobj(9)
    rows = bytes(20 * 20001)
    body = b"".join(packer.compress(rows) for _ in range(1000)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


DEEP = RANDOM.integers(0, 65536, (24, 32, 4), dtype=np.uint16)
GOOD = Image.fromarray(PIXELS)
BAD = (
    Bad("empty.png", b"", "is empty"),
    Bad("text.jpg", b"<html>404</html>", "is not a JPEG, PNG, TIFF, WebP or BMP"),
    Bad("gif.png", saved(GOOD, "GIF"), "is not a JPEG, PNG, TIFF, WebP or BMP"),
    Bad("signature.png", b"\x89PNG\r\n\x1a\n", "is not a JPEG, PNG, TIFF, WebP or BMP"),
    Bad("signature.tif", b"II*\0", "is damaged or cut off"),
    Bad("signature.webp", b"RIFF\x10\0\0\0WEBPVP8L", "is damaged or cut off"),
    Bad("cut.jpg", saved(GOOD, "JPEG")[:600], "is damaged or cut off"),
    Bad("cut_16_bits.png", png(32, 24, 16, 2, bytes(999)), "is damaged or cut off"),
    Bad("cut.tif", tiff(DEEP[..., :3], photometric="rgb")[:3000], "is damaged or cut off"),
    Bad("without_pixels.tif", gray_tiff(width=0), "it has no pixels"),
    Bad("without_strips.tif", gray_tiff(count=0), "parts of its pixels are missing"),
    Bad("inks.jpg", saved(GOOD.convert("CMYK"), "JPEG"), "holds printing inks (CMYK)"),
    Bad("inks.tif", tiff(DEEP, photometric="separated"), "holds printing inks (CMYK)"),
    Bad("half.tif", tiff(DEEP[..., 0].astype(np.float16), photometric="minisblack"), "holds floating-point values"),
    Bad("signed.tif", tiff(DEEP[..., 0].astype(np.int16), photometric="minisblack"), "16-bit integers with a sign"),
    Bad("long.tif", tiff(DEEP[..., 0].astype(np.uint32), photometric="minisblack"), "holds 32-bit integers"),
    Bad("twelve.tif", gray_tiff(bits=12), "holds 12-bit integers"),
    Bad("sensor.tif", gray_tiff(kind=32803), "colours of the kind CFA"),
    Bad("unknown.tif", gray_tiff(bits=8, compression=999), "packed by compression 999"),
    Bad("nameless.tif", tiff(DEEP, photometric="rgb", extrasamples=["unspecified"]), "an extra channel whose meaning"),
    Bad("nameless_8.tif", tiff(np.dstack([PIXELS, PIXELS]), photometric="rgb"), "an extra channel whose meaning"),
    Bad("multiplied.tif", tiff(DEEP, photometric="rgb", extrasamples=["assocalpha"]), "multiplied by their opacity"),
    Bad("pages.tif", tiff(np.moveaxis(DEEP, -1, 0), photometric="minisblack"), "holds several pictures"),
    Bad("moving.png", saved(GOOD, "PNG", save_all=True, append_images=[GOOD.rotate(180)]), "holds several pictures"),
    Bad("swollen.tif", swollen_tiff(), "a part unpacks to more than its 3072 bytes"),
    Bad("text_bomb.png", png(32, 24, extra=chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(50_000_000)))), "too large"),
)
BOMBS = (
    Bad("header.png", png(2**31 - 1, 2**31 - 1), "has 2147483647x2147483647 pixels; at most"),
    Bad("wide.png", png(2**31 - 1, 1, 16), "has 2147483647x1 pixels; at most"),
    Bad("header.tif", gray_tiff(100_000, 100_000), "has 100000x100000 pixels; at most"),
    Bad("header.bmp", bmp(40000, 40000), "has 40000x40000 pixels; at most"),
)
DENSE = (
    Bad("dense.png", flat_png(), "claims 20000x20000 pixels"),
    Bad("dense_16_bits.png", png(20_000, 20_000, 16), "claims 20000x20000 pixels"),
    Bad("dense.tif", gray_tiff(20_000, 20_000), "claims 20000x20000 pixels"),
    Bad("dense_8.tif", gray_tiff(20_000, 20_000, bits=8), "claims 20000x20000 pixels"),
    Bad("dense.bmp", bmp(20000, 20000), "claims 20000x20000 pixels"),
)
"""Of more pixels than `read_image` takes, but not than `restore` does."""
