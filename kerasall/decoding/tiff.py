"""TIFF: which variants are read, and their samples exactly as stored. Every other variant is refused with words.

A TIFF says in some twenty tags how its samples lie. Readers that pass over a tag they do not know give wrong pixels and no
error, so the tags are read here, each is held against what is known, and nothing is guessed. Of a library is asked only
to unpack: libtiff (through Pillow), zlib and lzma give the bytes of strips and tiles, OpenCV the pixels of JPEG ones. A
tile's size, the number of samples and what a strip unpacks to are bounded before anything is unpacked.
"""

from __future__ import annotations

import io
import lzma
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from kerasall.errors import DecodingError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AS_PNG = "save it as an 8-bit RGB PNG"
_EXPORT_AGAIN = "the file is truncated, corrupt or of an unusual kind; export it again as PNG"
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Type of a tag's values -> numpy's name, of unsigned integers."""
_TEXTS = (1, 2, 7)
_NONE, _LZW, _JPEG, _PACKBITS, _LZMA, _ZSTANDARD = 1, 5, 7, 32773, 34925, 50000
_DEFLATE = (8, 32946)
_WITH_PREDICTOR = (_LZW, *_DEFLATE, _LZMA, _ZSTANDARD)
_COMPRESSIONS = {
    2: "fax", 3: "fax", 4: "fax", 6: "old-style JPEG", 32771: "fax", 33003: "JPEG 2000", 33005: "JPEG 2000",
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL",
}  # fmt: skip
"""Names of compressions that are refused."""
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Photometric interpretation that is read -> samples of a pixel without extra ones: white is zero, black is zero, RGB,
palette, CMYK, YCbCr."""
_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_OTHER_COLOURS = {4: "a transparency mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a colour filter array",
                  32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}  # fmt: skip
_FORMATS = {2: "signed", 3: "floating-point", 4: "undefined", 5: "complex", 6: "complex"}
_ALPHA = (1, 2)
_MOST_SAMPLES = 8
_LARGE_TILE = 1024
"""Pixels of a tile's side up to which it may be larger than the image."""
_MOST_SEGMENTS = 100
"""Segments of a JPEG strip before its frame header, at most; as many of the tags that are read."""
_LONGEST_TEXT = 1 << 18
_LZMA_MEMORY = 64 << 20
_BATCH = 8 << 20
"""Bytes that strips may unpack to in one call of libtiff, where one strip has not more."""
_MOST_UNPACKED = 80_000_000
"""Bytes of that call, three times as many where four are a pixel: below what Pillow warns of, and takes."""
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


class _Refusal(ValueError):
    """What must hold and was found, to stand after the file's name."""


@dataclass(frozen=True, eq=False)
class TiffLayout:
    """How the samples of a TIFF's picture lie, all of it checked.

    Attributes:
        width, height: pixels, as stored.
        samples: of a pixel, extra ones among them.
        bits: of a sample: 1, 2, 4, 8 or 16.
        photometric: what they mean, a key of ``_COLOURS``.
        orientation: 1 (upright) to 8.
        alpha: whether the first extra sample is one.
        big_endian: order of the bytes of a sample.
        compression, predictor: how strips are packed.
        separate: whether each sample has strips of its own.
        reversed_bits: whether a byte's first bit is its lowest.
        tiled: whether there are tiles, which are whole at the edges too.
        tile: width and height of a strip or tile.
        strips: where each lies in the file, and its bytes, int64 [n, 2].
        palette: uint8 [2 ** bits, 3], or None.
        tables: what the JPEG strips share.
    """

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    orientation: int
    alpha: bool
    big_endian: bool
    compression: int
    predictor: int
    separate: bool
    reversed_bits: bool
    tiled: bool
    tile: tuple[int, int]
    strips: np.ndarray
    palette: np.ndarray | None
    tables: bytes

    @property
    def mode(self) -> str:
        """Pillow's name of samples of this kind."""
        if self.photometric == _RGB:
            return "RGBA" if self.alpha else "RGB"
        if self.photometric in (_PALETTE, _CMYK, _YCBCR):
            return {_PALETTE: "P", _CMYK: "CMYK", _YCBCR: "YCbCr"}[self.photometric]
        return "1" if self.bits == 1 else "LA" if self.alpha else "I;16" if self.bits == 16 else "L"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.width, self.height


