"""A damaged file is refused on both ways; what is odd, but whole, is read on both ways, to equal pixels."""

from __future__ import annotations

import io
import itertools
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_files import SEEDS, judge, mutate
from PIL import Image

from kerasall.decoding import decode, to_native
from kerasall.errors import DecodingError

SIDE = 96


def _picture() -> Image.Image:
    """Something of every frequency, grown from smooth to rough."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    smooth = np.dstack([rows + columns, 2 * rows, 200 - columns])
    rough = np.random.default_rng(0).integers(-40, 40, smooth.shape) * (columns[..., None] / SIDE)
    return Image.fromarray(np.clip(smooth + rough, 0, 255).astype(np.uint8))


PICTURE = _picture()


def _save(kind: str, image: Image.Image = PICTURE, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _save("JPEG", quality=90, exif=exif)


JPEGS = {
    "baseline": _save("JPEG", quality=90),
    "fine": _save("JPEG", quality=95, subsampling=0),
    "own tables": _save("JPEG", quality=90, optimize=True),
    "restarts": _save("JPEG", quality=90, restart_marker_blocks=3),
    "progressive": _save("JPEG", quality=90, progressive=True),
    "progressive restarts": _save("JPEG", quality=90, progressive=True, restart_marker_rows=1),
    "grey": _save("JPEG", PICTURE.convert("L"), quality=95),
    "CMYK": _save("JPEG", PICTURE.convert("CMYK"), quality=90),
    "turned": _turned(),
}
BASELINE = [kind for kind in JPEGS if "progressive" not in kind]
PROGRESSIVE = [kind for kind in JPEGS if "progressive" in kind]
CLOSE = b"\xff\xd9"


def _scan(data: bytes) -> tuple[int, int]:
    """Where the codes of the first scan begin and, with what follows of further scans, end."""
    found = re.search(rb"\xff\xda(..)", data, re.DOTALL)
    assert found is not None
    return found.start() + 2 + int.from_bytes(found[1], "big"), len(data) - 2


def _refused(data: bytes) -> str:
    with pytest.raises(DecodingError, match="cells/bad") as caught:
        decode(data, name="cells/bad")
    with pytest.raises(DecodingError, match="cells/bad"):
        to_native(data, name="cells/bad")
    return str(caught.value)


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(kind, tenths):
    start, end = _scan(JPEGS[kind])
    place = start + (end - start) * tenths // 10
    cut = JPEGS[kind][:place]
    for data in (
        cut + CLOSE,
        cut + bytes(end - place),
        cut + b"\xff" * (end - place),
        cut + bytes(end - place) + CLOSE,
        cut + b"\xff" * (end - place) + CLOSE,
        cut + JPEGS[kind][end - 4 :],
    ):
        assert "copy or export it again" in _refused(data)


@pytest.mark.parametrize("tenths", range(1, 9))
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_with_a_hole_is_refused(kind, tenths):
    start, end = _scan(JPEGS[kind])
    place = start + (end - start) * tenths // 10
    before, after = JPEGS[kind][:place], JPEGS[kind][place + 400 :]
    _refused(before + after)
    _refused(before + b"\xff" * 400 + after)
    _refused(before + before[-400:] + JPEGS[kind][place:])


@pytest.mark.parametrize("tenths", range(1, 9))
@pytest.mark.parametrize("kind", BASELINE)
def test_a_stretch_of_zeros_in_a_jpeg_is_refused(kind, tenths):
    """One sector of a disk; in its codes a bit of zero is another step of a coefficient."""
    start, end = _scan(JPEGS[kind])
    place = start + (end - start) * tenths // 10
    _refused(JPEGS[kind][:place] + bytes(512) + JPEGS[kind][place + 512 :])


def test_black_areas_whose_codes_are_zeros_are_no_damage():
    black = Image.new("RGB", (640, 640))
    black.paste(PICTURE, (300, 300))
    data = _save("JPEG", black, optimize=True)
    assert bytes(64) in data
    assert judge(data) == "equal"


@pytest.mark.parametrize("kind", PROGRESSIVE)
def test_a_progressive_jpeg_without_its_last_scans_is_refused(kind):
    data = JPEGS[kind]
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    tables = [found.start() for found in re.finditer(rb"\xff\xc4", data)]
    assert len(scans) > 5
    for before, scan in itertools.pairwise(scans):
        end = min([place for place in tables if before < place < scan], default=scan)
        assert "a scan is missing" in _refused(data[:end] + CLOSE)
        following = min([place for place in (*tables, *scans) if place > scan], default=len(data) - 2)
        _refused(data[:scan] + data[following:])  # one out of the middle


def _one_scan_a_colour(order: tuple[int, ...] = (0, 1, 2)) -> bytes:
    """A baseline JPEG of three scans, made of three grey ones, which share their tables."""
    planes = [_save("JPEG", plane, quality=90) for plane in PICTURE.convert("YCbCr").split()]
    frame = re.search(rb"\xff\xc0\0\x0b\x08(....)\x01\x01\x11\0", planes[0], re.DOTALL)
    assert frame is not None
    colours = b"".join(bytes([number + 1, 0x11, 0]) for number in range(3))
    head = planes[0][: frame.start()] + b"\xff\xc0\0\x11\x08" + frame[1] + b"\3" + colours
    tables = planes[0][frame.end() : planes[0].index(b"\xff\xda")]
    scans = (
        b"\xff\xda\0\x08\1" + bytes([i + 1]) + b"\0\0\x3f\0" + planes[i][slice(*_scan(planes[i]))]
        for i in order
    )
    return head + tables + b"".join(scans) + CLOSE


def test_a_colour_that_never_came_is_refused():
    whole = _one_scan_a_colour()
    assert judge(whole) == judge(_one_scan_a_colour((2, 0, 1))) == "equal"
    assert np.abs(decode(whole).astype(int) - np.asarray(PICTURE)).mean() < 6
    for order in ((0,), (1, 2), (0, 2), (0, 1), (0, 1, 2, 0)):
        assert "a scan" in _refused(_one_scan_a_colour(order))


def _with_side(data: bytes, place: int, step: int) -> bytes:
    frame = re.search(rb"\xff[\xc0\xc2]\0", data)
    assert frame is not None
    side = frame.start() + place
    return (
        data[:side]
        + (int.from_bytes(data[side : side + 2], "big") + step).to_bytes(2, "big")
        + data[side + 2 :]
    )


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("place", [5, 7])
def test_a_jpeg_of_another_size_than_its_header_says_is_refused(kind, place):
    for step in (-32, 32, 400):  # by two blocks of every kind; within one, nothing tells
        _refused(_with_side(JPEGS[kind], place, step))


@pytest.mark.parametrize("kind", ["restarts", "progressive restarts"])
def test_restart_marks_that_lack_or_are_out_of_order_are_refused(kind):
    data = JPEGS[kind]
    marks = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    for mark in marks[:: len(marks) // 5]:
        number = data[mark + 1]
        _refused(data[:mark] + data[mark + 2 :])
        _refused(data[: mark + 1] + bytes([0xD0 + (number + 3) % 8]) + data[mark + 2 :])


@pytest.mark.parametrize("kind", JPEGS)
def test_garbage_before_the_end_of_a_jpeg_is_refused(kind):
    data = JPEGS[kind]
    for garbage in (b"abcdefghi", bytes(40), b"\x55" * 400):
        _refused(data[:-2] + garbage + CLOSE)


@pytest.mark.parametrize("kind", JPEGS)
def test_what_stands_behind_the_end_of_a_jpeg_does_no_harm(kind):
    """Phones append films and depth maps, disks fill up their sectors."""
    data = JPEGS[kind]
    for more in (b"\0", bytes(4096), b"\xff" * 100, b"MotionPhoto\0ftyp", data, _save("PNG"), b"\r\n"):
        assert judge(data + more) == "equal"
    np.testing.assert_array_equal(decode(data + bytes(100)), decode(data))
    assert judge(data[:2] + b"\xff\xff" + data[2:]) == "equal"  # fill bytes before a segment
    assert judge(data[:-2] + b"\xff\xff" + data[-2:]) == "equal"


def test_oddities_of_writers_that_hide_nothing_do_no_harm():
    data = JPEGS["baseline"]
    assert judge(data.replace(b"JFIF\0\1", b"JFIF\0\2")) == "equal"  # a version that libjpeg warns of
    _refused(data[:-200].replace(b"JFIF\0\1", b"JFIF\0\2") + CLOSE)
    frame, scan = re.escape(b"\x01\x22\0\x02\x11\1\x03\x11\1"), re.escape(b"\3\1\0\2\x11\3\x11\0")
    same = re.sub(frame, b"\x01\x22\0\x01\x11\1\x01\x11\1", data)
    same = re.sub(scan, b"\3\1\0\1\x11\1\x11\0", same)
    assert same.count(b"\x01\x11\1\x01\x11\1") == same.count(b"\3\1\0\1\x11\1\x11\0") == 1
    assert judge(same) == "equal"  # one number for all components
    _refused(same[:-200] + CLOSE)


@pytest.mark.parametrize("between", [b"", b"\xff\xfe\0\5abc", b"\xff\xe1\0\x10Exif\0\0II*\0\x08\0\0\0"])
def test_a_version_is_no_damage_wherever_it_stands(between):
    """Not at its usual place where other segments come first."""
    data = JPEGS["baseline"]
    assert judge(data[:2] + between + data[2:].replace(b"JFIF\0\1", b"JFIF\0\2")) == "equal"
    assert judge(data[:20] + data[2:20].replace(b"JFIF\0\1", b"JFIF\0\3") + between + data[20:]) == "equal"


def test_a_broken_colour_profile_is_no_damage():
    """Programs that lose a part of it leave the pixels alone."""
    data = JPEGS["progressive"]
    part = b"ICC_PROFILE\0\2\3" + bytes(50)
    profile = b"\xff\xe2" + (len(part) + 2).to_bytes(2, "big") + part
    assert judge(data[:20] + profile + profile + data[20:]) == "equal"
    _refused(data[:20] + profile + data[20:-200] + CLOSE)


@pytest.mark.parametrize("length", [1, 16, 64])
@pytest.mark.parametrize("kind", JPEGS)
def test_steps_of_zero_are_refused(kind, length):
    """What they stand for would be flat."""
    data = JPEGS[kind]
    place = data.index(b"\xff\xdb") + 5
    _refused(data[:place] + bytes(length) + data[place + length :])


def test_steps_of_two_bytes_may_hold_one_zero():
    data = JPEGS["baseline"]
    place = data.index(b"\xff\xdb")
    assert data[place + 2 : place + 4] == b"\0\x43"  # the first table has a segment of its own
    wide = b"".join(bytes([0, step]) for step in data[place + 5 : place + 69])
    wide_file = data[:place] + b"\xff\xdb\0\x83\x10" + wide + data[place + 69 :]
    assert judge(wide_file) == "equal"
    np.testing.assert_array_equal(decode(wide_file), decode(data))


def test_a_picture_of_several_is_read_as_its_first():
    many = _save("MPO", save_all=True, append_images=[PICTURE.rotate(180)], quality=90)
    assert judge(many) == "equal"
    assert many.count(b"\xff\xd9") >= 2
    np.testing.assert_array_equal(decode(many), np.asarray(Image.open(io.BytesIO(JPEGS["baseline"]))))


def test_a_jpeg_that_cannot_be_checked_says_so():
    frame = re.search(rb"\xff\xc0\0\x11.{5}\x03\x01(\x11)", JPEGS["fine"], re.DOTALL)
    assert frame is not None
    odd = JPEGS["fine"][: frame.start(1)] + b"\x42" + JPEGS["fine"][frame.end(1) :]
    assert "unusual colour sampling" in _refused(odd)
    lossless = JPEGS["grey"].replace(b"\xff\xc0\0\x0b", b"\xff\xc3\0\x0b")
    assert "save it as a PNG" in _refused(lossless)


def test_every_real_jpeg_is_whole(real_data):
    files = sorted(real_data.glob("*/**/*.jpg"))
    assert len(files) > 5000
    for path in files[::50]:
        data = path.read_bytes()
        assert to_native(data, name=str(path)) is data
        decode(data, name=str(path))


@pytest.mark.slow
def test_every_single_real_jpeg_is_whole(real_data):
    for path in sorted(real_data.glob("*/**/*.jpg")):
        to_native(path.read_bytes(), name=str(path))


# --- PNG


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(packed: bytes | None = None, *, before: bytes = b"", after: bytes = b"", head: bytes = b"", bits: int = 8,
         colour: int = 2) -> bytes:  # fmt: skip
    head = head or struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0)
    pixels = zlib.compress(_rows()) if packed is None else packed
    parts = (b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")
    start, middle, end = (_chunk(*part) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + start + before + (middle if pixels else b"") + after + end


def _rows(rows: int = SIDE) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in np.asarray(PICTURE)[:rows])


_PACKED = zlib.compress(_rows())
_HEAD = struct.pack(">IIBB", SIDE, SIDE, 8, 2)
DAMAGED_PNG = {
    "rows for 40 of 96": _png(zlib.compress(_rows(40))),
    "one row fewer": _png(zlib.compress(_rows(95))),
    "half a row fewer": _png(zlib.compress(_rows()[:-100])),
    "a row more": _png(zlib.compress(_rows() + _rows(1))),
    "no rows": _png(zlib.compress(b"")),
    "no pixels": _png(b""),
    "a compression that ends early": _png(_PACKED[:-300]),
    "a compression without its sum": _png(_PACKED[:-4]),
    "a wrong sum": _png(_PACKED[:-1] + bytes([_PACKED[-1] ^ 1])),
    "an unknown filter": _png(zlib.compress(b"\5" + _rows()[1:])),
    "an unknown filter below": _png(zlib.compress(_rows()[: 50 * 289] + b"\x07" + _rows()[50 * 289 + 1 :])),
    "no end": _png()[:-12],
    "a chunk between the pixels": _png(
        _PACKED[:500], after=_chunk(b"tEXt", b"a\0b") + _chunk(b"IDAT", _PACKED[500:])
    ),
    "an unknown chunk that matters": _png(before=_chunk(b"ABCD", b"?")),
    "two headers": _png(before=_chunk(b"IHDR", _HEAD + bytes(3))),
    "a palette behind the pixels": _png(after=_chunk(b"PLTE", bytes(6))),
    "two palettes": _png(before=2 * _chunk(b"PLTE", bytes(6))),
    "half a colour": _png(before=_chunk(b"PLTE", bytes(7))),
    "no palette": _png(zlib.compress(bytes(97 * 96)), colour=3),
    "a new compression": _png(head=_HEAD + b"\1\0\0"),
    "a new filter": _png(head=_HEAD + b"\0\1\0"),
    "a new order": _png(head=_HEAD + b"\0\0\2"),
    "interlaced, of one pass": _png(zlib.compress(_rows()[: 12 * 37]), head=_HEAD + b"\0\0\1"),
    "interlaced, as if it were not": _png(head=_HEAD + b"\0\0\1"),
    "a frame beside the picture": _png(before=_chunk(b"fcTL", struct.pack(">5I", 0, 8, 8, 4, 4) + bytes(6))),
    "a header too long": _png(head=_HEAD + bytes(4)),
}
WHOLE_PNG = {
    "empty chunks of pixels": _png(before=_chunk(b"IDAT", b""), after=_chunk(b"IDAT", b"")),
    "a chunk a byte": _png(
        _PACKED[500:], before=b"".join(_chunk(b"IDAT", bytes([byte])) for byte in _PACKED[:500])
    ),
    "bytes behind the compression": _png(_PACKED + b"abc"),
    "bytes behind the end": _png() + b"abc",
    "a palette to look at": _png(before=_chunk(b"PLTE", bytes(range(60)))),
    "a broken tRNS behind the pixels": _png(after=_chunk(b"tRNS", b"\0\1")),
    "a broken gAMA behind the pixels": _png(after=_chunk(b"gAMA", b"\0")),
    "an unknown chunk": _png(before=_chunk(b"abCd", b"?")),
    "indices beyond the palette": _png(
        zlib.compress(b"".join(b"\0" + bytes(range(96)) for _ in range(96))),
        before=_chunk(b"PLTE", bytes(range(30))),
        colour=3,
    ),
    "stored": _png(zlib.compress(_rows(), 0)),
}


@pytest.mark.parametrize("kind", DAMAGED_PNG)
def test_a_damaged_png_is_refused(kind):
    assert "whole image" in _refused(DAMAGED_PNG[kind]) or "header" in _refused(DAMAGED_PNG[kind])


@pytest.mark.parametrize("kind", WHOLE_PNG)
def test_an_odd_png_is_read_alike_on_both_ways(kind):
    assert judge(WHOLE_PNG[kind]) == "equal"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_rows_of_parts_of_a_byte_are_counted(bits):
    row = 1 + SIDE * bits // 8
    assert judge(_png(zlib.compress(bytes(row * SIDE)), bits=bits, colour=0)) == "equal"
    _refused(_png(zlib.compress(bytes(row * SIDE - 1)), bits=bits, colour=0))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 3), (5, 5), (7, 8), (9, 1), (33, 17)])
def test_passes_of_an_interlaced_png_are_counted(size):
    """Of small pictures some passes are empty: libpng, which has counted them, is asked for the truth."""
    head = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 1)
    seven = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    picture = np.zeros(size[::-1])
    passes = [picture[top::down, left::across] for left, top, across, down in seven]
    whole = sum(len(each) + each.size for each in passes if each.size)
    assert judge(_png(zlib.compress(bytes(whole)), head=head)) == "equal"
    for count in (0, whole - 1):
        assert judge(_png(zlib.compress(bytes(count)), head=head)) == "both refuse"
    _refused(_png(zlib.compress(bytes(whole + 1)), head=head))


def test_wrong_checksums_of_metadata_are_judged_alike():
    good = _chunk(b"tRNS", bytes(6))
    judge(_png(before=good[:-1] + b"?"))
    judge(_png(after=good[:-1] + b"?"))


# --- BMP

_BMP = _save("BMP")
_PALETTE_BMP = _save("BMP", PICTURE.quantize(200))


def _put(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + struct.pack("<i", value) + data[place + 4 :]


ODD_BMP = {
    "rows missing": _BMP[: -40 * 288],
    "a byte missing": _BMP[:-1],
    "pixels beyond the end": _put(_BMP, 10, len(_BMP) + 1),
    "pixels in the header": _put(_BMP, 10, 8),
    "pixels a little later": _put(_BMP, 10, 58),
    "a palette cut short": _put(_PALETTE_BMP, 46, 3),
    "a palette too long": _put(_PALETTE_BMP, 46, 300),
    "pixels in the palette": _put(_PALETTE_BMP, 10, 60),
    "palette, rows missing": _PALETTE_BMP[:-500],
    "upside down": _put(_BMP, 22, -SIDE),
    "palette, upside down": _put(_PALETTE_BMP, 22, -SIDE),
    "higher": _put(_BMP, 22, SIDE + 1),
    "lower": _put(_BMP, 22, SIDE - 1),
    "wider": _put(_BMP, 18, SIDE + 8),
    "no height": _put(_BMP, 22, 0),
    "no width": _put(_BMP, 18, 0),
    "negative width": _put(_BMP, 18, -SIDE),
    "another size of the file": _put(_BMP, 2, 10),
}
_WHOLE_BMP = ("upside down", "palette, upside down", "lower", "another size of the file",
              "a palette cut short", "pixels in the palette")  # fmt: skip


@pytest.mark.parametrize("kind", ODD_BMP)
def test_an_odd_bmp_is_judged_alike_on_both_ways(kind):
    assert judge(ODD_BMP[kind]) == "equal" or kind not in _WHOLE_BMP


# --- all kinds


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(SEEDS)), seed=st.integers(0, 2**32))
def test_training_and_the_graph_agree_on_whatever_they_are_given(name, seed):
    judge(mutate(random.Random(seed), name))


@pytest.mark.slow
def test_training_and_the_graph_agree_for_ten_minutes(tmp_path):
    program = [
        sys.executable,
        str(Path(__file__).with_name("mutated_files.py")),
        "--minutes",
        "10",
        "--keep",
        str(tmp_path / "kept"),
    ]
    answer = subprocess.run(
        [*program, "--report", str(tmp_path / "report.txt")], capture_output=True, text=True
    )
    report = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert answer.returncode == 0, report
    assert "0 faults" in report
