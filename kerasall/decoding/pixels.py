"""From a checked header to pixels, or to bytes that TensorFlow reads right."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from kerasall.decoding.headers import READABLE_16_BIT_MODES, UPRIGHT, ImageHeader, first_line, open_image
from kerasall.decoding.limits import DEFAULT_LIMITS, Limits
from kerasall.errors import DecodingError


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, name: str = "image") -> np.ndarray:
    """Decodes an image to uint8 [height, width, 3], RGB.

    Equals TensorFlow's decoding of ``to_native(data)`` exactly for BMP, PNG and TIFF. For native JPEG
    TensorFlow uses a faster, coarser inverse cosine transform: photographs differ by less than two grey
    levels on average, single pixels by more, most so above quality 95.

    Raises:
        DecodingError: as ``read_header``, and for truncated or corrupt pixel data.
    """
    header, image = open_image(data, limits, name)
    return _decode_opened(header, image, data, name)


def to_native(data: bytes, limits: Limits = DEFAULT_LIMITS, name: str = "image") -> bytes:
    """Gives bytes that TensorFlow's ``decode_image(channels=3)`` reads right.

    Native kinds come back unchanged and undecoded; all others as an 8-bit RGB PNG of the pixels that
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
    png = io.BytesIO()
    # Level 1: the PNG lives only until TensorFlow has decoded it.
    Image.fromarray(_decode_opened(header, image, data, name)).save(png, "PNG", compress_level=1)
    return png.getvalue()


def _decode_opened(header: ImageHeader, image: ImageFile, data: bytes, name: str) -> np.ndarray:
    if header.format == "PNG":
        _require_whole_png(data, name)
    try:
        return np.array(_to_rgb(image, header))
    except Exception as error:  # whatever broken data provoke in Pillow
        raise _broken_pixels(name, first_line(error)) from None


def _to_rgb(image: ImageFile, header: ImageHeader) -> Image.Image:
    image.load()
    if header.mode in READABLE_16_BIT_MODES:
        high_bytes = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        rgb = Image.fromarray(high_bytes).convert("RGB")
    else:
        image.info.pop("transparency", None)  # dropped by policy; Pillow would warn
        rgb = _straighten(image).convert("RGB")
    return rgb if header.orientation == 1 else rgb.transpose(UPRIGHT[header.orientation])


def _straighten(image: Image.Image) -> Image.Image:
    # Premultiplied colours: Pillow converts them only by way of the mode with separate alpha.
    straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
    return image.convert(straight) if straight else image


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
