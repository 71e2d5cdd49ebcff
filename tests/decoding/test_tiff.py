"""TIFF: every variant gives the pixels that its writer was given, brought to 8-bit RGB by the policy, or is refused with words."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import hostile_images as hostile
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from kerasall.decoding import decode, read_header, to_native
from kerasall.errors import DecodingError
from kerasall.serving.export import decode_native

HEIGHT, WIDTH = 37, 45
RGB = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8),
    (WIDTH, HEIGHT),
    interpolation=cv2.INTER_CUBIC,
)
GREY = np.ascontiguousarray(RGB[..., 0])
NOISE = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 6), dtype=np.uint16)
TWO_STRIPS = {"rowsperstrip": 20}


def write(*pages: tuple[np.ndarray, dict[str, Any]], **options: Any) -> bytes:
    """A TIFF of tifffile; without its own description unless asked."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as tiff:
        for pixels, told in pages:
            tiff.write(np.ascontiguousarray(pixels), **{"metadata": None, **told})
    return file.getvalue()


def tiff_of(pixels: np.ndarray, photometric: str, planar: str = "contig", **options: Any) -> bytes:
    """One page; of several samples together (contig) or apart (separate)."""
    writer = {key: options.pop(key) for key in ("byteorder", "bigtiff", "ome", "imagej") if key in options}
    if pixels.ndim == 3:
        options["planarconfig"] = planar
        pixels = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    return write((pixels, {"photometric": photometric, **options}), **writer)


