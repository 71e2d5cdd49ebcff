"""How the samples of a TIFF lie: which variants are read. Every other variant is refused with words.

A TIFF says in some twenty tags how its samples lie. Readers that pass over a tag they do not know give wrong pixels and no
error, so the tags are read here, each is held against what is known, and nothing is guessed. Tiles no larger than the image
asks for and at most eight samples a pixel bound what is unpacked (``kerasall.decoding.tiff_samples``).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerasall.errors import DecodingError

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AS_PNG = "save it as an 8-bit RGB PNG"
_EXPORT_AGAIN = "the file is truncated, corrupt or of an unusual kind; export it again as PNG"
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Type of a tag's values -> numpy's name, of unsigned integers."""
_TEXTS = (1, 2, 7)
PLAIN, _LZW, JPEG, _PACKBITS, LZMA, _ZSTANDARD = 1, 5, 7, 32773, 34925, 50000
DEFLATE = (8, 32946)
_WITH_PREDICTOR = (_LZW, *DEFLATE, LZMA, _ZSTANDARD)
_COMPRESSIONS = {
    2: "fax", 3: "fax", 4: "fax", 6: "old-style JPEG", 32771: "fax", 33003: "JPEG 2000", 33005: "JPEG 2000",
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL",
}  # fmt: skip
"""Names of compressions that are refused."""
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Photometric interpretation that is read -> samples of a pixel without extra ones: white is zero, black is zero, RGB,
palette, CMYK, YCbCr."""
WHITE_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 2, 3, 5, 6
_OTHER_COLOURS = {4: "a transparency mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a colour filter array",
                  32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}  # fmt: skip
_FORMATS = {2: "signed", 3: "floating-point", 4: "undefined", 5: "complex", 6: "complex"}
_ALPHA = (1, 2)
_MOST_SAMPLES = 8
_LARGE_TILE = 1024
"""Pixels of a tile's side up to which it may be larger than the image."""
_MOST_SHARED, _MOST_JPEGS, _LONGEST_TABLES = 4 << 20, 1 << 12, 8 << 10
"""Bytes that packed strips may have together beyond those of the file; JPEG strips, each of which costs a decoder's start;
bytes of the tables that each reads anew."""
_MOST_READ, _LONGEST_TEXT = 100, 1 << 18
"""Entries that are looked at, and bytes of a text."""


class _Refusal(ValueError):
    """What must hold and was found, to stand after the file's name."""


@dataclass(frozen=True, eq=False)
class TiffLayout:
    """How the samples of a TIFF's picture lie, all of it checked.

    Attributes:
        width, height: pixels, as stored.
        samples: of a pixel, extra ones among them.
        bits: of a sample: 1, 2, 4, 8 or 16.
        photometric: what they mean, a key of ``COLOURS``.
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
        if self.photometric == RGB:
            return "RGBA" if self.alpha else "RGB"
        if self.photometric in (PALETTE, CMYK, YCBCR):
            return {PALETTE: "P", CMYK: "CMYK", YCBCR: "YCbCr"}[self.photometric]
        return "1" if self.bits == 1 else "LA" if self.alpha else "I;16" if self.bits == 16 else "L"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.width, self.height


def read_layout(data: bytes, name: str) -> TiffLayout:
    """Reads and checks the tags; no pixel is unpacked.

    Args:
        data: the file's bytes, which begin with one of ``TIFF_SIGNATURES``.
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
    for index in np.flatnonzero(np.isin(entries["tag"], _READ_INTEGERS + _READ_TEXTS))[:_MOST_READ]:
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
    tables = next(iter(tags.texts.get(_TABLES, ())), b"")
    _require_strips_within(strips, compression, tables, len(data))
    orientation = _find_orientation(tags)
    return TiffLayout(
        width, height, samples, bits, photometric, orientation, bool(extra) and extra[0] in _ALPHA,
        tags.big_endian, compression, predictor, separate, tags.one(266, 1) == 2, 322 in tags.integers, tile, strips,
        _read_palette(tags, bits) if photometric == PALETTE else None, tables,
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
    elif photometric not in COLOURS:
        problem = f"samples that are {_OTHER_COLOURS.get(photometric, f'of colour space {photometric}')}"
    elif every[0] not in (1, 2, 4, 8, 16) or (photometric in (PALETTE, CMYK, YCBCR) and every[0] > 8):
        problem = f"samples of {every[0]} bits"
        problem += {PALETTE: " with a palette", CMYK: " in CMYK"}.get(photometric, "")
    elif photometric == CMYK and (every[0] != 8 or tags.one(332, 1) != 1):
        problem = "samples of other inks than 8-bit cyan, magenta, yellow and black"
    elif not COLOURS[photometric] <= samples <= _MOST_SAMPLES:
        problem = f"{samples} samples a pixel"
    if problem:
        raise _Refusal(f"must have 8- or 16-bit grey or colour samples, but has {problem}: {_AS_PNG}")
    extra = tags.all(338)
    count = samples - COLOURS[photometric]
    if photometric != RGB and count and not (count == 1 and len(extra) == 1 and extra[0] in _ALPHA):
        raise _Refusal(
            f"must have 8- or 16-bit grey or colour samples, but has {samples} channels without saying which one is meant: "
            "save the channel that is meant alone, or all as RGB"
        )
    return photometric, every[0], extra if count else []


def _check_packing(tags: _Tags, photometric: int, bits: int, samples: int) -> tuple[int, int]:
    compression, predictor = tags.one(259, PLAIN), tags.one(317, 1)
    problem = ""
    if compression not in (PLAIN, JPEG, _PACKBITS, *_WITH_PREDICTOR):
        problem = f"{_COMPRESSIONS.get(compression, 'unknown')} compression ({compression})"
    elif compression == JPEG and (bits != 8 or photometric == PALETTE):
        problem = f"JPEG strips of {bits} bits" if bits != 8 else "JPEG strips with a palette"
    elif compression == JPEG and not (samples in (1, 3) or tags.one(284, 1) == 2):
        problem = f"JPEG strips of {samples} samples a pixel"
    elif photometric == YCBCR and (compression != JPEG or samples != 3 or tags.one(284, 1) == 2):
        problem = "YCbCr samples that are not in JPEG strips"
    elif compression == JPEG:
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


def _require_strips_within(strips: np.ndarray, compression: int, tables: bytes, size: int) -> None:
    """Strips may share bytes, as blank tiles do, but each packed one is read anew: together they bound what that costs."""
    if int(strips.sum(axis=1).max()) > size:
        raise ValueError("it ends before its strips")
    if compression != PLAIN and int(strips[:, 1].sum()) > size + _MOST_SHARED:
        raise ValueError("its strips share more bytes than the file has")
    if len(tables) > _LONGEST_TABLES:
        raise ValueError(f"JPEG tables of {len(tables):,} bytes, of at most {_LONGEST_TABLES:,}")
    if compression == JPEG and len(strips) > _MOST_JPEGS:
        raise ValueError(f"{len(strips):,} JPEG strips, of at most {_MOST_JPEGS:,}")


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
