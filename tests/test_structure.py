"""What a file is made of: hostile ones are refused before a reader sees them, what cameras and editors write passes."""

from __future__ import annotations

import gc
import io
import re
import struct
import time
import zlib
from pathlib import Path

import hostile_images as hostile
import numpy as np
import psutil
import pytest
from PIL import Image

from kerasall.decoding import Limits, decode, read_header, structure, to_native
from kerasall.errors import DecodingError

UPLOAD = Limits(4096, 4096 * 4096, 16 << 20)


@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_a_hostile_file_is_refused_before_a_reader_sees_it(name, monkeypatch):
    make, said = hostile.HOSTILE[name]
    data = make()
    if len(data) > UPLOAD.max_bytes:
        data = data[: UPLOAD.max_bytes]

    def fail(*_):
        raise AssertionError("a reader was asked")

    monkeypatch.setattr("kerasall.decoding.headers._find_reader", fail)
    for read in (read_header, decode, to_native):
        with pytest.raises(DecodingError, match=re.escape(said)) as refused:
            read(data, UPLOAD, "bomb.x")
        assert str(refused.value).startswith("bomb.x must have ")


def measure_cost(read) -> tuple[float, int]:
    """Seconds of the processor and bytes at the peak that a call takes."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    started = time.process_time()
    read()
    seconds = time.process_time() - started
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert told
    return seconds, int(told[1]) * 1024 - before


only_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory"
)


@pytest.mark.slow
@only_linux
@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_a_refusal_is_cheap(name):
    data = hostile.HOSTILE[name][0]()

    def refuse() -> None:
        with pytest.raises(DecodingError):
            to_native(data, UPLOAD, name)

    seconds, peak = measure_cost(refuse)
    assert seconds < 0.5
    assert peak < 50e6


@pytest.mark.slow
@only_linux
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGBA", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "RGBA", {"compression": "tiff_deflate"}),
        ("WEBP", "RGBA", {"lossless": True}), ("WEBP", "RGB", {"quality": 5}), ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}), ("JPEG", "RGB", {"exif": hostile.exif(1)}),
    ],
)  # fmt: skip
def test_what_is_accepted_costs_four_times_its_pixels_at_most(kind, mode, options):
    side = 4096
    file = io.BytesIO()
    Image.new(mode, (side, side), tuple((90, 30, 120, 255)[: len(mode)])).save(file, kind, **options)
    for read in (decode, to_native):
        _, peak = measure_cost(lambda read=read: read(file.getvalue(), UPLOAD, "large.x"))
        assert peak < 4 * 3 * side**2


def jpeg_of_a_phone() -> bytes:
    """EXIF with a thumbnail, a large XMP in pieces, a profile, tables of pictures after the end."""
    whole = hostile.encode("JPEG", (320, 240), progressive=True, exif=hostile.exif(120))
    xmp = b"".join(
        hostile.segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) for _ in range(160)
    )
    profile = b"".join(
        hostile.segment(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, 20]) + bytes(60_000)) for i in range(20)
    )
    return (
        whole[:2] + xmp + profile + hostile.segment(0xE2, b"MPF\0" + bytes(100)) + whole[2:] + bytes(100_000)
    )


def jpeg_of_photoshop() -> bytes:
    blocks = b"Photoshop 3.0\0" + b"".join(
        b"8BIM\4\x25\0\0" + struct.pack(">I", 600) + bytes(600) for _ in range(100)
    )
    return hostile.jpeg_with(hostile.segment(0xED, blocks), 8 * len(blocks))


def jpeg_padded() -> bytes:
    whole = hostile.encode("JPEG", (200, 100), restart_marker_blocks=1)
    return whole[:20] + b"\xff" * 4096 + whole[20:]


def png_of_rows() -> bytes:
    """Each of 4,000 rows a chunk of its own, and words in fifty more."""
    pixels = zlib.compress(b"".join(b"\0" + bytes(60) for _ in range(4000)), 0)
    size = len(pixels) // 4000 + 1
    rows = b"".join(hostile.chunk(b"IDAT", pixels[at : at + size]) for at in range(0, len(pixels), size))
    words = b"".join(
        hostile.chunk(b"zTXt", b"Key%d\0\0" % i + zlib.compress(b"word " * 2000)) for i in range(50)
    )
    header = struct.pack(">IIBBBBB", 20, 4000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + hostile.chunk(b"IHDR", header) + words
    return start + rows + b"".join(hostile.chunk(b"teSt") for _ in range(900)) + hostile.chunk(b"IEND")


def tiff_of_a_microscope() -> bytes:
    """Some hundred private tags, a description of a megabyte, one strip a row."""
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (600, 50, 3), np.uint8)
    tags = {50_000 + tag: tag for tag in range(400)} | {
        270: "<OME>" + "x" * (1 << 20),
        278: 1,
        34_412: bytes(5000),
    }
    tags[50_838] = tuple(range(30_000))
    Image.fromarray(pixels).save(file, "TIFF", tiffinfo=tags, compression="tiff_lzw")
    return file.getvalue()


def tiff_in_large_tiles() -> bytes:
    """60 x 40 pixels in one tile of 1024 x 1024, as slide scanners write their label."""
    number = struct.Struct("<I").pack
    kept = [e for e in hostile.plain_tags() if e[0] not in (256, 257, 273, 278, 279)]
    start = 8 + 2 + 12 * (len(kept) + 6) + 4
    tags = [
        *kept, (256, 4, 1, number(60)), (257, 4, 1, number(40)), (322, 4, 1, number(1024)), (323, 4, 1, number(1024)),
        (324, 4, 1, number(start)), (325, 4, 1, number(1 << 20)),
    ]  # fmt: skip
    return hostile.tiff(sorted(tags), bytes(range(256)) * 4096)


GENUINE = {
    "phone": (jpeg_of_a_phone, (320, 240)),
    "photoshop": (jpeg_of_photoshop, (64, 64)),
    "padded": (jpeg_padded, (200, 100)),
    "progressive": (lambda: hostile.encode("JPEG", (900, 700), progressive=True, subsampling=0), (900, 700)),
    "png in rows": (png_of_rows, (20, 4000)),
    "microscope": (tiff_of_a_microscope, (50, 600)),
    "large tiles": (tiff_in_large_tiles, (60, 40)),
    "runs": (lambda: hostile.bmp_of_runs(450, 1, b"\xe1\5\xe1\x09\0\0", 450 * 6), (450, 450)),
    "webp": (lambda: hostile.webp_with(b"ABCD\0\0\0\0", 80), (64, 64)),
}


@pytest.mark.parametrize("name", GENUINE)
def test_what_cameras_and_editors_write_passes(name):
    make, size = GENUINE[name]
    pixels = decode(make(), UPLOAD, name)
    assert pixels.shape == (size[1], size[0], 3)


def test_counting_reads_parts_and_not_pixels():
    """Sixteen times the pixels in the same number of parts are as few steps."""
    small, large = (hostile.encode("JPEG", (side, side)) for side in (200, 800))
    steps = [len(list(structure._find_segments(data))) for data in (small, large)]
    assert steps[0] == steps[1] < 20


def test_a_broken_file_is_its_readers_to_refuse():
    whole = {kind: hostile.encode(kind) for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP")}
    for data in whole.values():
        for end in range(len(data) // 97, len(data), len(data) // 97):
            assert structure.find_excess(data[:end]) == ""


@pytest.mark.realdata
def test_every_real_image_passes(real_data):
    kinds = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff")
    files = [file for file in sorted(real_data.rglob("*")) if file.suffix.lower() in kinds]
    assert files
    for file in files[:: max(len(files) // 200, 1)]:
        assert structure.find_excess(file.read_bytes()) == "", file
