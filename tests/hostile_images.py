"""Image files made to cost a reader more than their pixels: each of at most 16 MB, none of them broken by accident."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

FULL = 15 << 20
"""Bytes of a hostile upload: just under what a server takes by default."""


def encode(kind: str, size: tuple[int, int] = (64, 64), seed: int = 0, **options) -> bytes:
    """A sound image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def encode_flat(kind: str, size: tuple[int, int] = (4096, 4096), **options) -> bytes:
    """Of one colour: some kilobytes that become many megabytes."""
    file = io.BytesIO()
    Image.new("RGB", size, (90, 30, 120)).save(file, kind, **options)
    return file.getvalue()


# ---- JPEG -------------------------------------------------------------------


def segment(marker: int, body: bytes = b"") -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(piece: bytes, size: int = FULL, after: int = 2) -> bytes:
    """A sound JPEG with a piece over and over behind its first bytes."""
    whole = encode("JPEG")
    return whole[:after] + piece * (size // len(piece)) + whole[after:]


_BLOCKS = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5400)


def jpeg_of_frames(size: int = FULL) -> bytes:
    return jpeg_with(
        segment(0xC0, b"\x08" + struct.pack(">HH", 64, 64) + b"\x03" + b"\x01\x11\x00" * 21_000), size
    )


def jpeg_of_scans(scans: int, side: int = 64) -> bytes:
    whole = encode("JPEG", (side, side), progressive=True, quality=5)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * scans + whole[-2:]


def exif(tags: int, rationals: int = 0) -> bytes:
    """A directory of many tags, or of one resolution with many values."""
    entries = b"".join(struct.pack("<HHII", 1 + tag, 3, 1, 1) for tag in range(tags))
    if rationals:
        entries += struct.pack("<HHII", 0x11A, 5, rationals, 8 + 2 + 12 + 4)
    count = tags + bool(rationals)
    data = (
        b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4) + struct.pack("<II", 72, 1) * rationals
    )
    return b"Exif\0\0" + data


def jpeg_of_exif(data: bytes) -> bytes:
    """Its EXIF in as many segments as it takes, which Pillow joins."""
    whole, pieces = encode("JPEG"), [data[6:][at : at + 65_000] for at in range(0, len(data) - 6, 65_000)]
    return whole[:2] + b"".join(segment(0xE1, b"Exif\0\0" + piece) for piece in pieces) + whole[2:]


