"""From a checked header to pixels, or to bytes that TensorFlow reads right."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from kerasall.decoding.damage import UNUSUAL, decode_jpeg, require_whole_jpeg, require_whole_png
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

    Equals ``serving.export.decode_native(to_native(data))`` pixel by pixel.

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

    Native kinds come back unchanged, once their pixels are known to be whole; all others as an 8-bit RGB PNG of the
    pixels that ``decode`` gives. What ``decode`` refuses is refused here too: TensorFlow would make up what a damaged
    JPEG lacks.

    Raises:
        DecodingError: as ``decode``.
    """
    header, image = open_image(data, limits, name)
    if header.native:
        try:
            _require_whole(header, data)
        except Exception as error:
            raise _broken_pixels(name, first_line(error)) from None
        return data
    png = io.BytesIO()
    # Level 1: the PNG lives only until TensorFlow has decoded it.
    pixels = _decode_opened(header, image, data, name, lambda shape: np.empty(shape, np.uint8))
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
    return png.getvalue()


def _require_whole(header: ImageHeader, data: bytes) -> None:
    """Of a BMP the length was checked with its header; TIFF and WebP are decoded, and judged by it, on every way."""
    if header.format == "PNG":
        require_whole_png(data)
    elif header.format == "JPEG":
        require_whole_jpeg(data)


def _decode_opened(
    header: ImageHeader, image: ImageFile | None, data: bytes, name: str, allocate: Allocate
) -> np.ndarray:
    try:
        if header.native and header.format == "BMP" and header.mode != "L":
            return _read_plain_bmp(data, allocate)
        assert image is not None  # only of plain BMP, which are decoded by now
        if header.format == "JPEG" and header.mode in ("L", "RGB"):
            pixels = decode_jpeg(data, image.size)
            return (
                pixels
                if header.orientation == 1
                else np.array(_turn_upright(Image.fromarray(pixels), header))
            )
        _require_whole(header, data)
        return np.array(_to_rgb(image, header))
    except Exception as error:  # whatever broken data provoke in Pillow
        raise _broken_pixels(name, first_line(error)) from None


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


def _to_rgb(image: ImageFile, header: ImageHeader) -> Image.Image:
    if header.format == "PNG":
        image.load_end = lambda: (
            None
        )  # it would read the metadata after the pixels, and fail over broken ones
    image.load()
    if header.mode in READABLE_16_BIT_MODES:
        high_bytes = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        rgb = Image.fromarray(high_bytes).convert("RGB")
    else:
        image.info.pop("transparency", None)  # dropped by policy; Pillow would warn
        # Premultiplied colours: Pillow converts them only by way of the mode with separate alpha.
        straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
        rgb = (image.convert(straight) if straight else image).convert("RGB")
    return _turn_upright(rgb, header)


def _turn_upright(image: Image.Image, header: ImageHeader) -> Image.Image:
    return image if header.orientation == 1 else image.transpose(UPRIGHT[header.orientation])


def _broken_pixels(name: str, reason: str) -> DecodingError:
    cure = "the file is truncated or corrupt; copy or export it again"
    if reason == UNUSUAL:
        cure = "save it as a PNG"
    return DecodingError(
        f"{name} must hold a whole image, but its pixels cannot be decoded ({reason}): {cure}"
    )