def with_tag(data: bytes, tag: int, value: int, kind: int = 4, replaced: int | None = None) -> bytes:
    """A little-endian TIFF with one tag set, in a new directory at its end; it takes the place of ``replaced``."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[start + 2 + 12 * n :][:12] for n in range(count)]
    entries = [each for each in entries if struct.unpack_from("<H", each)[0] != (replaced or tag)]
    entries = sorted([*entries, struct.pack("<HHII", tag, kind, 1, value)], key=lambda each: each[1::-1])
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def to_rgb(samples: np.ndarray, bits: int, photometric: str) -> np.ndarray:
    """The policy in so many words."""
    values = samples.astype(int)
    values = values // 2 ** (bits - 8) if bits > 8 else values * 255 // (2**bits - 1)
    values = 255 - values if photometric == "miniswhite" else values
    if photometric == "separated":
        inks = np.ascontiguousarray(values[..., :4].astype(np.uint8))
        return np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    return (values[..., :3] if photometric == "rgb" else np.repeat(values[..., :1], 3, axis=2)).astype(
        np.uint8
    )


def read_on_both_ways(data: bytes) -> np.ndarray:
    header, pixels = read_header(data), decode(data)
    assert (header.format, header.native) == ("TIFF", False)
    assert pixels.shape == (header.height, header.width, 3)
    np.testing.assert_array_equal(decode_native(tf.constant(to_native(data))).numpy(), pixels)
    return pixels


# --- what is read

KINDS = [
    (photometric, bits, extra)
    for photometric, kinds in {
        "minisblack": ((1, ()), (2, ()), (4, ()), (8, ()), (16, ()), (8, (1,)), (8, (2,)), (16, (2,))),
        "miniswhite": ((1, ()), (4, ()), (8, ()), (16, ()), (16, (1,))),
        "rgb": (
            (4, ()),
            (8, ()),
            (16, ()),
            (8, (0,)),
            (8, (1,)),
            (16, (1,)),
            (8, (2,)),
            (16, (2, 0)),
            (8, (0, 0, 0)),
        ),
        "separated": ((8, ()), (8, (2,))),
    }.items()
    for bits, extra in kinds
]
PACKINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, big end first, odd strips": {"byteorder": ">", "rowsperstrip": 7},
    "plain, apart": {"planar": "separate"},
    "plain, apart, odd strips, big end first": {"planar": "separate", "rowsperstrip": 11, "byteorder": ">"},
    "BigTIFF": {"bigtiff": True, "rowsperstrip": 1},
    "BigTIFF, big end first": {"bigtiff": True, "byteorder": ">"},
    "tiles": {"tile": (16, 32)},
    "tiles larger than the image, apart": {"tile": (64, 128), "planar": "separate", "byteorder": ">"},
    "LZW": {"compression": "lzw", "rowsperstrip": 7},
    "LZW, tiles, apart, predicted, big end first": {
        "compression": "lzw", "tile": (32, 16), "planar": "separate", "predictor": 2, "byteorder": ">",
    },
    "deflate, predicted": {"compression": "zlib", "predictor": 2, "rowsperstrip": 10},
    "deflate, tiles": {"compression": "zlib", "tile": (16, 16), "byteorder": ">"},
    "PackBits, apart": {"compression": "packbits", "planar": "separate", "rowsperstrip": 9},
    "LZMA, predicted": {"compression": "lzma", "predictor": 2, "rowsperstrip": 30},
    "Zstandard, tiles, predicted": {"compression": "zstd", "predictor": 2, "tile": (16, 48)},
}  # fmt: skip
ROWS = [
    (kind, packing)
    for kind in KINDS
    for packing, options in PACKINGS.items()
    if kind[1] >= 8 or "compression" not in options  # tifffile packs no smaller samples
    if not (kind[1] == 1 and "tile" in options)
]


@pytest.mark.parametrize(("kind", "packing"), ROWS)
def test_every_kind_of_sample_in_every_packing(kind, packing):
    photometric, bits, extra = kind
    count = {"rgb": 3, "separated": 4}.get(photometric, 1) + len(extra)
    samples = NOISE[..., :count] >> (16 - bits)
    samples = samples if bits == 16 else samples.astype(np.uint8)
    options = dict(PACKINGS[packing])
    if bits < 8:
        options["bitspersample"] = bits
    if extra:
        options["extrasamples"] = extra
    data = tiff_of(samples if count > 1 else samples[..., 0], photometric, **options)
    np.testing.assert_array_equal(read_on_both_ways(data), to_rgb(samples, bits, photometric))


def palette(scale: int, bits: int = 8) -> np.ndarray:
    """uint16 [3, 2 ** bits]; values up to 255 times ``scale``."""
    return np.random.default_rng(2).integers(0, 256, (3, 1 << bits)).astype(np.uint16) * scale


SIXTEEN = RGB.astype(np.uint16) * 256 + 77
THUMBNAIL = RGB[::2, ::2]
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
SINGLE: dict[str, tuple[bytes, np.ndarray]] = {
    "16-bit planes apart, as tifffile writes 3 x H x W": (
        write((SIXTEEN.transpose(2, 0, 1), {"photometric": "rgb", "metadata": {}})),
        RGB,
    ),
    "palette of 0 to 65535": (
        tiff_of(GREY, "palette", colormap=palette(257)),
        palette(1)[:, GREY].transpose(1, 2, 0),
    ),
    "palette of 0 to 255": (tiff_of(GREY, "palette", colormap=palette(1)), palette(1)[:, GREY].transpose(1, 2, 0)),
    "associated alpha stays as stored": (
        tiff_of(np.dstack([RGB // 2, GREY // 2]), "rgb", extrasamples=["assocalpha"]),
        RGB // 2,
    ),
    "pyramid in SubIFDs": (
        write((RGB, {"photometric": "rgb", "subifds": 1}), (THUMBNAIL, {"photometric": "rgb", "subfiletype": 1})),
        RGB,
    ),
    "ImageJ, colours": (tiff_of(RGB, "rgb", imagej=True, metadata={}), RGB),
    "ImageJ, one grey image": (tiff_of(GREY, "minisblack", imagej=True, metadata={}), np.dstack([GREY] * 3)),
    "OME, colours": (tiff_of(RGB, "rgb", ome=True, metadata={}), RGB),
    "OME, planes apart": (tiff_of(RGB, "rgb", "separate", ome=True, metadata={}), RGB),
    "OME, one grey image": (tiff_of(GREY, "minisblack", ome=True, metadata={}), np.dstack([GREY] * 3)),
    "tifffile's own description": (tiff_of(RGB, "rgb", metadata={}), RGB),
    "bits in reverse": (
        with_tag(tiff_of(np.packbits(np.unpackbits(RGB[..., None], axis=3)[..., ::-1], axis=3)[..., 0], "rgb"), 266, 2),
        RGB,
    ),
    "strips of no stated height": (tiff_of(RGB, "rgb"), RGB),
    "orientation in XMP": (tiff_of(RGB, "rgb", extratags=[(700, 1, len(XMP), XMP, True)]), np.rot90(RGB, -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_variants_of_programs(name):
    data, expected = SINGLE[name]
    np.testing.assert_array_equal(read_on_both_ways(data), expected)


@pytest.mark.parametrize("pixels", [RGB, SIXTEEN], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation, pixels):
    data = tiff_of(pixels, "rgb", extratags=[(274, 3, 1, orientation, True)], planar="separate")
    upright = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2), 6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB),
    }  # fmt: skip
    np.testing.assert_array_equal(read_on_both_ways(data), upright[orientation])


@pytest.mark.parametrize("packing", [{}, {"rowsperstrip": 16}, {"tile": (32, 64)}], ids=str)
@pytest.mark.parametrize(
    "kind", ["grey", "white is zero", "RGB", "apart", (1, 1), (2, 1), (2, 2), (4, 1)], ids=str
)
def test_jpeg_strips_give_the_pixels_of_libjpeg(kind, packing):
    options: dict[str, Any] = {"compression": "jpeg", **packing}
    if kind in ("grey", "white is zero"):
        data = tiff_of(GREY, "minisblack" if kind == "grey" else "miniswhite", **options)
    elif kind == "RGB":
        data = tiff_of(RGB, "rgb", compressionargs={"outcolorspace": "rgb"}, **options)
    elif kind == "apart":
        data = tiff_of(RGB, "rgb", "separate", **options)
    else:
        data = tiff_of(RGB, "rgb", subsampling=kind, **options)
    expected = tifffile.imread(io.BytesIO(data))
    expected = np.dstack([expected] * 3) if expected.ndim == 2 else expected
    expected = expected.transpose(1, 2, 0) if kind == "apart" else expected
    np.testing.assert_array_equal(
        read_on_both_ways(data), 255 - expected if kind == "white is zero" else expected
    )


MARKS = {
    "Adobe's mark of RGB": b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0",
    "Adobe's mark of YCbCr": b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1",
    "JFIF": b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
}


@pytest.mark.parametrize(
    "colours", [{"subsampling": (2, 2)}, {"compressionargs": {"outcolorspace": "rgb"}}], ids=str
)
@pytest.mark.parametrize("mark", MARKS)
def test_the_tiff_says_what_the_colours_of_its_jpeg_strips_are(mark, colours):
    data = tiff_of(RGB, "rgb", compression="jpeg", **colours)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        start, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    strip = data[start : start + length]
    marked = strip[:2] + MARKS[mark] + strip[2:]
    moved = with_tag(with_tag(data + marked, 273, len(data)), 279, len(marked))
    np.testing.assert_array_equal(read_on_both_ways(moved), decode(data))


# --- what is refused

STACK = np.stack([GREY] * 3)
REFUSED: dict[str, tuple[bytes, str]] = {
    "int8": (tiff_of(RGB.view(np.int8), "rgb"), "signed samples"),
    "int16": (tiff_of(SIXTEEN.view(np.int16), "rgb"), "signed samples"),
    "float16": (tiff_of(GREY.astype(np.float16), "minisblack"), "floating-point samples"),
    "float32, predicted": (
        tiff_of(GREY.astype(np.float32), "minisblack", predictor=3, compression="zlib"),
        "floating-point samples",
    ),
    "complex": (tiff_of(GREY.astype(np.complex64), "minisblack"), "complex samples"),
    "12 bits": (tiff_of(SIXTEEN[..., 0] >> 4, "minisblack", bitspersample=12), "samples of 12 bits"),
    "32 bits": (tiff_of(GREY.astype(np.uint32), "minisblack"), "samples of 32 bits"),
    "16-bit CMYK": (tiff_of(NOISE[..., :4], "separated"), "samples of 16 bits in CMYK"),
    "CIELab": (tiff_of(RGB, "cielab"), "CIELab"),
    "ICCLab": (tiff_of(RGB, "icclab"), "ICCLab"),
    "LogLuv": (tiff_of(RGB, "logluv"), "LogLuv"),
    "colour filter array": (tiff_of(GREY, "cfa"), "colour filter array"),
    "YCbCr without JPEG": (tiff_of(RGB, "ycbcr"), "YCbCr samples that are not in JPEG strips"),
    "channels of no stated meaning": (tiff_of(RGB, "minisblack"), "3 channels without saying which one is meant"),
    "two channels apart": (tiff_of(RGB[..., :2], "minisblack", "separate"), "2 channels"),
    "PackBits, predicted": (tiff_of(RGB, "rgb", compression="packbits", predictor=2), "predictor 2"),
    "JPEG 2000": (tiff_of(RGB, "rgb", compression="jpeg2000"), "JPEG 2000 compression"),
    "WebP": (tiff_of(RGB, "rgb", compression="webp"), "WebP compression"),
    "two pages": (write((RGB, {"photometric": "rgb"}), (RGB, {"photometric": "rgb"})), "several pages"),
    "a page and its preview": (
        write((RGB, {"photometric": "rgb"}), (THUMBNAIL, {"photometric": "rgb", "subfiletype": 1})),
        "several pages",
    ),
    "the preview of what lies in a SubIFD": (
        write((THUMBNAIL, {"photometric": "rgb", "subfiletype": 1, "subifds": 1}), (RGB, {"photometric": "rgb"})),
        "the preview of a picture",
    ),
    "volume": (
        write((STACK, {"photometric": "minisblack", "volumetric": True, "tile": (1, 16, 16)})),
        "several planes",
    ),
    "ImageJ stack": (
        write((STACK, {"photometric": "minisblack", "metadata": {}}), imagej=True),
        "several pages",
    ),
    "ImageJ stack of one directory": (
        write((STACK, {"photometric": "minisblack", "metadata": {}, "truncate": True}), imagej=True),
        "an ImageJ stack of 3 pages",
    ),
    "stack of one directory": (
        write((STACK, {"photometric": "minisblack", "metadata": {}, "truncate": True})),
        "a stack of several pages",
    ),
    "OME, one channel of three": (
        tiff_of(GREY, "minisblack", ome=True, metadata={}).replace(b'SizeC="1"', b'SizeC="3"'),
        "one of 3 pages of an OME picture",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_variants_are_refused_with_words(name):
    data, words = REFUSED[name]
    for function in (read_header, decode, to_native):
        with pytest.raises(DecodingError, match=r"^cell\.tif must .*, but .*: sav") as caught:
            function(data, name="cell.tif")
        assert words in str(caught.value)


def test_several_channels_in_tifffile_default_are_refused_or_rgb():
    """What tifffile writes of 3 x H x W without a word on colours is never taken for one grey channel."""
    for pixels in (SIXTEEN.transpose(2, 0, 1), RGB.transpose(2, 0, 1), STACK):
        file = io.BytesIO()
        tifffile.imwrite(file, np.ascontiguousarray(pixels), photometric="minisblack")
        with pytest.raises(DecodingError, match="several pages"):
            decode(file.getvalue())


# --- damage

PATCHES: dict[str, tuple[int, int, str]] = {
    "no width": (256, 0, "at least 1 x 1 pixels"),
    "more rows than strips hold": (257, HEIGHT * 2, "strips"),
    "a type that is none": (256, -1, "of type 5"),
    "an unknown compression": (259, 4711, "unknown compression"),
    "an unknown colour space": (262, 99, "colour space 99"),
    "nine samples": (277, 9, "9 samples|bits"),
    "unknown planes": (284, 3, "no known order"),
    "unknown order of bits": (266, 3, "no known order"),
    "undefined samples": (339, 4, "undefined samples"),
    "a mask": (254, 4, "a transparency mask"),
    "strips of no height": (278, 0, "strips"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_tag_that_says_something_else_is_refused(name):
    tag, value, words = PATCHES[name]
    data = with_tag(tiff_of(GREY, "minisblack"), tag, abs(value), kind=5 if value < 0 else 4)
    with pytest.raises(DecodingError, match=words):
        decode(data)


def test_a_tag_that_stands_there_twice_is_refused():
    data = tiff_of(GREY, "minisblack")
    with pytest.raises(DecodingError, match="tag 257 stands there twice"):
        decode(with_tag(data, 257, HEIGHT, replaced=305))


def shortened(data: bytes, tenths: int) -> Iterator[bytes]:
    """The file with each strip in turn said to be shorter."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag = tiff.pages[0].tags[279]
        for number, length in enumerate(tiff.pages[0].databytecounts):
            broken, kind = bytearray(data), {3: "<H", 4: "<I"}[tag.dtype]
            struct.pack_into(
                kind, broken, tag.valueoffset + number * struct.calcsize(kind), length * tenths // 10
            )
            yield bytes(broken)