# ---- PNG --------------------------------------------------------------------


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(piece: bytes, size: int = FULL) -> bytes:
    """A sound PNG with a chunk over and over before its pixels."""
    whole = encode("PNG")
    return whole[:33] + piece * max(size // len(piece), 1) + whole[33:]


def png_of_tiny_pixels(size: int = FULL) -> bytes:
    """Its pixels in pieces of a byte, and empty ones besides."""
    packed = zlib.compress(bytes(64 * (1 + 3 * 64)), 0)
    pieces = b"".join(chunk(b"IDAT", packed[at : at + 1]) for at in range(len(packed)))
    empty = chunk(b"IDAT")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    many = empty * max((size - len(pieces)) // len(empty), 0)
    return b"\x89PNG\r\n\x1a\n" + header + many + pieces + chunk(b"IEND")


_INFLATING = zlib.compress(bytes(1 << 20), 9)


# ---- TIFF -------------------------------------------------------------------


def tiff(
    entries: list[tuple[int, int, int, bytes]], data: bytes = b"", big: bool = False, last: int = 0
) -> bytes:
    """A TIFF of the given tags; a value is its four (or eight) bytes as they stand, which may point to ``data``, the last one as often again."""
    count, width = ("<Q", 8) if big else ("<H", 4)
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) if big else b"II*\0" + struct.pack("<I", 8)
    form = "<HHQ" if big else "<HHI"
    body = b"".join(
        struct.pack(form, tag, kind, number) + value.ljust(width, b"\0")
        for tag, kind, number, value in entries
    )
    body += body[-(12 + 8 * big) :] * last
    return head + struct.pack(count, len(entries) + last) + body + bytes(width) + data


def plain_tags(side: int = 64, **changes: bytes) -> list[tuple[int, int, int, bytes]]:
    """Those of a grey picture whose pixels are the file's last bytes' neighbours."""
    short = struct.Struct("<I").pack
    return [
        (256, 4, 1, short(side)), (257, 4, 1, short(side)), (258, 3, 1, short(8)), (259, 3, 1, short(1)),
        (262, 3, 1, short(1)), (273, 4, 1, short(8)), (277, 3, 1, short(1)), (278, 4, 1, short(side)),
        (279, 4, 1, short(side * side)),
    ]  # fmt: skip


def tiff_of_tags(number: int, big: bool) -> bytes:
    return tiff(plain_tags(), bytes(4096), big, number)


def tiff_of_values(tag: int, kind: int, unit: int, size: int = FULL) -> bytes:
    """One tag that says it has as many values as the file has bytes for."""
    kept = [entry for entry in plain_tags() if entry[0] != tag]
    start = 8 + 2 + 12 * (len(kept) + 1) + 4
    return tiff([*kept, (tag, kind, size // unit, struct.pack("<I", start))], b"\1" * size)


def tiff_of_one_tile(side: int = 20_000, *more: tuple[int, int, int, bytes]) -> bytes:
    """64 x 64 pixels, cut out of one tile of 400 million."""
    packed = zlib.compress(bytes(1 << 20), 9) * 16
    kept = [entry for entry in plain_tags() if entry[0] not in (259, 273, 278, 279)]
    number = struct.Struct("<I").pack
    start = 8 + 2 + 12 * (len(kept) + 5 + len(more)) + 4
    tags = [
        *kept, (259, 3, 1, number(8)), (322, 4, 1, number(side)), (323, 4, 1, number(side)), (324, 4, 1, number(start)),
        (325, 4, 1, number(len(packed))), *more,
    ]  # fmt: skip
    return tiff(sorted(tags), packed)


def tiff_of_subdirectory(tag: int, size: int = FULL) -> bytes:
    """A directory within that says it has resolutions without end."""
    tags = plain_tags()
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    within = struct.pack("<H", 1) + struct.pack("<HHII", 0x11A, 5, size // 8, start + 18) + bytes(4)
    return tiff([*tags, (tag, 4, 1, struct.pack("<I", start))], within + b"\1" * size)


# ---- BMP and WebP -----------------------------------------------------------


def bmp_of_runs(side: int, compression: int, piece: bytes, size: int) -> bytes:
    """Run-length coded: 1 for bytes, 2 for half bytes."""
    palette = b"".join(bytes([value, 0, 255 - value, 0]) for value in range(256 if compression == 1 else 16))
    bits, codes = 8 if compression == 1 else 4, piece * (size // len(piece)) + b"\0\1"
    header = struct.pack(
        "<IiiHHIIiiII", 40, side, side, 1, bits, compression, len(codes), 0, 0, len(palette) // 4, 0
    )
    start = 14 + 40 + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(codes), 0, 0, start) + header + palette + codes


def webp_with(piece: bytes, size: int = FULL) -> bytes:
    """A sound WebP in the long form, with a chunk over and over behind its pixels."""
    whole = encode("WEBP", lossless=True, exif=exif(1)[6:]) + piece * (size // len(piece))
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def webp_of_frames(side: int = 4096) -> bytes:
    """An animation of two frames on a large canvas."""
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (0, 200)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    data = bytearray(file.getvalue())
    data[24:30] = (side - 1).to_bytes(3, "little") * 2
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg_exif_segments": (lambda: jpeg_with(segment(0xE1, b"Exif\0\0II")), "at most 1,000 segments"),
    "jpeg_app12": (lambda: jpeg_with(segment(0xEC)), "at most 1,000 segments"),
    "jpeg_comments": (lambda: jpeg_with(segment(0xFE, b"x")), "at most 1,000 segments"),
    "jpeg_starts": (lambda: jpeg_with(b"\xff\xd8"), "at most 1,000 segments"),
    "jpeg_huffman": (lambda: jpeg_with(segment(0xC4, bytes(17))), "at most 1,000 segments"),
    "jpeg_long_huffman": (lambda: jpeg_with(segment(0xC4, bytes(17) * 3800)), "bytes of tables, and of padding"),
    "jpeg_fill": (lambda: jpeg_with(b"\xff"), "bytes of tables, and of padding"),
    "jpeg_fill_alone": (lambda: b"\xff\xd8" + b"\xff" * FULL, "bytes of tables, and of padding"),
    "jpeg_junk": (lambda: jpeg_with(b"\0", after=20), "bytes of tables, and of padding"),
    "jpeg_junk_alone": (lambda: b"\xff\xd8\xff" + b"\0" * FULL, "bytes of tables, and of padding"),
    "jpeg_stuffing": (lambda: jpeg_with(b"\xff\0"), "bytes of tables, and of padding"),
    "jpeg_restarts": (lambda: jpeg_with(b"\xff\xd0"), "bytes of tables, and of padding"),
    "jpeg_tables": (lambda: jpeg_with(segment(0xDB, (b"\0" + b"\1" * 64) * 1000)), "bytes of tables, and of padding"),
    "jpeg_frames": (jpeg_of_frames, "one frame of at most four components"),
    "jpeg_photoshop": (
        lambda: jpeg_with(_BLOCKS), "blocks of metadata"),
    "jpeg_scans": (lambda: jpeg_of_scans(500), "at most 100 scans"),
    "jpeg_large_scans": (lambda: jpeg_of_scans(90, 2048), "at most 20 scans"),
    "jpeg_exif_rationals": (lambda: jpeg_of_exif(exif(0, 1 << 20)), "bytes of EXIF"),
    "png_empty": (lambda: png_with(chunk(b"teSt")), "chunks"),
    "png_text": (lambda: png_with(chunk(b"tEXt", b"a\0b")), "chunks"),
    "png_long_text": (lambda: png_with(chunk(b"tEXt", b"a\0" + b"b" * (1 << 20))), "bytes of text"),
    "png_inflating_text": (lambda: png_with(chunk(b"zTXt", b"a\0\0" + _INFLATING)), "bytes of text"),
    "png_inflating_words": (lambda: png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + _INFLATING)), "bytes of text"),
    "png_inflating_profile": (lambda: png_with(chunk(b"iCCP", b"a\0\0" + _INFLATING)), "bytes of text"),
    "png_inflating_once": (
        lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26), 9)), 1 << 20), "bytes of text"),
    "png_tiny_pixels": (png_of_tiny_pixels, "chunks"),
    "png_exif": (lambda: png_with(chunk(b"eXIf", exif(65_000)[6:] + bytes(FULL)), FULL + 1_000_000), "bytes of EXIF"),
    "png_frames": (lambda: png_with(chunk(b"fcTL", bytes(26))), "chunks"),
    "tiff_tags": (lambda: tiff_of_tags(65_000, big=False), "at most 4,096 tags"),
    "tiff_big_tags": (lambda: tiff_of_tags(780_000, big=True), "at most 4,096 tags"),
    "tiff_resolutions": (lambda: tiff_of_values(282, 5, 8), "values in tag 282"),
    "tiff_bits": (lambda: tiff_of_values(258, 3, 2), "values in tag 258"),
    "tiff_strips": (lambda: tiff_of_values(273, 4, 4), "values in tag 273"),
    "tiff_palette": (lambda: tiff_of_values(320, 3, 2), "values in tag 320"),
    "tiff_exif": (lambda: tiff_of_subdirectory(34665), "values of EXIF"),
    "tiff_places": (lambda: tiff_of_subdirectory(34853), "values of EXIF"),
    "tiff_tile": (tiff_of_one_tile, "tiles no larger than its picture"),
    "tiff_tile_lost_exif": (
        lambda: tiff_of_one_tile(20_000, (34665, 4, 1, b"\xff\xff\xff\x7f")), "tiles no larger than its picture"),
    "tiff_cut_exif": (lambda: tiff_of_subdirectory(34665)[:2000] + bytes(10), "values of EXIF"),
    "jpeg_photoshop_cut": (lambda: b"\xff\xd8" + _BLOCKS * 200 + b"\xff\xe1", "blocks of metadata"),
    "jpeg_photoshop_frame": (lambda: b"\xff\xd8" + _BLOCKS * 200 + b"\xff\xc0\0\x11\x08", "blocks of metadata"),
    "bmp_runs": (lambda: bmp_of_runs(4000, 1, b"\1\2", FULL), "run-length coded"),
    "bmp_half_runs": (lambda: bmp_of_runs(4000, 2, b"\xff\x12", 1 << 17), "run-length coded"),
    "bmp_still_runs": (lambda: bmp_of_runs(64, 1, b"\0\0", FULL), "run-length coded"),
    "bmp_still_steps": (lambda: bmp_of_runs(64, 2, b"\0\2\0\0", FULL), "run-length coded"),
    "webp_chunks": (lambda: webp_with(b"ABCD\0\0\0\0"), "at most 1,000 chunks"),
    "webp_exif": (lambda: webp_with(b"EXIF" + struct.pack("<I", 1 << 20) + exif(65_000)[6:].ljust(1 << 20, b"\0"), 1 << 21),
                  "bytes of EXIF"),
    "webp_frames": (webp_of_frames, "an animated WebP"),
}  # fmt: skip
"""Name -> what makes the file, and what the refusal says of it."""
