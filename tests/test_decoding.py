"""Every kind of file: the pixels are the reference's, TensorFlow sees the same, bad files get a clear refusal."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kerasall.decoding import (
    DEFAULT_LIMITS,
    Limits,
    decode,
    headers,
    read_header,
    read_image_bytes,
    to_native,
)
from kerasall.errors import DecodingError
from kerasall.serving.export import decode_native

HEIGHT, WIDTH = 37, 45  # odd on purpose: rows of BMP need padding


def _make_pixels() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


PIXELS = _make_pixels()
RGB = Image.fromarray(PIXELS)
GREY = RGB.convert("L")
PALETTE = RGB.quantize(200)
SMALL_PALETTE = RGB.quantize(16)
BLACK_WHITE = RGB.convert("1")
ALPHA = (np.arange(HEIGHT * WIDTH) % 256).astype(np.uint8).reshape(HEIGHT, WIDTH)
RGBA = Image.fromarray(np.dstack([PIXELS, ALPHA]))
GREY_16 = (np.asarray(GREY).astype(np.uint16) << 8) + ALPHA
GREY_SCALE = b"".join(bytes([i, i, i, 0]) for i in range(256))


def _rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _save(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _with_orientation(kind: str, orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _save(RGB, kind, exif=exif, **options)


def _bmp(
    rows: np.ndarray, bits: int, *, palette=b"", compression=0, masks=(), top_down=False, header_size=40
):
    """A BMP from rows of finished bytes [height, bytes per row]."""
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    pixels = (rows if top_down else rows[::-1]).tobytes()
    extra = struct.pack(f"<{len(masks)}I", *masks).ljust(max(header_size - 40, 4 * len(masks)), b"\0")
    start = 54 + len(extra) + len(palette)
    height = -HEIGHT if top_down else HEIGHT
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    info = struct.pack(
        "<IiiHHIIiiII", header_size, WIDTH, height, 1, bits, compression, len(pixels), 0, 0, 0, 0
    )
    return head + info + extra + palette + pixels


def _channels(*channels: np.ndarray) -> np.ndarray:
    return np.dstack(channels).reshape(HEIGHT, -1)


def _bmp_32(order: str, **options) -> bytes:
    planes = dict(zip("RGBA", (*np.moveaxis(PIXELS, 2, 0), np.zeros_like(ALPHA)), strict=True))
    return _bmp(_channels(*(planes[c] for c in order)), 32, **options)


def _bmp_run_length() -> bytes:
    rows = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in np.asarray(PALETTE)[::-1])
    palette = np.array(PALETTE.getpalette()).reshape(-1, 3)[:, ::-1]
    palette_bytes = b"".join(bytes(map(int, c)) + b"\0" for c in palette).ljust(1024, b"\0")
    whole = _bmp(np.zeros((HEIGHT, 4), np.uint8), 8, palette=palette_bytes, compression=1)
    return whole[: 54 + 1024] + rows + b"\0\1"


def _bmp_os2() -> bytes:
    plain = _save(RGB, "BMP")
    head = struct.pack("<2sIHHI", b"BM", 26 + len(plain) - 54, 0, 0, 26)
    return head + struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24) + plain[54:]


def _bmp_555() -> tuple[bytes, np.ndarray]:
    five = (PIXELS >> 3).astype(np.uint16)
    values = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    return _bmp(values.view(np.uint8), 16), (five * 255 / 31).astype(np.uint8)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(rows: bytes, bits: int, colour: int, interlaced: int = 0, size=(WIDTH, HEIGHT)) -> bytes:
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _png_interlaced() -> bytes:
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = [row for x, y, dx, dy in passes for row in PIXELS[y::dy, x::dx] if row.size]
    return _png(b"".join(b"\0" + row.tobytes() for row in rows), 8, 2, interlaced=1)


def _png_grey_alpha_16() -> bytes:
    planes = np.dstack([GREY_16, GREY_16]).astype(">u2")
    return _png(b"".join(b"\0" + row.tobytes() for row in planes), 16, 4)


def _with_gamma() -> bytes:
    plain = _save(RGB, "PNG")
    return plain[:33] + _chunk(b"gAMA", struct.pack(">I", 100_000)) + plain[33:]


def _cv2(suffix: str, *planes: np.ndarray) -> bytes:
    return cv2.imencode(suffix, np.dstack(planes))[1].tobytes()


def _colour_16(suffix: str, *more: np.ndarray) -> bytes:
    blue_green_red = (PIXELS[..., i].astype(np.uint16) * 256 + 77 for i in (2, 1, 0))
    return _cv2(suffix, *blue_green_red, *more)


_BGR_MASKS, _RGB_MASKS = (0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)

# name: (bytes, reference pixels, native)
EXACT: dict[str, tuple[bytes, np.ndarray, bool]] = {
    "BMP 24-bit": (_save(RGB, "BMP"), PIXELS, True),
    "BMP 24-bit top-down": (
        _bmp(_channels(*PIXELS.T[::-1].transpose(0, 2, 1)), 24, top_down=True),
        PIXELS,
        True,
    ),
    "BMP 24-bit version 5": (
        _bmp(_channels(*PIXELS.T[::-1].transpose(0, 2, 1)), 24, header_size=124),
        PIXELS,
        True,
    ),
    "BMP 24-bit bytes at end": (_save(RGB, "BMP") + b"\0\0", PIXELS, False),
    "BMP 24-bit OS/2": (_bmp_os2(), PIXELS, False),
    "BMP 32-bit no alpha": (_bmp_32("BGRA"), PIXELS, True),
    "BMP 32-bit top-down": (_bmp_32("BGRA", top_down=True), PIXELS, True),
    "BMP 32-bit with alpha": (_save(RGBA, "BMP"), PIXELS, True),
    "BMP 32-bit masks": (_bmp_32("BGRA", compression=3, masks=_BGR_MASKS), PIXELS, True),
    "BMP 32-bit other order": (
        _bmp_32("RGBA", compression=3, masks=_RGB_MASKS, header_size=108),
        PIXELS,
        False,
    ),
    "BMP 16-bit": (*_bmp_555(), False),
    "BMP 8-bit grey": (_save(GREY, "BMP"), _rgb(GREY), True),
    "BMP 8-bit grey top-down": (
        _bmp(np.asarray(GREY), 8, palette=GREY_SCALE, top_down=True),
        _rgb(GREY),
        True,
    ),
    "BMP 8-bit inverted grey": (
        _bmp(np.asarray(GREY), 8, palette=GREY_SCALE[::-1][1:] + b"\0"),
        255 - _rgb(GREY),
        False,
    ),
    "BMP 8-bit palette": (_save(PALETTE, "BMP"), _rgb(PALETTE), False),
    "BMP run-length": (_bmp_run_length(), _rgb(PALETTE), False),
    "BMP 4-bit": (_save(SMALL_PALETTE, "BMP"), _rgb(SMALL_PALETTE), False),
    "BMP 1-bit": (_save(BLACK_WHITE, "BMP"), _rgb(BLACK_WHITE), False),
    "PNG RGB": (_save(RGB, "PNG"), PIXELS, True),
    "PNG RGBA": (_save(RGBA, "PNG"), PIXELS, True),
    "PNG RGB tRNS": (_save(RGB, "PNG", transparency=tuple(map(int, PIXELS[0, 0]))), PIXELS, True),
    "PNG RGB 16-bit": (_colour_16(".png"), PIXELS, True),
    "PNG RGBA 16-bit": (_colour_16(".png", GREY_16), PIXELS, True),
    "PNG gamma": (_with_gamma(), PIXELS, True),
    "PNG interlaced": (_png_interlaced(), PIXELS, True),
    "PNG EXIF": (_with_orientation("PNG", 6), np.rot90(PIXELS, -1), False),
    "PNG grey": (_save(GREY, "PNG"), _rgb(GREY), True),
    "PNG grey tRNS": (_save(GREY, "PNG", transparency=int(np.asarray(GREY)[0, 0])), _rgb(GREY), True),
    "PNG grey alpha": (_save(RGBA.convert("LA"), "PNG"), _rgb(GREY), True),
    "PNG grey 16-bit": (_save(Image.fromarray(GREY_16), "PNG"), _rgb(GREY), True),
    "PNG grey alpha 16-bit": (_png_grey_alpha_16(), _rgb(GREY), True),
    "PNG palette": (_save(PALETTE, "PNG"), _rgb(PALETTE), True),
    "PNG palette tRNS": (_save(PALETTE, "PNG", transparency=bytes(range(200))), _rgb(PALETTE), True),
    "PNG 4-bit palette": (_save(SMALL_PALETTE, "PNG", bits=4), _rgb(SMALL_PALETTE), True),
    "PNG 1-bit": (_save(BLACK_WHITE, "PNG"), _rgb(BLACK_WHITE), True),
    "TIFF RGB": (_save(RGB, "TIFF"), PIXELS, False),
    "TIFF RGB LZW": (_save(RGB, "TIFF", compression="tiff_lzw"), PIXELS, False),
    "TIFF RGB deflate big": (
        _save(RGB, "TIFF", compression="tiff_adobe_deflate", big_tiff=True),
        PIXELS,
        False,
    ),
    "TIFF RGBA": (_save(RGBA, "TIFF"), PIXELS, False),
    "TIFF RGB 16-bit": (_colour_16(".tiff"), PIXELS, False),
    "TIFF EXIF": (_with_orientation("TIFF", 6), np.rot90(PIXELS, -1), False),
    "TIFF grey": (_save(GREY, "TIFF"), _rgb(GREY), False),
    "TIFF grey 16-bit": (_save(Image.fromarray(GREY_16), "TIFF"), _rgb(GREY), False),
    "TIFF grey 16-bit LZW": (_cv2(".tiff", GREY_16), _rgb(GREY), False),
    "TIFF palette": (_save(PALETTE, "TIFF"), _rgb(PALETTE), False),
    "TIFF 1-bit": (_save(BLACK_WHITE, "TIFF"), _rgb(BLACK_WHITE), False),
    "WEBP lossless": (_save(RGB, "WEBP", lossless=True), PIXELS, False),
    "WEBP grey": (_save(GREY, "WEBP", lossless=True), _rgb(GREY), False),
    "WEBP with alpha": (_save(RGBA, "WEBP", lossless=True, exact=True), PIXELS, False),
    "WEBP EXIF": (_with_orientation("WEBP", 6, lossless=True), np.rot90(PIXELS, -1), False),
}

# name: (bytes, upright reference before compression, native)
LOSSY: dict[str, tuple[bytes, np.ndarray, bool]] = {
    "JPEG": (_save(RGB, "JPEG", quality=90), PIXELS, True),
    "JPEG subsampled": (_save(RGB, "JPEG", quality=90, subsampling=2), PIXELS, True),
    "JPEG progressive": (_save(RGB, "JPEG", quality=90, progressive=True), PIXELS, True),
    "JPEG fine": (_save(RGB, "JPEG", quality=100, subsampling=1), PIXELS, True),
    "JPEG stored as RGB": (_save(RGB, "JPEG", quality=90, keep_rgb=True), PIXELS, True),
    "JPEG grey": (_save(GREY, "JPEG", quality=90), _rgb(GREY), True),
    "JPEG CMYK": (_save(RGB.convert("CMYK"), "JPEG", quality=90), PIXELS, False),
    "JPEG EXIF 3": (_with_orientation("JPEG", 3, quality=90), np.rot90(PIXELS, 2), False),
    "JPEG EXIF 6": (_with_orientation("JPEG", 6, quality=90), np.rot90(PIXELS, -1), False),
    "JPEG EXIF 7": (_with_orientation("JPEG", 7, quality=90), np.rot90(PIXELS, 2).transpose(1, 0, 2), False),
    "WEBP": (_save(RGB, "WEBP", quality=90), PIXELS, False),
    "WEBP with alpha": (_save(RGBA, "WEBP", quality=90, exact=True), PIXELS, False),
}


def _decode_with_tensorflow(data: bytes) -> np.ndarray:
    return decode_native(tf.constant(data)).numpy()


@pytest.mark.parametrize("kind", EXACT)
def test_every_lossless_kind_gives_the_reference_pixels_on_both_ways(kind):
    data, reference, native = EXACT[kind]
    header = read_header(data)
    assert (header.format, header.native) == (kind.split()[0], native)
    assert bool(header.reason) != native
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (header.height, header.width, 3)
    np.testing.assert_array_equal(pixels, reference)
    np.testing.assert_array_equal(_decode_with_tensorflow(to_native(data)), pixels)
    assert (to_native(data) is data) == native


@pytest.mark.parametrize("kind", LOSSY)
def test_every_lossy_kind_gives_the_pixels_of_pillow_on_both_ways(kind):
    data, reference, native = LOSSY[kind]
    header = read_header(data)
    assert (header.format, header.native) == (kind.split()[0], native)
    pixels = decode(data)
    assert pixels.shape == (header.height, header.width, 3) == reference.shape
    np.testing.assert_array_equal(_decode_with_tensorflow(to_native(data)), pixels)
    if native or header.format == "WEBP":
        np.testing.assert_array_equal(_rgb(Image.open(io.BytesIO(data))), pixels)
    assert np.abs(pixels.astype(int) - reference).mean() < 6  # as near to the original as JPEG is


@pytest.mark.parametrize(
    "kind", ["BMP 8-bit palette", "BMP 4-bit", "BMP 32-bit other order", "BMP 1-bit", "TIFF RGB"]
)
def test_kinds_called_foreign_are_indeed_misread_by_tensorflow(kind):
    data, reference, _ = EXACT[kind]
    try:
        misread = _decode_with_tensorflow(data)
    except tf.errors.InvalidArgumentError:
        return
    assert np.abs(misread.astype(int) - reference).max() > 50


def test_real_images_decode_alike(real_data):
    cells = sorted((real_data / "cnmc_sample").glob("*.bmp"))[:3]
    smears = sorted((real_data / "aria" / "Original" / "Pro").glob("*.jpg"))[:5]
    for path in cells + smears:
        data = read_image_bytes(path)
        assert read_header(data).native
        np.testing.assert_array_equal(_decode_with_tensorflow(data), decode(data), err_msg=path.name)


# --- refusals


def _refuse(data: bytes, function: Callable = decode, **options) -> str:
    with pytest.raises(DecodingError, match=r"cells/bad\.img") as caught:
        function(data, name="cells/bad.img", **options)
    return str(caught.value)


TRUNCATED = [
    "BMP 24-bit",
    "BMP 8-bit palette",
    "BMP 1-bit",
    "PNG RGB",
    "PNG interlaced",
    "PNG 1-bit",
    "TIFF RGB",
    "TIFF RGB LZW",
    "WEBP lossless",
    "WEBP EXIF",
]


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("kind", TRUNCATED)
def test_truncated_lossless_files_are_refused_on_both_ways(kind, tenths):
    data = EXACT[kind][0]
    part = data[: len(data) * tenths // 10]
    assert "truncated" in _refuse(part) or tenths == 0
    _refuse(part, to_native)


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("kind", LOSSY)
def test_truncated_jpeg_is_refused_by_decode_and_by_tensorflow(kind, tenths):
    data = LOSSY[kind][0]
    part = data[: len(data) * tenths // 10]
    _refuse(part)
    with pytest.raises((DecodingError, tf.errors.InvalidArgumentError)):
        _decode_with_tensorflow(to_native(part))


@pytest.mark.parametrize(("kind", "bytes_of_header"), [("BMP 24-bit", 54), ("PNG RGB", 33), ("TIFF RGB", 8)])
def test_a_header_alone_is_refused(kind, bytes_of_header):
    _refuse(EXACT[kind][0][:bytes_of_header])


def test_an_empty_file_is_called_empty():
    assert "empty" in _refuse(b"")
    assert "empty" in _refuse(b"", read_header)


def test_a_flipped_bit_in_the_pixels_of_a_png_is_found():
    data = bytearray(EXACT["PNG RGB"][0])
    data[len(data) // 2] ^= 1
    assert "checksum" in _refuse(bytes(data))
    assert "checksum" in _refuse(bytes(data), to_native)


def _animated_png() -> bytes:
    return _save(RGB, "PNG", save_all=True, append_images=[GREY.convert("RGB")])


OTHERS = {
    "animated PNG": (_animated_png(), "animated"),
    "multi-page TIFF": (_save(RGB, "TIFF", save_all=True, append_images=[RGB]), "pages"),
    "GIF": (_save(PALETTE, "GIF"), "GIF"),
    "animated WebP": (
        _save(RGB, "WEBP", save_all=True, append_images=[GREY.convert("RGB")]),
        "animated WebP",
    ),
    "video": (b"RIFF\x10\0\0\0AVI LIST" + b"\0" * 40, "video"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG"),
    "XML": (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "SVG"),
    "DICOM": (b"\0" * 128 + b"DICM" + b"\0" * 50, "DICOM"),
    "PDF": (b"%PDF-1.7", "PDF"),
    "text": (b"not an image at all", "unknown"),
    "one byte": (b"B", "unknown"),
    "32-bit TIFF": (_save(Image.fromarray(GREY_16.astype(np.int32)), "TIFF"), "samples"),
    "float TIFF": (_save(Image.fromarray(GREY_16.astype(np.float32)), "TIFF"), "samples"),
    "BMP with two greys in 8 bits": (
        _bmp(np.asarray(BLACK_WHITE).astype(np.uint8), 8, palette=b"\0\0\0\0\xff\xff\xff\0")[:46]
        + struct.pack("<II", 2, 0)
        + _bmp(np.asarray(BLACK_WHITE).astype(np.uint8), 8, palette=b"\0\0\0\0\xff\xff\xff\0")[54:],
        "palette",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_refused_by_name_from_the_header_alone(kind):
    data, word = OTHERS[kind]
    for function in (read_header, decode, to_native):
        assert word in _refuse(data, function)


def _bmp_header_of(width: int, height: int) -> bytes:
    data = bytearray(_save(RGB, "BMP").ljust(2048, b"\0")[:2048])
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _webp_header_of(width: int, height: int) -> bytes:
    data = bytearray(EXACT["WEBP EXIF"][0])
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def _jpeg_header_of(width: int, height: int) -> bytes:
    data = bytearray(_save(RGB, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


BOMBS = {
    "JPEG 60,000": _jpeg_header_of(60_000, 60_000),
    "BMP 60,000": _bmp_header_of(60_000, 60_000),
    "BMP 20,000": _bmp_header_of(20_000, 20_000),
    "PNG 30,000": _png(b"\0" * 90_001, 8, 2, size=(30_000, 30_000)),
    "PNG 13,000": _png(b"\0" * 90_001, 8, 2, size=(13_000, 13_000)),
    "PNG 8,000": _png(b"\0" * 90_001, 8, 2, size=(8_000, 8_000)),
    "WebP 60,000": _webp_header_of(60_000, 60_000),
    "WebP 8,000": _webp_header_of(8_000, 8_000),
    "PNG one long row": _png(b"\0" * 90_001, 1, 0, size=(100_000, 1)),
}


@pytest.mark.parametrize("function", [read_header, decode, to_native])
@pytest.mark.parametrize("bomb", BOMBS)
def test_oversized_images_are_refused_undecoded_and_without_a_pillow_warning(bomb, function, monkeypatch):
    for decoder in ("PIL.ImageFile.ImageFile.load", "cv2.imdecode"):
        monkeypatch.setattr(decoder, lambda *_: pytest.fail("it was read to its end"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = _refuse(BOMBS[bomb], function)
    assert "pixels a side" in message


def test_refusing_a_whole_12000_pixel_png_keeps_memory_flat():
    program = """