def read_layout(data: bytes, name: str) -> TiffLayout:
    """Reads and checks the tags; no pixel is unpacked.

    Args:
        data: the file's bytes, which begin with one of ``SIGNATURES``.
        name: how messages call the image.

    Raises:
        DecodingError: a broken header, several pictures, or a variant that is not read.
    """
    try:
        return _check_tags(_read_tags(data), data)
    except _Refusal as refusal:
        raise DecodingError(f"{name} {refusal}") from None
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DecodingError(
            f"{name} must be an image, but its header cannot be read ({found:.160}): {_EXPORT_AGAIN}"
        ) from None


def read_samples(layout: TiffLayout, data: bytes) -> np.ndarray:
    """The picture as stored, not yet turned upright.

    Returns:
        uint8 or uint16 (of 16-bit samples): grey [H, W], black as zero; or RGB [H, W, 3]. Extra samples are dropped.

    Raises:
        ValueError: a strip does not unpack to what it must hold; also whatever broken data provoke in the libraries.
    """
    return _to_grey_or_rgb(_join_strips(layout, data), layout)


# --- tags


@dataclass(frozen=True, eq=False)
class _Tags:
    """Tag -> values of one directory: integers as numpy arrays, texts as bytes."""

    integers: Mapping[int, np.ndarray]
    texts: Mapping[int, Sequence[bytes]]
    big_endian: bool

    def one(self, tag: int, default: int | None = None) -> int:
        values = self.integers.get(tag)
        if values is None and default is not None:
            return default
        if values is None or len(values) != 1:
            raise ValueError(f"tag {tag} must have one value")
        return int(values[0])

    def all(self, tag: int, default: tuple[int, ...] = ()) -> list[int]:
        values = self.integers.get(tag)
        return list(default) if values is None else values.tolist()


_READ_INTEGERS = (254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330,
                  332, 338, 339, 32997, 32998, 33629)  # fmt: skip
_READ_TEXTS = (270, 347, 700)
_DESCRIPTION, _TABLES, _XMP = _READ_TEXTS


def _read_tags(data: bytes) -> _Tags:
    """The tags of the first directory that say how the picture lies; all others are passed over."""
    order, is_big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    if is_big and struct.unpack_from(f"{order}HH", data, 4) != (8, 0):
        raise ValueError("offsets that are not of 8 bytes")
    number, offset = (f"{order}Q", f"{order}u8") if is_big else (f"{order}H", f"{order}u4")
    (start,) = (
        struct.unpack_from(f"{order}Q", data, 8) if is_big else struct.unpack_from(f"{order}I", data, 4)
    )
    (count,) = struct.unpack_from(number, data, start)
    entry = np.dtype([("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", offset), ("value", offset)])
    start += struct.calcsize(number)
    entries = np.frombuffer(data, entry, count, start)
    (following,) = np.frombuffer(data, offset, 1, start + count * entry.itemsize)
    if following:
        raise _Refusal(
            "must hold one picture, but is a TIFF of several pages: save the picture that is meant alone"
        )
    integers: dict[int, np.ndarray] = {}
    texts: dict[int, list[bytes]] = {}
    for index in np.flatnonzero(np.isin(entries["tag"], _READ_INTEGERS + _READ_TEXTS))[:_MOST_SEGMENTS]:
        tag, kind, length, value = (int(entries[index][field]) for field in ("tag", "type", "count", "value"))
        place = start + int(index) * entry.itemsize + entry.fields["value"][1]  # type: ignore[index]
        is_text = tag in _READ_TEXTS
        if kind not in (_TEXTS if is_text else _INTEGERS):
            raise ValueError(f"tag {tag} is of type {kind}")
        stored = np.dtype("u1" if is_text else f"{order}{_INTEGERS[kind]}")
        place = value if length * stored.itemsize > entry["value"].itemsize else place
        values = np.frombuffer(data, stored, length, place) if length else np.empty(0, stored)
        if is_text:
            texts.setdefault(tag, []).append(values[:_LONGEST_TEXT].tobytes())
        elif integers.setdefault(tag, values) is not values:
            raise ValueError(f"tag {tag} stands there twice")
    return _Tags(integers, texts, order == ">")


