"""From a checked header to pixels, or to bytes that TensorFlow reads right."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from kerasall.decoding.headers import (
    DEFAULT_LIMITS,
    READABLE_16_BIT_MODES,
    UPRIGHT,
    ImageHeader,
    Limits,
    first_line,
    open_image,
)
from kerasall.errors import DecodingError

Allocate = Callable[[tuple[int, int, int]], np.ndarray]
"""Shape -> uint8 array of that shape, contiguous and writable, whose content is to be replaced."""
_STRIP = 64
"""Rows of a BMP that are turned about in one go."""


def decode(
    data: bytes,
    limits: Limits = DEFAULT_LIMITS,
    name: str = "image",
    allocate: Allocate = lambda shape: np.empty(shape, np.uint8),
) -> np.ndarray:
    """Decodes an image to uint8 [height, width, 3], RGB.

    Equals ``graph.decode_native(to_native(data))`` pixel by pixel.

    Args:
        data: the file's bytes.
        limits: what is refused as too large.
        name: how messages call the image; best its path.
        allocate: makes the array for the pixels. Asked where the decoder can write into a given array (plain
            BMP); every other kind comes in an array of its own.

    Raises:
        DecodingError: as ``read_header``, and for truncated or corrupt pixel data.
    """
    header, image = open_image(data, limits, name)
    return _decode_opened(header, image, data, name, allocate)


def to_native(data: bytes, limits: Limits = DEFAULT_LIMITS, name: str = "image") -> bytes:
    """Gives bytes that TensorFlow's ``decode_image(channels=3)`` reads right.

    Native kinds come back unchanged and undecoded; all others as a 24-bit BMP of the pixels that
    ``decode`` gives. A truncated BMP, PNG or TIFF is refused here; of a native JPEG only the header is
    read, so a truncated one is found by ``decode`` or by TensorFlow.

    Raises:
        DecodingError: as ``read_header``, and for truncated data as far as said above.
    """
    header, image = open_image(data, limits, name)
    if header.native:
        if header.format == "PNG":
            _require_whole_png(data, name)
        return data
    return _write_bmp(_decode_opened(header, image, data, name, lambda shape: np.empty(shape, np.uint8)))


def _write_bmp(pixels: np.ndarray) -> bytes:
    """RGB pixels as a plain BMP: packing them as PNG would take seconds for 16 million, more than all else together."""
    height, width, _ = pixels.shape
    row_bytes = (3 * width + 3) // 4 * 4
    file = np.zeros(54 + height * row_bytes, np.uint8)
    sizes = (40, width, height, 1, 24, 0, height * row_bytes, 0, 0, 0, 0)
    file[:54] = np.frombuffer(b"BM" + struct.pack("<IIIIiiHHIIiiII", len(file), 0, 54, *sizes), np.uint8)
    rows = file[54:].reshape(height, row_bytes)
    for channel in range(3):
        rows[:, channel : 3 * width : 3] = pixels[::-1, :, 2 - channel]
    return file.tobytes()


def _decode_opened(
    header: ImageHeader, image: ImageFile | None, data: bytes, name: str, allocate: Allocate
) -> np.ndarray:
    if header.format == "PNG":
        _require_whole_png(data, name)
    try:
        fast = _decode_fast(header, data, allocate)
        if fast is not None:
            return fast
        assert image is not None  # only of plain BMP, which are decoded by now
        if header.format == "WEBP":
            return _read_webp(data, header)
        return np.array(_to_rgb(image, header))
    except Exception as error:  # whatever broken data provoke in Pillow
        raise _broken_pixels(name, first_line(error)) from None


def _decode_fast(header: ImageHeader, data: bytes, allocate: Allocate) -> np.ndarray | None:
    """OpenCV's pixels of plain BMP and of whole JPEG, equal to Pillow's in a part of the time; None of all else."""
    if header.native and header.format == "BMP" and header.mode != "L":
        return _read_plain_bmp(data, allocate)
    # OpenCV makes up what a cut JPEG lacks: without its end mark it is Pillow's to judge.
    if header.native and header.format == "JPEG" and data.endswith(b"\xff\xd9"):
        import cv2  # a part of a second, which the command line need not wait for

        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None


def _read_plain_bmp(data: bytes, allocate: Allocate) -> np.ndarray:
    """Pixels of a BMP of 24 or 32 bits, not packed, whose length was checked."""
    import cv2

    (start,) = struct.unpack_from("<I", data, 10)
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    shape, row_bytes = (abs(height), width, bits // 8), (width * bits + 31) // 32 * 4
    stored = np.ndarray(shape, np.uint8, data, start, (row_bytes, bits // 8, 1))
    pixels = allocate((abs(height), width, 3))
    if bits == 32:
        cv2.cvtColor(stored, cv2.COLOR_BGRA2RGB, pixels)
        return cv2.flip(pixels, 0, pixels) if height > 0 else pixels
    if height < 0:
        return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB, pixels)
    # A few rows at a time: turned about, they are still in the processor's cache when red and blue change places.
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        upright = cv2.flip(stored[height - bottom : height - top], 0)
        cv2.cvtColor(upright, cv2.COLOR_BGR2RGB, pixels[top:bottom])
    return pixels


def _read_webp(data: bytes, header: ImageHeader) -> np.ndarray:
    """Pillow gives the same, by way of two canvases for an animation that it is not."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("its WebP data are broken")
    return (
        pixels
        if header.orientation == 1
        else np.array(Image.fromarray(pixels).transpose(UPRIGHT[header.orientation]))
    )


def _to_rgb(image: ImageFile, header: ImageHeader) -> Image.Image:
    image.load()
    if header.mode in READABLE_16_BIT_MODES:
        high_bytes = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        rgb = Image.fromarray(high_bytes).convert("RGB")
    else:
        image.info.pop("transparency", None)  # dropped by policy; Pillow would warn
        # Premultiplied colours: Pillow converts them only by way of the mode with separate alpha.
        straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
        rgb = (image.convert(straight) if straight else image).convert("RGB")
    image.close()  # its pixels are copied now, and may be as many bytes again
    return rgb if header.orientation == 1 else rgb.transpose(UPRIGHT[header.orientation])


def _require_whole_png(data: bytes, name: str) -> None:
    if problem := _find_png_problem(data):
        raise _broken_pixels(name, problem)


def _find_png_problem(data: bytes) -> str:
    """Checks every critical chunk's checksum up to the end mark, as libpng does; Pillow skips the pixels'."""
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + 8 + length
        if end + 4 > len(data):
            return f"it ends within chunk {kind!r}"
        critical = not kind[0] & 0x20  # a small first letter marks metadata that a reader may skip
        if critical and zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"wrong checksum of chunk {kind!r}"
        if kind == b"IEND":
            return ""
        position = end + 4
    return "it ends before its end mark"


def _broken_pixels(name: str, reason: str) -> DecodingError:
    return DecodingError(
        f"{name} must hold a whole image, but its pixels cannot be decoded ({reason}): "
        "the file is truncated or corrupt; copy or export it again"
    )