import resource, struct, zlib
from kerasall.decoding import decode
from kerasall.errors import DecodingError
chunk = lambda k, b: struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b))
packer = zlib.compressobj(1)
rows = b"".join(packer.compress(b"\\0" * 36_001) for _ in range(12_000)) + packer.flush()
head = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
bomb = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(bomb)
except DecodingError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 50  # MiB


def test_limits_are_the_callers():
    data = EXACT["PNG RGB"][0]
    assert decode(data, Limits(max_side=WIDTH)).shape == (HEIGHT, WIDTH, 3)
    assert "at most 44 pixels a side" in _refuse(data, limits=Limits(max_side=44))
    assert "in all" in _refuse(data, limits=Limits(max_pixels=WIDTH * HEIGHT - 1))
    assert "bytes" in _refuse(data, limits=Limits(max_bytes=len(data) - 1))


def test_odd_metadata_neither_warn_nor_hide_the_pixels():
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\xff\xff\xff\xff\x06"
    data = _save(RGB, "JPEG", exif=exif)
    assert decode(data).shape == (HEIGHT, WIDTH, 3)


_EVERY_KIND = [data for data, *_ in (EXACT | LOSSY).values()]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(
    data=st.sampled_from(_EVERY_KIND),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=4),
    keep=st.integers(1, 100),
)
def test_whatever_is_broken_only_a_decoding_error_comes_out(data, flips, keep):
    broken = bytearray(data[: max(1, len(data) * keep // 100)])
    for position, mask in flips:
        broken[position % min(len(broken), 200)] ^= mask  # headers are where it hurts
    with contextlib.suppress(DecodingError):  # any other exception fails the test
        assert decode(bytes(broken), Limits(max_pixels=1_000_000)).ndim == 3


def header_or_refusal(data: bytes) -> object:
    try:
        return read_header(data, Limits(max_side=1 << 14))
    except DecodingError as error:
        return str(error)


def test_the_short_way_to_a_plain_bmp_header_finds_what_pillow_finds(monkeypatch):
    """Every byte of the header with bits turned over, files cut and with bytes at the end: the same, or refused."""

    plain, top_down = (
        EXACT["BMP 24-bit"][0],
        _bmp(_channels(*np.moveaxis(PIXELS[..., ::-1], 2, 0)), 24, top_down=True),
    )
    files = [plain[:-1], plain + b"\0", top_down, _save(RGB.crop((0, 0, 1, 1)), "BMP")]
    for position in range(54):
        for mask in (1, 2, 4, 16, 128, 255):
            for whole in (plain, top_down):
                files.append(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
    short = [header_or_refusal(data) for data in files]
    monkeypatch.setattr("kerasall.decoding.headers._find_plain_bmp_size", lambda data: None)
    assert short == [header_or_refusal(data) for data in files]


def test_the_short_way_to_a_plain_jpeg_header_finds_what_pillow_finds(monkeypatch):
    """Every byte before the scan with bits turned over, files cut, parts put in, twice and out of order."""

    colour, grey = (_save(RGB.convert(mode), "JPEG", quality=70) for mode in ("RGB", "L"))
    short_way = headers._find_plain_jpeg
    assert [short_way(data).mode for data in (colour, grey, colour + b"more")] == ["RGB", "L", "RGB"]
    whole_scan = colour[colour.find(b"\xff\xda") : -2]
    tables = colour[20 : colour.find(b"\xff\xc0")]
    exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" + bytes(6)
    adobe = b"\xff\xee\x00\x0eAdobe\0d\0\0\0\0\0"
    parts = (exif, adobe, tables, b"\xff\xfe\x00\x05abc", b"\xff\xdd\x00\x04\0\0", b"\xff", b"\0", whole_scan)
    files = [colour[:20] + part + colour[20:] for part in parts]
    files += [colour[:-2] + whole_scan * times + b"\xff\xd9" for times in (1, 200)]
    frame = colour[colour.find(b"\xff\xc0") : colour.find(b"\xff\xc4")]
    empty = frame[:5] + b"\0\0" + frame[7:], frame[:7] + b"\0\0" + frame[9:]
    files += [
        colour.replace(frame, each) for each in (frame + frame, frame + empty[0], empty[0] + frame, *empty)
    ]
    table = colour.find(b"\xff\xc4") + 2
    files += [colour[:table] + bytes([0, length]) + colour[table + 2 :] for length in range(4)]
    files += [_save(RGB, "JPEG", progressive=True), colour[:-2], colour.replace(b"\xff\xd9", tables)]
    for data in (colour, grey):
        scan = data.find(b"\xff\xda") + 14
        files += [data[:length] for length in range(scan + 3)]
        for mask in (1, 16, 255):
            files += [data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :] for at in range(scan)]
    short = [header_or_refusal(data) for data in files]
    monkeypatch.setattr(headers, "_find_plain_jpeg", lambda data: None)
    assert short == [header_or_refusal(data) for data in files]


@pytest.mark.parametrize("kind", ["BMP 24-bit", "BMP 32-bit with alpha", "PNG RGB", "JPEG"])
def test_pixels_are_written_into_the_array_that_was_given(kind):
    data = (EXACT | LOSSY)[kind][0]
    given = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
    pixels = decode(data, allocate=lambda shape: given[1].reshape(shape))
    np.testing.assert_array_equal(pixels, decode(data))
    assert np.shares_memory(pixels, given) == (kind.startswith("BMP") or kind == "JPEG")
    assert not given[::2].any()


@pytest.mark.parametrize("size", [(1, 1), (63, 5), (64, 7), (65, 4), (128, 3), (200, 33)])
@pytest.mark.parametrize("top_down", [False, True])
def test_a_bmp_of_any_height_is_turned_about_whole(size, top_down):
    pixels = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    data = bytearray(_save(Image.fromarray(pixels[::-1] if top_down else pixels), "BMP"))
    if top_down:
        data[22:26] = struct.pack("<i", -size[0])
    np.testing.assert_array_equal(decode(bytes(data)), pixels)


# --- files


def test_read_image_bytes_names_what_it_cannot_read(tmp_path):
    path = tmp_path / "cell.png"
    path.write_bytes(b"12345")
    assert read_image_bytes(path) == b"12345"
    (tmp_path / "link.png").symlink_to(tmp_path / "away.png")
    os.mkfifo(tmp_path / "pipe.png")
    for bad, word in (
        (tmp_path / "none.png", "does not exist"),
        (path / "below.png", "does not exist"),
        (tmp_path / "a\0b.png", "does not exist"),
        (tmp_path / "link.png", r"is a link to .*away\.png, which does not exist"),
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe.png", "not a regular file"),
    ):
        with pytest.raises(DecodingError, match=word):
            read_image_bytes(bad)
    with pytest.raises(DecodingError, match=r"cell\.png must have at most 4 bytes"):
        read_image_bytes(path, Limits(max_bytes=4))
    with pytest.raises(DecodingError, match="readable"):
        read_image_bytes(tmp_path / ("x" * 300))


def test_importing_decoding_loads_no_tensorflow():
    program = "import sys, kerasall.decoding; print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
    assert DEFAULT_LIMITS.max_pixels < Image.MAX_IMAGE_PIXELS  # beyond it Pillow's TIFF loading warns