def _check_tags(tags: _Tags, data: bytes) -> TiffLayout:
    width, height, samples = tags.one(256), tags.one(257), tags.one(277, 1)
    if width < 1 or height < 1:
        raise _Refusal(f"must have at least 1 x 1 pixels, but its header says {width} x {height}")
    _require_one_picture(tags, width * height * samples, samples)
    photometric, bits, extra = _check_samples(tags, samples)
    compression, predictor = _check_packing(tags, photometric, bits, samples)
    separate = samples > 1 and tags.one(284, 1) == 2
    if tags.one(284, 1) not in (1, 2) or tags.one(266, 1) not in (1, 2):
        raise ValueError("planes or bits in no known order")
    tile = _check_tile(tags, width, height)
    strips = _check_strips(
        tags, math.ceil(width / tile[0]) * math.ceil(height / tile[1]) * (samples if separate else 1)
    )
    if len(strips) and int(strips.sum(axis=1).max()) > len(data):
        raise ValueError("it ends before its strips")
    orientation = _find_orientation(tags)
    return TiffLayout(
        width, height, samples, bits, photometric, orientation, bool(extra) and extra[0] in _ALPHA,
        tags.big_endian, compression, predictor, separate, tags.one(266, 1) == 2, 322 in tags.integers, tile, strips,
        _read_palette(tags, bits) if photometric == _PALETTE else None, next(iter(tags.texts.get(_TABLES, ())), b""),
    )  # fmt: skip


def _require_one_picture(tags: _Tags, values: int, samples: int) -> None:
    """Refuses stacks that lie behind a single directory, and pictures that are a mask or a preview of another one."""
    found = _find_stack(tags.texts.get(_DESCRIPTION, ()), values, samples)
    if max(tags.one(32997, 1), tags.one(32998, 1)) > 1 or len(tags.all(33629)) > 1:
        found = "a stack of several planes"
    kind = tags.one(254, 0)
    if kind & 4:
        found = "a transparency mask"
    elif (kind & 1 or tags.one(255, 1) == 2) and 330 in tags.integers:
        found = "the preview of a picture that lies elsewhere in it"
    if found:
        raise _Refusal(f"must hold one picture, but is {found}: save the picture that is meant alone")


def _find_stack(descriptions: Sequence[bytes], values: int, samples: int) -> str:
    """What ImageJ, OME and tifffile write where one directory stands for several pages of the same shape."""
    for text in descriptions:
        images = re.match(rb"ImageJ=.{0,2000}?\nimages=(\d{1,9})", text, re.DOTALL)
        if images and int(images[1]) > 1:
            return f"an ImageJ stack of {int(images[1])} pages"
        shape = re.match(rb'\{"shape": \[([\d, ]{1,200})\]', text)
        if shape and math.prod(map(int, shape[1].split(b","))) > values:
            return "a stack of several pages"
        pixels = re.search(rb"<(?:\w+:)?Pixels\b[^>]{1,4000}", text[:100_000])
        planes = [int(n) for n in re.findall(rb'Size[ZCT]="(\d{1,9})"', pixels[0])] if pixels else []
        if math.prod(planes) > samples:
            return f"one of {math.prod(planes)} pages of an OME picture"
    return ""


