"""The samples of a TIFF exactly as stored, once its layout is known.

Of libraries is asked only to unpack: libtiff (through Pillow), zlib and lzma give the bytes of strips and tiles, ``damage`` the
pixels of JPEG ones. What a strip does not hold, or has of another size than the layout says, is an error.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from kerasall.decoding.damage import decode_jpeg
from kerasall.decoding.tiff_layout import (
    CMYK,
    COLOURS,
    DEFLATE,
    JPEG,
    LZMA,
    PLAIN,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    TiffLayout,
)

_MOST_SEGMENTS, _FEWEST_SEGMENTS = 1000, 60
"""Segments of all JPEG strips together; those that each may have nonetheless, which is twice what a progressive one has."""
_LZMA_MEMORY = 66 << 20  # the largest of the usual presets needs a little more than 64
_BATCH = 8 << 20
"""Bytes that strips may unpack to in one call of libtiff, where one strip has not more."""
_MOST_UNPACKED = 80_000_000
"""Bytes of that call, three times as many where four are a pixel: below what Pillow warns of, and takes."""
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


def read_samples(layout: TiffLayout, data: bytes) -> np.ndarray:
    """The picture as stored, not yet turned upright.

    Returns:
        uint8 or uint16 (of 16-bit samples): grey [H, W], black as zero; or RGB [H, W, 3]. Extra samples are dropped.

    Raises:
        ValueError: a strip does not unpack to what it must hold; also whatever broken data provoke in the libraries.
    """
    return _to_grey_or_rgb(_join_strips(layout, data), layout)


def _join_strips(layout: TiffLayout, data: bytes) -> np.ndarray:
    """Samples of the picture without extra ones: [H, W, 1, 3 or 4], uint8 or uint16."""
    kept = COLOURS[layout.photometric]
    (width, height), each = layout.tile, 1 if layout.separate else layout.samples
    across, down = math.ceil(layout.width / width), math.ceil(layout.height / height)
    picture = np.empty((layout.height, layout.width, kept), np.uint16 if layout.bits == 16 else np.uint8)
    strips = layout.strips[: across * down * (kept if layout.separate else 1)]
    rows = np.full(len(strips), height)
    if not layout.tiled:  # the last strip of each plane has what is left
        rows[down - 1 :: down] = layout.height - (down - 1) * height
    for index, values in _unpack_strips(layout, data, strips, rows, each):
        plane, place = divmod(index, across * down)
        top, left = place // across * height, place % across * width
        area = picture[top : top + height, left : left + width, plane : plane + min(each, kept)]
        area[...] = values[: area.shape[0], : area.shape[1], : area.shape[2]]
    return picture


def _unpack_strips(
    layout: TiffLayout, data: bytes, strips: np.ndarray, rows: np.ndarray, each: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Number of each strip and its samples, [rows, width of the tile, each]."""
    width, row_bytes = layout.tile[0], (layout.tile[0] * each * layout.bits + 7) // 8
    if layout.compression == JPEG:
        for index, ((start, length), count) in enumerate(zip(strips.tolist(), rows.tolist(), strict=True)):
            yield index, _read_jpeg_strip(layout, data[start : start + length], width, count, each)
        return
    for count in np.unique(rows).tolist():  # at most two: that of the last strip and that of the others
        every, step = np.flatnonzero(rows == count), max(1, _BATCH // (count * row_bytes))
        for chosen in (every[start : start + step] for start in range(0, len(every), step)):
            unpacked = _unpack_bytes(layout, data, strips[chosen], count * row_bytes)
            for index, packed in zip(chosen.tolist(), unpacked, strict=True):
                yield index, _to_samples(layout, packed.reshape(count, row_bytes), width, each)


def _unpack_bytes(layout: TiffLayout, data: bytes, strips: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The first ``size`` bytes that each strip unpacks to, uint8."""
    if layout.compression == PLAIN:
        if strips[:, 1].min() < size:
            raise ValueError(f"a strip of {strips[:, 1].min():,} bytes where {size:,} are needed")
        for start in strips[:, 0].tolist():
            found = np.frombuffer(data, np.uint8, size, start)
            yield _REVERSED[found] if layout.reversed_bits else found
        return
    if layout.compression in (*DEFLATE, LZMA):
        for start, length in strips.tolist():
            packed = np.frombuffer(data, np.uint8, length, start)
            packed = (_REVERSED[packed] if layout.reversed_bits else packed).tobytes()
            yield np.frombuffer(_inflate(packed, size, layout.compression == LZMA), np.uint8)
        return
    if size * len(strips) > (_MOST_UNPACKED if size % 4 else 3 * _MOST_UNPACKED):
        raise ValueError(
            f"a strip of {size:,} bytes, which is too large to unpack at once: save it in several strips"
        )
    rows = np.asarray(TiffImageFile(io.BytesIO(_make_tiff_of_bytes(layout, data, strips, size))))
    yield from rows.reshape(len(strips), size)


def _inflate(packed: bytes, size: int, is_lzma: bool) -> bytes:
    """The first ``size`` bytes. Not by libtiff, which does not look at checksums, and gives LZMA all memory it asks for."""
    if is_lzma:
        lzma_reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY)
        unpacked = lzma_reader.decompress(packed, size)
        ended = lzma_reader.eof or lzma_reader.decompress(b"", 1) or lzma_reader.eof
    else:
        reader = zlib.decompressobj()
        unpacked = reader.decompress(packed, size)
        ended = reader.decompress(reader.unconsumed_tail, 1) or reader.eof
    if len(unpacked) < size or not ended:
        raise ValueError("a strip that ends too early")
    return unpacked


def _make_tiff_of_bytes(layout: TiffLayout, data: bytes, strips: np.ndarray, size: int) -> bytes:
    """A TIFF each of whose rows is what one of the strips unpacks to, in pixels of four bytes if that is possible."""
    count, packed = len(strips), [data[start : start + length] for start, length in strips.tolist()]
    samples = 1 if size % 4 else 4
    values: dict[int, Any] = {
        256: [size // samples], 257: [count], 258: [8] * samples, 259: [layout.compression],
        262: [1 if samples == 1 else RGB], 266: [2 if layout.reversed_bits else 1], 273: None, 277: [samples],
        278: [1], 279: strips[:, 1],
    }  # fmt: skip
    lists = 8 + 2 + 12 * len(values) + 4
    pixels = lists + 4 * (2 * count + samples)  # more than the lists need
    values[273] = pixels + np.cumsum([0, *strips[:-1, 1].tolist()])
    directory, listed = struct.pack("<4sIH", b"II*\0", 8, len(values)), b""
    for tag, found in values.items():
        stored = np.asarray(found, "<u4").tobytes()
        directory += struct.pack("<HHI", tag, 4, len(found))
        directory += stored if len(stored) == 4 else struct.pack("<I", lists + len(listed))
        listed += stored if len(stored) > 4 else b""
    return b"".join([directory, b"\0" * 4, listed.ljust(pixels - lists, b"\0"), *packed])


def _to_samples(layout: TiffLayout, packed: np.ndarray, width: int, each: int) -> np.ndarray:
    """Bytes of whole rows [rows, bytes] -> samples [rows, width, each]."""
    values: Any = packed
    if layout.bits == 16:
        values = packed.view(">u2" if layout.big_endian else "<u2")
    elif layout.bits < 8:
        bits = np.unpackbits(packed, axis=1)[:, : width * each * layout.bits].reshape(
            len(packed), -1, layout.bits
        )
        values = bits @ (1 << np.arange(layout.bits, dtype=np.uint8)[::-1])
    values = values.reshape(len(packed), width, each)
    if layout.predictor == 2:
        values = np.add.accumulate(values, axis=1, dtype=values.dtype.newbyteorder("="))
    return values


def _read_jpeg_strip(layout: TiffLayout, strip: bytes, width: int, rows: int, each: int) -> np.ndarray:
    """Samples of a strip that is a JPEG of its own, but for the tables that all share."""
    # Whether the colours are YCbCr is for the TIFF to say; a JPEG's own marks, which might say otherwise, are left out.
    mark = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([layout.photometric == YCBCR])
    head, frame, scan = _split_jpeg(strip.rstrip(b"\0"))
    if not frame or frame[0] != width or frame[2] != each or not rows <= frame[1] <= layout.tile[1]:
        raise ValueError(f"a JPEG strip of {frame or 'no'} pixels where {width:,} x {rows:,} are meant")
    whole = b"".join([b"\xff\xd8", mark, *_split_jpeg(layout.tables)[0], *head, scan])
    most = max(_MOST_SEGMENTS // len(layout.strips), _FEWEST_SEGMENTS)
    return decode_jpeg(whole, (frame[0], frame[1]), most_segments=most)[..., :each]


def _split_jpeg(data: bytes) -> tuple[list[bytes], tuple[int, ...], bytes]:
    """Segments before the first scan without metadata; width, height and components of the frame; the rest."""
    head: list[bytes] = []
    frame: tuple[int, ...] = ()
    position = 2
    for _ in range(_FEWEST_SEGMENTS):
        if position >= len(data) - 2:  # tables have an end mark and no scan
            return head, frame, b""
        mark, kind, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF or kind == 0xDA:
            return head, frame, data[position:]
        if kind in (0xC0, 0xC1, 0xC2):
            frame = struct.unpack_from(">HHB", data, position + 5)
            frame = frame[1], frame[0], frame[2]
        if not 0xE0 <= kind <= 0xFE:  # of programs, and comments
            head.append(data[position : position + 2 + length])
        position += 2 + length
    raise ValueError("a JPEG strip of many segments")


# --- colours


def _to_grey_or_rgb(picture: np.ndarray, layout: TiffLayout) -> np.ndarray:
    if layout.palette is not None:
        return layout.palette[picture[..., 0]]
    colours = picture
    if layout.bits < 8:
        colours = picture * np.uint8(255 // ((1 << layout.bits) - 1))
    if layout.photometric == CMYK:
        return np.asarray(Image.fromarray(np.ascontiguousarray(colours), "CMYK").convert("RGB"))
    if layout.photometric == WHITE_IS_ZERO:
        colours = ~colours
    return colours[..., 0] if colours.shape[2] == 1 else colours
