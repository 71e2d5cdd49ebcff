"""What a file is made of, counted before any reader sees it: parts, metadata, and sizes that a decoder takes from elsewhere.

Pillow reads what stands before the pixels part by part, in Python, some of it in quadratic time; a decoder makes room for
a tile whose size is not the image's. A file within ``Limits`` could so cost minutes or gigabytes. What is allowed here is
far above what cameras, scanners and editors write, and far below what hurts.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from PIL.JpegImagePlugin import MARKER, SOF

_MOST_PARTS, _MOST_ROWS = 1000, 5000
"""Segments of a JPEG, chunks of a WebP; chunks of a PNG, and one a KiB besides: some writers give each row its own."""
_MOST_SCANS, _MOST_LARGE_SCANS, _LARGE = 100, 20, 1 << 28
"""A progressive JPEG has about ten scans. Each costs a pass over all pixels, however few bytes it has."""
_MOST_PADDING = 64 << 10
_MOST_EXIF = 512 << 10
_MOST_TEXT = 8 << 20
_MOST_TAGS = 4096
_MOST_TILES, _MOST_TABLE, _LEAST_TILE = (
    25_000,
    3 << 16,
    1 << 20,
)  # three planes of 8,192 rows are 24,576 strips
_MOST_RUN_LENGTH_CODED = 1 << 19
"""Pixels and bytes of a run-length coded BMP, which Pillow decodes in Python."""

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_TABLE_MARKERS = (0xDB, 0xC4)
# Pillow takes these to be followed by a length; after any other it reads on byte by byte.
_SEGMENTS = frozenset(marker & 0xFF for marker, (_, _, handler) in MARKER.items() if handler)
_FRAMES = frozenset(marker & 0xFF for marker, (_, _, handler) in MARKER.items() if handler is SOF)

# Types of a TIFF's values: whole numbers with their codes, and those that are read as one piece whatever their count.
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_TEXTS = frozenset({1, 2, 6, 7})
_WIDTH, _HEIGHT, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 259, 322, 323
_TILES, _TABLES, _DIRECTORIES = (273, 279, 324, 325), (301, 320), (34665, 34853, 40965)
# What readers of pixels look up stands below; of a private tag only the bytes are taken.
_FIRST_PRIVATE = 1024


def find_excess(data: bytes) -> str:
    """What of a file no reader should meet, to stand after "must have"; "" where there is nothing.

    Reads what the file is made of, not pixels: microseconds for a usual one. A broken one is its reader's to refuse.

    Args:
        data: the file's bytes.
    """
    try:
        return next((check(data) for start, check in _CHECKS if data.startswith(start)), "")
    except struct.error:  # it ends within a part
        return ""


def _at_most(most: int, what: str) -> str:
    return f"at most {most:,} {what}, but has more"


def _check_jpeg(data: bytes) -> str:
    end, scans, padding, exif, tables, pixels = 2, 0, 0, 0, 0, 0
    head = len(data)
    for part, (start, marker, length) in enumerate(_find_segments(data), start=1):
        padding += start - end if head == len(data) else 0
        end = start + 2 + length
        if marker == _SOS:
            scans, head = scans + 1, min(head, start)
        elif marker in _TABLE_MARKERS:
            tables += length
        elif marker == _APP1 and data.startswith(b"Exif", start + 4):
            exif += length
        elif marker in _FRAMES:
            if pixels or length > 20:
                return "one frame of at most four components, but has more"
            height, width = (
                int.from_bytes(data[start + 5 : start + 7]),
                int.from_bytes(data[start + 7 : start + 9]),
            )
            pixels = max(width * height, 1)
        if part > _MOST_PARTS:
            return _at_most(_MOST_PARTS, "segments")
        if problem := _check_scans(scans, pixels):
            return problem
        if exif > _MOST_EXIF:
            return _at_most(_MOST_EXIF, "bytes of EXIF")
        if tables > _MOST_PADDING or padding > _MOST_PADDING:
            return _at_most(_MOST_PADDING, "bytes of tables, and of padding")
    if not scans and len(data) - end >= _MOST_PADDING:
        return _at_most(_MOST_PADDING, "bytes of tables, and of padding")
    return _at_most(_MOST_PARTS, "blocks of metadata") if data.count(b"8BIM", 0, head) > _MOST_PARTS else ""


def _find_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, marker, and length (0 where none follows) of each segment, up to the end mark after a scan."""
    position, scanned = 2, False
    while found := _MARKER.search(data, position, len(data) if scanned else position + _MOST_PADDING):
        marker = found[1][0]
        if marker == _EOI and scanned:
            return
        told = int.from_bytes(data[found.end() : found.end() + 2])
        length = max(told, 2) if marker in _SEGMENTS else 0
        yield found.end() - 2, marker, length
        position, scanned = found.end() + length, scanned or marker == _SOS


def _check_scans(scans: int, pixels: int) -> str:
    most = _MOST_SCANS if scans * pixels <= _LARGE else _MOST_LARGE_SCANS
    return _at_most(most, "scans") if scans > most else ""