def _check_samples(tags: _Tags, samples: int) -> tuple[int, int, list[int]]:
    """Photometric interpretation, bits of a sample, and the kinds of the extra ones."""
    photometric, every, formats = tags.one(262), tags.all(258, (1,)), tags.all(339, (1,))
    problem = ""
    if other := [f for f in formats if f != 1]:
        problem = f"{_FORMATS.get(other[0], 'unknown')} samples"
    elif len(set(every)) != 1 or len(every) not in (1, samples):
        problem = "samples of " + " and ".join(map(str, sorted(set(every)))) + " bits"
    elif photometric not in _COLOURS:
        problem = f"samples that are {_OTHER_COLOURS.get(photometric, f'of colour space {photometric}')}"
    elif every[0] not in (1, 2, 4, 8, 16) or (photometric in (_PALETTE, _CMYK, _YCBCR) and every[0] > 8):
        problem = f"samples of {every[0]} bits"
        problem += {_PALETTE: " with a palette", _CMYK: " in CMYK"}.get(photometric, "")
    elif photometric == _CMYK and (every[0] != 8 or tags.one(332, 1) != 1):
        problem = "samples of other inks than 8-bit cyan, magenta, yellow and black"
    elif not _COLOURS[photometric] <= samples <= _MOST_SAMPLES:
        problem = f"{samples} samples a pixel"
    if problem:
        raise _Refusal(f"must have 8- or 16-bit grey or colour samples, but has {problem}: {_AS_PNG}")
    extra = tags.all(338)
    count = samples - _COLOURS[photometric]
    if photometric != _RGB and count and not (count == 1 and len(extra) == 1 and extra[0] in _ALPHA):
        raise _Refusal(
            f"must have 8- or 16-bit grey or colour samples, but has {samples} channels without saying which one is meant: "
            "save the channel that is meant alone, or all as RGB"
        )
    return photometric, every[0], extra if count else []


def _check_packing(tags: _Tags, photometric: int, bits: int, samples: int) -> tuple[int, int]:
    compression, predictor = tags.one(259, _NONE), tags.one(317, 1)
    problem = ""
    if compression not in (_NONE, _JPEG, _PACKBITS, *_WITH_PREDICTOR):
        problem = f"{_COMPRESSIONS.get(compression, 'unknown')} compression ({compression})"
    elif compression == _JPEG and (bits != 8 or photometric == _PALETTE):
        problem = f"JPEG strips of {bits} bits" if bits != 8 else "JPEG strips with a palette"
    elif compression == _JPEG and not (samples in (1, 3) or tags.one(284, 1) == 2):
        problem = f"JPEG strips of {samples} samples a pixel"
    elif photometric == _YCBCR and (compression != _JPEG or samples != 3 or tags.one(284, 1) == 2):
        problem = "YCbCr samples that are not in JPEG strips"
    elif compression == _JPEG:
        predictor = 1  # readers agree to pass over it
    elif predictor != 1 and (predictor != 2 or bits < 8 or compression not in _WITH_PREDICTOR):
        problem = f"predictor {predictor} with compression {compression} and {bits}-bit samples"
    if problem:
        raise _Refusal(f"must be packed in a way that is read alike everywhere, but has {problem}: {_AS_PNG}")
    return compression, predictor


def _check_tile(tags: _Tags, width: int, height: int) -> tuple[int, int]:
    if 322 not in tags.integers and 324 not in tags.integers:
        return width, min(max(tags.one(278, height), 1), height)
    if 273 in tags.integers:
        raise ValueError("both strips and tiles")
    tile = tags.one(322), tags.one(323)
    for side, whole in zip(tile, (width, height), strict=True):
        if side < 16 or side % 16 or side > max(_LARGE_TILE, whole + 15):
            raise ValueError(
                f"tiles of {tile[0]:,} x {tile[1]:,} pixels in an image of {width:,} x {height:,}"
            )
    return tile


def _check_strips(tags: _Tags, count: int) -> np.ndarray:
    names = (324, 325) if 324 in tags.integers else (273, 279)
    offsets, lengths = (tags.integers.get(name, np.empty(0, np.int64)) for name in names)
    if len(offsets) != count or len(lengths) != count:
        raise ValueError(f"{len(offsets)} places and {len(lengths)} lengths for {count} strips")
    strips = np.stack([offsets, lengths], axis=1)
    if not count or strips.min() < 1 or strips.max() > 1 << 40:
        raise ValueError("a strip that is missing")
    return strips.astype(np.int64)


