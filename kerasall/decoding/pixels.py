"""From a checked header to pixels, or to bytes that TensorFlow reads right."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from PIL.ImageFile import ImageFile

from kerasall.decoding.damage import UNUSUAL, decode_jpeg, require_whole_jpeg, require_whole_png
from kerasall.decoding.depth import FULL, SixteenBit, to_eight_bits
from kerasall.decoding.headers import (
    DEFAULT_LIMITS,
    ImageHeader,
    Limits,
    first_line,
    open_image,
)
from kerasall.decoding.tiff_layout import read_layout
from kerasall.decoding.tiff_samples import read_samples
from kerasall.errors import DecodingError

Allocate = Callable[[tuple[int, int, int]], np.ndarray]
"""Shape -> uint8 array of that shape, contiguous and writable, whose content is to be replaced."""


def decode(
    data: bytes,
    limits: Limits = DEFAULT_LIMITS,
    name: str = "image",
    allocate: Allocate = lambda shape: np.empty(shape, np.uint8),
    sixteen_bit: SixteenBit = FULL,
) -> np.ndarray:
    """Decodes an image to uint8 [height, width, 3], RGB.

    Equals ``serving.export.decode_native(to_native(data), sixteen_bit)`` pixel by pixel.

    Args:
        data: the file's bytes.
        limits: what is refused as too large.
        name: how messages call the image; best its path.
        allocate: makes the array for the pixels. Asked where the decoder can write into a given array (plain
            BMP, upright JPEG); every other kind comes in an array of its own.
        sixteen_bit: what becomes of 16-bit samples, and of no others.

    Raises:
        DecodingError: as ``read_header``, for truncated or corrupt pixel data, and for a value above those that
            ``sixteen_bit`` allows.
    """
    header, image = open_image(data, limits, name)
    if header.bits == 16:
        return _spread(_name_excess(_read_deep(header, data, name), sixteen_bit, name))
    return _decode_opened(header, image, data, name, allocate)


def to_native(data: bytes, limits: Limits = DEFAULT_LIMITS, name: str = "image") -> bytes:
    """Gives bytes that TensorFlow's ``decode_image(channels=3)`` reads right.

    Native kinds come back unchanged, once their pixels are known to be whole; all others as a 24-bit BMP of the pixels
    that ``decode`` gives, or as a PNG of 16-bit samples, which the graph brings to 8 bits as it was told to. What
    ``decode`` refuses is refused here too: TensorFlow would make up what a damaged JPEG lacks.

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
    if header.bits == 16:
        return _save_deep_png(_read_deep(header, data, name))
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
        if header.format == "TIFF":
            return _spread(_turn(read_samples(read_layout(data, name), data), header.orientation))
        if header.format == "JPEG" and header.mode in ("L", "RGB"):
            width, height = (header.width, header.height) if image is None else image.size
            # What is still to be turned comes in an array of its own.
            into = allocate((height, width, 3)) if header.orientation == 1 else None
            return _turn(decode_jpeg(data, (width, height), into), header.orientation)
        assert image is not None  # only of plain BMP and JPEG and TIFF, which are decoded by now
        if header.format == "WEBP":
            return _turn(_read_webp(data), header.orientation)
        _require_whole(header, data)
        return _turn(_to_rgb(image, header), header.orientation)
    except Exception as error:  # whatever broken data provoke in Pillow
        raise _broken_pixels(name, first_line(error)) from None


def _read_deep(header: ImageHeader, data: bytes, name: str) -> np.ndarray:
    """Samples of a 16-bit PNG or TIFF, upright: uint16, grey [H, W] or RGB [H, W, 3]."""
    try:
        if header.format == "TIFF":
            samples = read_samples(read_layout(data, name), data)
        else:
            import cv2

            require_whole_png(data)
            samples = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
            samples = samples if samples.ndim == 2 else np.ascontiguousarray(samples[..., 2::-1])
        return _turn(samples, header.orientation)
    except Exception as error:  # whatever broken data provoke in the libraries
        raise _broken_pixels(name, first_line(error)) from None


def _name_excess(samples: np.ndarray, sixteen_bit: SixteenBit, name: str) -> np.ndarray:
    try:
        return to_eight_bits(samples, sixteen_bit)
    except ValueError as error:
        raise DecodingError(f"{name} {error}: correct the setting, or the file") from None


def _save_deep_png(samples: np.ndarray) -> bytes:
    import cv2  # Pillow writes no 16-bit colours. Not packed: the file lives only until TensorFlow has decoded it.

    ordered = samples if samples.ndim == 2 else samples[..., ::-1]
    return cv2.imencode(".png", ordered, (cv2.IMWRITE_PNG_COMPRESSION, 0))[1].tobytes()


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Brings samples [H, W, ...] that are stored turned or mirrored upright."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.ascontiguousarray(np.flip(samples, flips.get(orientation, ())))


def _spread(samples: np.ndarray) -> np.ndarray:
    """Grey [H, W] as three equal channels; RGB as it is."""
    return samples if samples.ndim == 3 else np.repeat(samples[..., None], 3, axis=2)


def _read_plain_bmp(data: bytes, allocate: Allocate) -> np.ndarray:
    """Pixels of a BMP of 24 or 32 bits, not packed, whose length was checked."""
    import cv2

    (start,) = struct.unpack_from("<I", data, 10)
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    shape, row_bytes = (abs(height), width, bits // 8), (width * bits + 31) // 32 * 4
    stored = np.ndarray(shape, np.uint8, data, start, (row_bytes, bits // 8, 1))
    pixels = allocate((abs(height), width, 3))
    cv2.cvtColor(stored, cv2.COLOR_BGRA2RGB if bits == 32 else cv2.COLOR_BGR2RGB, pixels)
    # Turned about in place: of what was just written, most is still in the processor's cache.
    return cv2.flip(pixels, 0, pixels) if height > 0 else pixels


def _read_webp(data: bytes) -> np.ndarray:
    """Pillow gives the same, by way of two canvases for an animation that it is not."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("its WebP data are broken")
    return pixels


def _to_rgb(image: ImageFile, header: ImageHeader) -> np.ndarray:
    if header.format == "PNG":
        # It would read the metadata after the pixels, and fail over broken ones.
        image.load_end = lambda: None
    image.load()
    image.info.pop("transparency", None)  # dropped by policy; Pillow would warn
    converted = image.convert("RGB")
    image.close()  # its pixels are copied now, and are as many bytes again
    return np.array(converted)


def _broken_pixels(name: str, reason: str) -> DecodingError:
    cure = "the file is truncated or corrupt; copy or export it again"
    if reason == UNUSUAL:
        cure = "save it as a PNG"
    return DecodingError(
        f"{name} must hold a whole image, but its pixels cannot be decoded ({reason}): {cure}"
    )
