"""What stands before the pixels: kind, size, samples, orientation; and what an image may measure. No pixel is decoded here."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from kerasall.decoding.structure import find_excess
from kerasall.decoding.tiff_layout import TIFF_SIGNATURES, TiffLayout, read_layout
from kerasall.errors import DecodingError

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What an image may measure at most; checked before any pixel is decoded.

    Attributes:
        max_side: width and height, in pixels.
        max_pixels: width times height. 50 million pixels are 150 MB once decoded.
        max_bytes: size of the encoded file.
    """

    max_side: int = 8192
    max_pixels: int = 50_000_000
    max_bytes: int = 256 * _MEBIBYTE


DEFAULT_LIMITS = Limits()


def with_limits(limits: Limits, max_side: int | None = None, max_pixels: int | None = None) -> Limits:
    """The limits with those replaced that are given."""
    given = {"max_side": max_side, "max_pixels": max_pixels}
    return replace(limits, **{name: value for name, value in given.items() if value is not None})


def read_image_bytes(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Reads a file whole, unless it is larger than ``limits.max_bytes``.

    Raises:
        DecodingError: missing, not a regular file, unreadable or too large; the message names it.
    """
    try:
        status = _find_status(path)
        if not stat.S_ISREG(status.st_mode):  # of a pipe, reading would wait for ever
            raise DecodingError(f"{path} must be an image file, but is not a regular file: correct the path")
        require_bytes(status.st_size, limits, str(path))
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise DecodingError(f"{path} must be readable, but reading it failed: {error.strerror}") from None


def _find_status(path: str | Path) -> os.stat_result:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of names that no file can have
        path, found = Path(path), "does not exist"
        if path.is_symlink():
            found = f"is a link to {path.readlink()}, which does not exist"
        raise DecodingError(f"{path} must be an image file, but {found}: correct the path") from None


def require_bytes(size: int, limits: Limits, name: str) -> None:
    if size == 0:
        raise DecodingError(f"{name} must be an image, but is empty (0 bytes): copy or export it again")
    if size > limits.max_bytes:
        raise DecodingError(
            f"{name} must have at most {limits.max_bytes:,} bytes, but has {size:,}: "
            "crop or shrink it, or raise the limit"
        )


Format = Literal["BMP", "PNG", "JPEG", "TIFF", "WEBP"]


@dataclass(frozen=True)
class ImageHeader:
    """What the header tells of an image.

    Attributes:
        format: kind of file.
        width: pixels after the orientation is applied.
        height: pixels after the orientation is applied.
        mode: Pillow's name of the stored samples, such as "RGB", "L", "P", "CMYK", "I;16".
        native: whether TensorFlow's ``decode_image(channels=3)`` reads the bytes right as they are.
        reason: why not; "" where native.
        orientation: EXIF orientation, 1 (upright) to 8, still to be applied to the stored pixels.
        quality: of a JPEG, estimated from its tables, 1 to 100; 0 for other formats.
        bits: of a sample, 16 or at most 8.
    """

    format: Format
    width: int
    height: int
    mode: str
    native: bool
    reason: str
    orientation: int = 1
    quality: int = 0
    bits: int = 8


# Opened by class and not by Image.open: only these four decoders, and that of TIFF, can ever run, a JPEG is read as its
# first picture even where others follow (MPO), and Pillow's own bomb check, which warns or raises before
# the size can be put into a message, stays out of the way.
_FORMATS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"BM", BmpImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"RIFF", WebPImageFile),
)
# Only to name in a message what was given: (offset, first bytes, name).
_OTHER_KINDS = (
    (0, b"GIF8", "a GIF"),
    (8, b"AVI ", "a video file"),
    (8, b"WAVE", "a sound file"),
    (128, b"DICM", "a DICOM file"),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
    (0, b"%PDF", "a PDF"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML file (SVG?)"),
    (0, b"<!DOCTYPE", "an HTML page"),
    (0, b"<html", "an HTML page"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)
_READABLE_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I;16"})
_ORIENTATION_TAG = 0x0112
_MOST_PLAIN = 2048
"""Bytes before the scan of a plain JPEG."""
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# warnings.catch_warnings changes the process' filters: two threads inside it at once could leave them changed.
_WARNINGS_LOCK = threading.Lock()


def read_header(data: bytes, limits: Limits = DEFAULT_LIMITS, name: str = "image") -> ImageHeader:
    """Reads what stands before the pixels. Decodes none; takes microseconds whatever the image's size.

    Args:
        data: the file's bytes.
        limits: what is refused as too large.
        name: how messages call the image; best its path.

    Raises:
        DecodingError: empty, of another kind, broken, too large, animated, multi-page, or of a sample
            type that has no stated way to 8-bit RGB.
    """
    header, _ = open_image(data, limits, name)
    return header


def open_image(data: bytes, limits: Limits, name: str) -> tuple[ImageHeader, ImageFile | None]:
    """Header, and Pillow's image, not yet loaded: None for a plain BMP or JPEG and a TIFF, which need no Pillow."""
    require_bytes(len(data), limits, name)
    if plain := _find_plain_jpeg(data):
        _require_size((plain.width, plain.height), limits, name)
        return plain, None
    if excess := find_excess(data):
        raise DecodingError(f"{name} must have {excess}: save its pixels as a plain PNG")
    if size := _find_plain_bmp_size(data):
        _require_size(size, limits, name)
        return ImageHeader("BMP", *size, mode="RGB", native=True, reason=""), None
    if data.startswith(TIFF_SIGNATURES):
        return _describe_tiff(read_layout(data, name), limits, name), None
    reader = _find_reader(data, name)
    if size := _find_webp_size(data):
        _require_size(
            size, limits, name
        )  # Pillow's reader makes room for the pixels before it tells their number
    try:
        # Pillow warns of odd metadata, which is no fault of the pixels.
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = reader(io.BytesIO(data))
            orientation = _read_orientation(image)
    except Exception as error:  # whatever a broken header provokes in Pillow
        raise DecodingError(
            f"{name} must be an image, but its header cannot be read ({first_line(error)}): "
            "the file is truncated, corrupt or of an unusual kind; export it again as PNG"
        ) from None
    _require_size(image.size, limits, name)
    _require_readable(image, data, name)
    return _describe(image, orientation, data), image


def _find_plain_bmp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a 24-bit BMP of the plainest kind, as cameras and C-NMC write it; None of all else.

    Pillow would find the same in many times the time, which is as much as copying the pixels takes.
    """
    if len(data) < 54 or data[:2] != b"BM":
        return None
    start, header_size, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if (header_size, bits, compression) != (40, 24, 0) or start < 54 or width < 1:
        return None
    if height <= -(1 << 24) or height == 0:  # below, Pillow takes it for a huge positive height
        return None
    exact = len(data) == start + (width * 24 + 31) // 32 * 4 * abs(height)
    return (width, abs(height)) if exact else None


def _find_plain_jpeg(data: bytes) -> ImageHeader | None:
    """The header of a JPEG of the plainest kind, as most programs write it; None of all else.

    One frame of 8-bit grey or colour and one scan of all its components, before them JFIF's mark and tables, no
    metadata: ``find_excess`` and Pillow would find the same, in a third of the time that decoding takes.
    """
    if data[:4] != b"\xff\xd8\xff\xe0" or data[4:11] != b"\0\x10JFIF\0":
        return None
    position, tables, frame = 20, {}, b""
    while position + 4 < min(len(data), _MOST_PLAIN):
        mark, length = data[position : position + 2], int.from_bytes(data[position + 2 : position + 4])
        body = data[position + 4 : position + 2 + length]
        if mark == b"\xff\xdb" and len(body) == 65 and body[0] < 4:
            tables[body[0]] = body[1:]
        elif mark == b"\xff\xc0" and not frame and body[:1] == b"\x08" and len(body) in (9, 15):
            frame = body
        elif mark == b"\xff\xda":
            height, width, components = struct.unpack_from(">HHB", frame.ljust(6, b"\0"), 1)
            after = _AFTER_SCAN.search(data, position + 2 + length)
            if not (height and width and after and after[0] == b"\xff\xd9"):
                return None
            if len(frame) != 6 + 3 * components or len(body) != 4 + 2 * components or body[0] != components:
                return None
            mode, quality = "L" if components == 1 else "RGB", _estimate_quality(tables)
            return ImageHeader("JPEG", width, height, mode, native=True, reason="", quality=quality)
        elif mark != b"\xff\xc4" or length < 2:
            return None
        position += 2 + length
    return None


def _find_webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP's header tells; None of all else."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _find_reader(data: bytes, name: str) -> type[ImageFile]:
    for signature, reader in _FORMATS:
        if data.startswith(signature) and (reader is not WebPImageFile or data[8:12] == b"WEBP"):
            return reader
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    kinds = (
        kind for offset, mark, kind in _OTHER_KINDS if (data if offset else start).startswith(mark, offset)
    )
    found = next(kinds, "of an unknown kind")
    raise DecodingError(
        f"{name} must be a BMP, PNG, JPEG, TIFF or WebP image, but is {found}: convert it to PNG"
    )


def _read_orientation(image: ImageFile) -> int:
    # Not image.getexif(): a PNG's would decode all pixels to look for metadata after them.
    try:
        orientation = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except Exception:  # unreadable metadata say nothing about orientation; the pixels may be sound
        return 1
    return orientation if orientation in range(1, 9) else 1


def _require_size(size: tuple[int, int], limits: Limits, name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DecodingError(f"{name} must have at least 1 x 1 pixels, but its header says {width} x {height}")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise DecodingError(
            f"{name} must have at most {limits.max_side:,} pixels a side and {limits.max_pixels:,} in all, but its "
            f"header says {width:,} x {height:,}: crop or shrink it, or raise the limit"
        )


def _require_readable(image: ImageFile, data: bytes, name: str) -> None:
    if getattr(image, "is_animated", False):
        kind = "an animated PNG" if image.format == "PNG" else "an animated WebP"
        raise DecodingError(
            f"{name} must hold one picture, but is {kind}: save the picture that is meant alone"
        )
    problem = ""
    if image.mode not in _READABLE_MODES:
        problem = f"samples of kind {image.mode}"
    elif isinstance(image, BmpImageFile):
        problem = _find_bmp_problem(image, data)
    if problem:
        raise DecodingError(
            f"{name} must have 8- or 16-bit grey or colour samples, but has {problem}: save it as an 8-bit RGB PNG"
        )


def _find_bmp_problem(image: BmpImageFile, data: bytes) -> str:
    # With a palette equal to the grey scale Pillow takes the indices for grey values of the usual depth,
    # and misreads files of another depth.
    bits = _read_bmp_layout(data)[1]
    expected = {"1": 1, "L": 8}.get(image.mode, bits)
    return "" if bits == expected else f"{bits}-bit indices into a grey palette"


def _describe(image: ImageFile, orientation: int, data: bytes) -> ImageHeader:
    reason = _find_foreign_trait(image, data)
    if not reason and orientation != 1:
        reason = "stored turned or mirrored (EXIF orientation)"
    width, height = image.size if orientation < 5 else image.size[::-1]
    quality = _estimate_quality(image.quantization) if isinstance(image, JpegImageFile) else 0
    bits = 16 if isinstance(image, PngImageFile) and data[24] == 16 else 8
    kind = cast(Format, image.format)
    return ImageHeader(kind, width, height, image.mode, not reason, reason, orientation, quality, bits)


def _describe_tiff(layout: TiffLayout, limits: Limits, name: str) -> ImageHeader:
    _require_size(layout.size, limits, name)
    size = layout.size if layout.orientation < 5 else layout.size[::-1]
    width, height = size
    return ImageHeader(
        "TIFF", width, height, layout.mode, False, "TIFF", layout.orientation, bits=layout.bits
    )


def _estimate_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The quality at which libjpeg scales its table of luminance, whose steps sum to 3688, to this file's sum."""
    if not tables:
        return 0
    scale = 100 * sum(tables[min(tables)]) / 3688
    return round(min(max((200 - scale) / 2 if scale <= 100 else 5000 / scale, 1), 100))


def _find_foreign_trait(image: ImageFile, data: bytes) -> str:
    if isinstance(image, WebPImageFile):
        return "WebP"
    if isinstance(image, JpegImageFile):
        return "" if image.mode in ("L", "RGB") else f"JPEG in {image.mode}"
    if isinstance(image, BmpImageFile):
        return _find_foreign_bmp_trait(image, data)
    return ""


def _find_foreign_bmp_trait(image: BmpImageFile, data: bytes) -> str:
    header_size, bits, compression, masks = _read_bmp_layout(data)
    row_bytes = (image.width * bits + 31) // 32 * 4
    (start,) = struct.unpack_from("<I", data, 10)
    traits = {
        "BMP with an OS/2 header": header_size < 40,
        "BMP with another channel order": compression == 3 and masks != (0xFF0000, 0xFF00, 0xFF),
        "run-length coded BMP": compression not in (0, 3),
        "BMP with a palette": bits == 8 and image.mode != "L",
        f"{bits}-bit BMP": bits not in (8, 24, 32),
        "BMP whose length is not that of its pixels": len(data) != start + row_bytes * image.height,
    }
    return next((trait for trait, found in traits.items() if found), "")


def _read_bmp_layout(data: bytes) -> tuple[int, int, int, tuple[int, ...]]:
    """Header size, bits per pixel, compression (0 none, 3 bit fields) and colour masks of a BMP."""
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size < 40:
        return header_size, struct.unpack_from("<H", data, 24)[0], 0, ()
    bits, compression = struct.unpack_from("<HI", data, 28)
    masks = struct.unpack_from("<3I", data, 54) if compression == 3 else ()
    return header_size, bits, compression, masks


def first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