def _find_orientation(tags: _Tags) -> int:
    found = tags.all(274)
    if not found and (packet := b"".join(tags.texts.get(_XMP, ()))):
        stated = re.search(rb"tiff:Orientation(?:=\"|>)([1-8])[\"<]", packet)
        found = [int(stated[1])] if stated else []
    return found[0] if len(found) == 1 and 1 <= found[0] <= 8 else 1


def _read_palette(tags: _Tags, bits: int) -> np.ndarray:
    entries = tags.integers.get(320, np.empty(0, np.uint16))
    if len(entries) != 3 << bits:
        raise ValueError(f"a palette of {len(entries)} values for {bits} bits")
    # Some programs write 0 to 255 where 0 to 65535 is meant; libtiff's own tools read them so too.
    values = entries if entries.max() < 256 else entries >> 8
    return values.reshape(3, -1).T.astype(np.uint8)


# --- strips


def _join_strips(layout: TiffLayout, data: bytes) -> np.ndarray:
    """Samples of the picture without extra ones: [H, W, 1, 3 or 4], uint8 or uint16."""
    kept = _COLOURS[layout.photometric]
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
    if layout.compression == _JPEG:
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
    if layout.compression == _NONE:
        if strips[:, 1].min() < size:
            raise ValueError(f"a strip of {strips[:, 1].min():,} bytes where {size:,} are needed")
        for start in strips[:, 0].tolist():
            found = np.frombuffer(data, np.uint8, size, start)
            yield _REVERSED[found] if layout.reversed_bits else found
        return
    if layout.compression in (*_DEFLATE, _LZMA):
        for start, length in strips.tolist():
            packed = np.frombuffer(data, np.uint8, length, start)
            packed = (_REVERSED[packed] if layout.reversed_bits else packed).tobytes()
            yield np.frombuffer(_inflate(packed, size, layout.compression == _LZMA), np.uint8)
        return
    if size * len(strips) > (_MOST_UNPACKED if size % 4 else 3 * _MOST_UNPACKED):
        raise ValueError(f"a strip of {size:,} bytes, which is too large to unpack at once: save it in several strips")
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
        262: [1 if samples == 1 else _RGB], 266: [2 if layout.reversed_bits else 1], 273: None, 277: [samples],
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
    import cv2  # a part of a second, which the command line need not wait for

    # Adobe's mark says what the TIFF does of the colours: a reader would else guess it from the numbers of components.
    mark = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([layout.photometric == _YCBCR])
    whole = b"\xff\xd8" + mark + layout.tables[2:].removesuffix(b"\xff\xd9") + strip.rstrip(b"\0")[2:]
    if not whole.endswith(b"\xff\xd9"):
        raise ValueError("a JPEG strip without its end")
    found = _find_jpeg_frame(whole)
    if found[0] != width or found[2] != each or not rows <= found[1] <= layout.tile[1]:
        raise ValueError(
            f"a JPEG strip of {found[0]:,} x {found[1]:,} pixels where {width:,} x {rows:,} are meant"
        )
    flags = cv2.IMREAD_GRAYSCALE if each == 1 else cv2.IMREAD_COLOR_RGB
    pixels = cv2.imdecode(np.frombuffer(whole, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return pixels.reshape(found[1], width, each)


def _find_jpeg_frame(data: bytes) -> tuple[int, int, int]:
    """Width, height and components that a JPEG's frame header tells."""
    position = 2
    for _ in range(_MOST_SEGMENTS):
        mark, kind, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF:
            break
        if kind in (0xC0, 0xC1, 0xC2):
            _, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            return width, height, components
        position += 2 + length
    raise ValueError("a JPEG strip without a frame")


# --- colours


def _to_grey_or_rgb(picture: np.ndarray, layout: TiffLayout) -> np.ndarray:
    if layout.palette is not None:
        return layout.palette[picture[..., 0]]
    colours = picture
    if layout.bits < 8:
        colours = picture * np.uint8(255 // ((1 << layout.bits) - 1))
    if layout.photometric == _CMYK:
        return np.asarray(Image.fromarray(np.ascontiguousarray(colours), "CMYK").convert("RGB"))
    if layout.photometric == _WHITE_IS_ZERO:
        colours = ~colours
    return colours[..., 0] if colours.shape[2] == 1 else colours