@pytest.mark.parametrize("tenths", [0, 1, 5, 9])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "lzma", "zstd", "jpeg"])
def test_a_strip_that_ends_too_early_is_refused(compression, tenths):
    data = tiff_of(NOISE[..., :3].astype(np.uint8), "rgb", compression=compression, **TWO_STRIPS)
    decode(data)
    for broken in shortened(data, tenths):
        for function in (decode, to_native):
            with pytest.raises(DecodingError, match=r"cell\.tif .*truncated"):
                function(broken, name="cell.tif")


@pytest.mark.parametrize("taken", [30, 400, 1500])
def test_a_jpeg_strip_that_lost_bytes_of_its_middle_is_refused(taken):
    data = tiff_of(NOISE[..., :3].astype(np.uint8), "rgb", compression="jpeg")
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        start, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    strip = data[start : start + length]
    less = strip[: length // 2] + strip[length // 2 + taken :]
    moved = with_tag(with_tag(data + less, 273, len(data)), 279, len(less))
    for function in (decode, to_native):
        with pytest.raises(DecodingError, match="truncated or corrupt"):
            function(moved)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_a_flipped_bit_is_found_by_the_checksum(compression):
    data = tiff_of(NOISE[..., :3].astype(np.uint8), "rgb", compression=compression)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        start, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    for place in range(start + 30, start + length - 10, 701):
        broken = bytearray(data)
        broken[place] ^= 4
        with pytest.raises(DecodingError, match="truncated or corrupt"):
            decode(bytes(broken))


@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
def test_a_cut_file_is_refused(compression):
    data = tiff_of(RGB, "rgb", compression=compression)
    for twentieths in range(20):
        with pytest.raises(DecodingError, match=r"empty|truncated|unknown kind"):
            decode(data[: len(data) * twentieths // 20])


# --- what one file may cost


def one_tile_of(side: int, **options: Any) -> bytes:
    """64 x 64 pixels in one tile that says to be larger."""
    data = tiff_of(np.zeros((64, 64, 3), np.uint8), "rgb", tile=(64, 64), compression="zlib", **options)
    return with_tag(with_tag(data, 322, side), 323, side)


def with_many_tags(count: int) -> bytes:
    """A BigTIFF with so many tags that nobody asks for."""
    entries = b"".join(struct.pack("<HHQQ", 60_000, 3, 1, 1) for _ in range(count))
    return struct.pack("<4sHHQQ", b"II+\0", 8, 0, 16, count) + entries + bytes(8)


def with_another_jpeg(side: int) -> bytes:
    """A JPEG strip whose own header tells another size."""
    data = bytearray(tiff_of(np.zeros((64, 64, 3), np.uint8), "rgb", compression="jpeg"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def strips_of_one_body(compression: int, shared: int = 1 << 20, rows: int = 64) -> bytes:
    """Strips of a row, each of which claims the same megabyte."""
    number = struct.Struct("<I").pack
    kept = [each for each in hostile.plain_tags() if each[0] not in (257, 259, 273, 278, 279)]
    start = 8 + 2 + 12 * (len(kept) + 5) + 4
    tags = [
        *kept, (257, 4, 1, number(rows)), (259, 3, 1, number(compression)), (273, 4, rows, number(start)),
        (278, 4, 1, number(1)), (279, 4, rows, number(start + 4 * rows)),
    ]  # fmt: skip
    lists = number(start + 8 * rows) * rows + number(shared) * rows
    return hostile.tiff(sorted(tags), lists + zlib.compress(bytes(64)).ljust(shared, b"\0"))


def test_the_largest_dictionary_of_lzma_is_read():
    data = tiff_of(RGB, "rgb", compression="lzma", compressionargs={"level": 9})
    np.testing.assert_array_equal(read_on_both_ways(data), RGB)


def test_blank_tiles_may_be_one():
    data = strips_of_one_body(8, 1 << 10)
    np.testing.assert_array_equal(read_on_both_ways(data), np.zeros((64, 64, 3), np.uint8))


def with_parts_between_its_scans(count: int) -> bytes:
    """A JPEG strip with comments where only tables are expected."""
    file = io.BytesIO()
    Image.fromarray(NOISE[..., 0].astype(np.uint8)).save(file, "JPEG", progressive=True)
    scans = file.getvalue()
    place = scans.index(b"\xff\xc4", scans.index(b"\xff\xda"))
    strip = scans[:place] + b"\xff\xfe\0\2" * count + scans[place:]
    data = tiff_of(NOISE[..., 0].astype(np.uint8), "minisblack", compression="jpeg")
    return with_tag(with_tag(data + strip, 273, len(data)), 279, len(strip))


BOMBS = {
    "a tile of 20,000 x 20,000": (lambda: one_tile_of(20_000), "tiles"),
    "tags": (lambda: with_many_tags(200_000), r"one value|tags"),
    "a JPEG strip of 60,000 x 60,000": (lambda: with_another_jpeg(60_000), r"60000, 60000"),
    **{
        f"shared strips, {packing}": (
            lambda packing=packing: strips_of_one_body(packing),
            "share more bytes",
        )
        for packing in (5, 7, 8, 32773, 34925, 50000)
    },
    "too many JPEG strips": (
        lambda: tiff_of(np.zeros((1024, 1088), np.uint8), "minisblack", compression="jpeg", tile=(16, 16)),
        "4,352 JPEG strips",
    ),
    "long JPEG tables": (
        lambda: tiff_of(
            GREY, "minisblack", compression="jpeg", extratags=[(347, 7, 1 << 17, bytes(1 << 17), True)]
        ),
        "JPEG tables of 131,072 bytes",
    ),
    "25,600 tiles": (
        lambda: tiff_of(
            np.zeros((2560, 2560), np.uint8), "minisblack", compression="packbits", tile=(16, 16)
        ),
        "at most 25,000 values in tag",
    ),
    "parts of a JPEG strip": (lambda: with_parts_between_its_scans(1 << 16), "more than 1,000 segments"),
    "nine samples": (
        lambda: tiff_of(np.zeros((64, 64, 9), np.uint8), "rgb", extrasamples=(0,) * 6),
        "9 samples",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_refused_costs_little_memory(name):
    make, words = BOMBS[name]
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(DecodingError, match=words):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