def _check_png(data: bytes) -> str:
    position, text, most = 8, 0, _MOST_ROWS + len(data) // 1024
    for _ in range(most):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf" and length > _MOST_EXIF:
            return _at_most(_MOST_EXIF, "bytes of EXIF")
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            text += length
            if kind != b"tEXt":
                text += _count_inflated(data[position + 8 : position + 8 + min(length, _MOST_TEXT)], kind)
            if text > _MOST_TEXT:
                return _at_most(_MOST_TEXT, "bytes of text and profiles")
        position += 12 + length
        if kind == b"IEND":
            return ""
    return _at_most(most, "chunks")


def _count_inflated(chunk: bytes, kind: bytes) -> int:
    """Bytes that a chunk's compressed part becomes; no more than a reader of a few MiB would take."""
    fields = chunk.split(b"\0", 1 if kind != b"iTXt" else 4)
    packed = fields[-1][1:] if kind != b"iTXt" else fields[-1]
    try:
        return len(zlib.decompressobj().decompress(packed, _MOST_TEXT))
    except zlib.error:
        return 0


def _check_webp(data: bytes) -> str:
    position, frames = 12, 0
    for _ in range(_MOST_PARTS):
        kind, length = struct.unpack_from("<4sI", data, position)
        frames += kind == b"ANMF"
        if frames > 1:
            return "one picture, but is an animated WebP"
        if kind == b"EXIF" and length > _MOST_EXIF:
            return _at_most(_MOST_EXIF, "bytes of EXIF")
        position += 8 + length + length % 2
    return _at_most(_MOST_PARTS, "chunks")


def _check_bmp(data: bytes) -> str:
    size, width, height, _, _, compression = struct.unpack_from("<IiiHHI", data, 14)
    if size < 40 or compression not in (1, 2):
        return ""
    if max(abs(width * height), len(data)) > _MOST_RUN_LENGTH_CODED:
        return _at_most(_MOST_RUN_LENGTH_CODED, "pixels and bytes where it is a run-length coded BMP")
    return ""


def _check_tiff(data: bytes) -> str:
    """Only the first directory: a file of several pages is refused whatever the others hold."""
    order, big = "<" if data.startswith(b"I") else ">", data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    values: dict[int, int] = {}
    tiles = 1
    for tag, kind, count, value in _find_tags(data, order, big, start):
        most = _count_allowed(tag)
        if count > most and kind not in _TEXTS:
            return _at_most(most, "tags" if tag < 0 else f"values in tag {tag}")
        if tag in _DIRECTORIES and tag not in values:
            numbers = [
                found for _, kind, found, _ in _find_tags(data, order, big, value) if kind not in _TEXTS
            ]
            if sum(numbers) > _MOST_TAGS:
                return _at_most(_MOST_TAGS, "values of EXIF")
        values.setdefault(tag, value)
        tiles = max(tiles, count) if tag in _TILES else tiles
    area = max(values.get(_WIDTH, 0) * values.get(_HEIGHT, 0), _LEAST_TILE)
    if values.get(_TILE_WIDTH, 0) * values.get(_TILE_HEIGHT, 0) > 2 * area:
        return "tiles no larger than its picture, but has larger ones"
    if values.get(_COMPRESSION) in (6, 7):  # JPEGs within, of one scan or three
        return _check_scans(data.count(b"\xff\xda") - 3 * tiles, area)
    return ""


def _find_tags(data: bytes, order: str, big: bool, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and first value (or its place) of each entry; first, as tag -1, how many entries there are.

    A directory that is cut ends where the file does, as its readers have it.
    """
    head = order + ("Q" if big else "H")
    if start + struct.calcsize(head) > len(data):
        return
    (entries,) = struct.unpack_from(head, data, start)
    yield -1, 4, entries, 0
    first, size, form = (start + 8, 20, "HHQ") if big else (start + 2, 12, "HHI")
    for position in range(first, min(first + size * min(entries, _MOST_TAGS), len(data) - size + 1), size):
        tag, kind, count = struct.unpack_from(order + form, data, position)
        inline = size - struct.calcsize(order + form)
        code = (
            _CODES.get(kind, "") if count * struct.calcsize(order + _CODES.get(kind, "Q")) <= inline else ""
        )
        (value,) = struct.unpack_from(order + (code or ("Q" if big else "I")), data, position + size - inline)
        yield tag, kind, count, value


def _count_allowed(tag: int) -> int:
    if tag in _TILES:
        return _MOST_TILES
    if tag in _TABLES:
        return _MOST_TABLE
    return _MOST_TAGS if tag < _FIRST_PRIVATE else 1 << 62


_CHECKS = (
    (b"\xff\xd8\xff", _check_jpeg),
    (b"\x89PNG\r\n\x1a\n", _check_png),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _check_tiff),
    (b"BM", _check_bmp),
    (b"RIFF", _check_webp),
)
