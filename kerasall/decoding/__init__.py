"""From the bytes of an image file to pixels: header check, size limits, one policy for every kind.

Below everything: Pillow, simplejpeg, numpy and OpenCV, no TensorFlow. Read are BMP, PNG, JPEG, TIFF and WebP, told apart
by their first bytes, never by the name of the file. Nothing is decoded before the header has passed the limits.

Training decodes with ``decode``, the exported model with TensorFlow (``serving.export.decode_native``): the pixels are
the same, bit by bit. Kinds that TensorFlow reads exactly right are *native* and pass through ``to_native``
unchanged once they are known to be whole; every other kind becomes a 24-bit BMP of the very pixels that ``decode`` gives, or
of 16-bit samples a PNG, which the graph brings to 8 bits:

====================================================================  ============================
kind                                                                  what TensorFlow 2.21 does
====================================================================  ============================
BMP 24-bit, 8-bit grey, 32-bit in plain BGR(A) order; either row order  right: native
PNG of every colour type and depth, interlaced or not, tRNS, gAMA     right: native
JPEG grey, YCbCr and RGB, sequential and progressive                  right where whole: native
BMP 8-bit with a palette, 4-bit                                       **wrong pixels, no error**: transcoded
BMP 32-bit with other channel orders                                  **wrong pixels, no error**: transcoded
BMP 1-bit, 16-bit, run-length coded, OS/2 header, bytes at the end    refuses: transcoded
JPEG CMYK                                                             inverts some: transcoded
EXIF orientation other than upright (any kind)                        ignores it: transcoded, upright
TIFF                                                                  refuses: transcoded, of 16 bits too
WebP                                                                  refuses alpha: transcoded
====================================================================  ============================

Policy, the same on both ways:

- Alpha is dropped, never composited: the stored colours are used as they are, also those that a TIFF calls
  premultiplied (associated alpha). tRNS counts as alpha.
- 16-bit samples give their high byte (value // 256): no stretch to the image's own range, which would
  make one pixel's value depend on the others; unless the setting ``data.sixteen_bit`` says otherwise, for cameras that
  use the lower bits alone (``depth``). 12- and 32-bit, signed and floating-point samples are refused.
- Grey becomes three equal channels. CMYK is converted as RGB = (255 - C)(255 - K) / 255; colour profiles
  and gamma are ignored.
- EXIF (or XMP) orientation that stands before the pixels is applied; sizes are those after it.
- A file that is truncated or damaged is an error, not an image with a grey rest. TensorFlow answers damaged JPEG, and
  PNG whose rows have a wrong sum, as if they were whole: ``to_native`` refuses them before it (``damage``).
- JPEG that is lossless, of 12 bits, or of a colour sampling that libjpeg-turbo has no name for is refused.
- Animated and multi-page files are refused: which of the pictures is meant cannot be known. So are stacks that stand
  behind one directory of a TIFF (ImageJ, OME, MetaMorph), and several channels without a word on what they are.
- Of TIFF is read (``tiff_layout``): grey, palette, RGB and CMYK samples of 1, 2, 4, 8 or 16 bits (palette and CMYK 8 at most),
  in strips or tiles, channels together or apart, plain or packed by LZW, deflate, PackBits, LZMA, Zstandard or JPEG, and
  horizontal prediction; either order of bytes and bits, BigTIFF, pyramids in SubIFDs. All else is refused.
"""

from __future__ import annotations

from kerasall.decoding.depth import FULL, MINMAX, SixteenBit, find_sixteen_bit
from kerasall.decoding.headers import (
    DEFAULT_LIMITS,
    ImageHeader,
    Limits,
    read_header,
    read_image_bytes,
    with_limits,
)
from kerasall.decoding.pixels import decode, to_native

__all__ = [
    "DEFAULT_LIMITS",
    "FULL",
    "MINMAX",
    "ImageHeader",
    "Limits",
    "SixteenBit",
    "decode",
    "find_sixteen_bit",
    "read_header",
    "read_image_bytes",
    "to_native",
    "with_limits",
]
