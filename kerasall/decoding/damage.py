"""Whether a JPEG or PNG holds the whole picture that its header promises.

A decoder of JPEG makes up what a scan lacks: libjpeg warns and goes on, and Pillow, OpenCV and TensorFlow keep its
warnings to themselves. Here they are errors, and so is what libjpeg does not warn of: scans of a progressive
picture or of one colour that never came, a stretch of the disk that reads as zeros. What cannot be seen is damage
after which every code still has a meaning and their number is right, as after many a flipped bit: a JPEG carries no
checksum. A PNG does, of its file and of its rows; whether there are as many rows as its header says is counted.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import simplejpeg

# The first marker at a place: fill bytes, and restart marks that follow the last block, are passed over.
_MARKER = re.compile(rb"(?:\xff++[\x01\xd0-\xd7])*+\xff++([^\x00\xff])")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILLED_SCAN = re.compile(rb"\xff\xff\x00")
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_STEPS, _TABLES, _SCAN, _END = 0xDB, 0xC4, 0xDA, 0xD9
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
# What libjpeg warns of that says nothing of the pixels -> where it stands, and what it would not warn of.
_HARMLESS = {
    "JFIF revision": (re.compile(rb"(\xff\xe0..JFIF\0)[^\1]", re.DOTALL), b"\\g<1>\1"),
    "ICC marker": (
        re.compile(rb"\xff\xe2(..ICC_PROFILE\0)", re.DOTALL),
        b"\xff\xec\\g<1>",
    ),  # of no colour profile
}
_ZEROS = bytes(32)
_MOST_SEGMENTS = 2000
UNUSUAL = "it is a lossless or hierarchical JPEG, or one of unusual colour sampling"
"""What may be whole, but cannot be checked by libjpeg-turbo, or is not read by TensorFlow."""
_PIECE = 1 << 16
# Interlaced PNG (Adam7): first column, first row, step between columns, step between rows of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def decode_jpeg(
    data: bytes, size: tuple[int, int], into: np.ndarray | None = None, most_segments: int = _MOST_SEGMENTS
) -> np.ndarray:
    """Pixels of a grey, YCbCr or RGB JPEG, uint8 [height, width, 3]; equal to those of every libjpeg-turbo.

    Args:
        data: the file's bytes.
        size: width and height that its header was found to tell, and whose limits were checked.
        into: of that shape, to be filled and given back; None for an array of its own.
        most_segments: parts that it may have.

    Raises:
        ValueError: the picture is not whole; in libjpeg's words or ours.
    """
    if problem := find_scan_problem(data, most_segments):
        raise ValueError(problem)
    return _run_through(data, "RGB", 0, size, into)


def require_whole_jpeg(data: bytes) -> None:
    """Runs through all codes of a JPEG, of CMYK too, in half the time of decoding: each block becomes one pixel.

    Raises:
        ValueError: as ``decode_jpeg``.
    """
    if problem := find_scan_problem(data):
        raise ValueError(problem)
    _run_through(data, "GRAY", 1, None)


def _run_through(
    data: bytes, colours: str, least_side: int, size: tuple[int, int] | None, into: np.ndarray | None = None
) -> np.ndarray:
    try:
        pixels = simplejpeg.decode_jpeg(
            data, colours, min_height=least_side, min_width=least_side, buffer=into, strict=True
        )
    except ValueError as error:
        if "subsampling" in str(error):
            raise ValueError(UNUSUAL) from None
        head = data.find(b"\xff\xda")
        for words, (found, instead) in _HARMLESS.items():
            known = found.sub(instead, data[:head]) + data[head:] if words in str(error) else data
            if known != data:
                return _run_through(known, colours, least_side, size, into)
        raise
    if size and pixels.shape[1::-1] != size:
        raise ValueError("its size is told twice")
    return pixels


def find_scan_problem(data: bytes, most_segments: int = _MOST_SEGMENTS) -> str:
    """What a JPEG lacks although each of its scans may be whole: "" if it lacks nothing.

    Args:
        data: the file's bytes, or those of a TIFF's strip, whose parts nobody has counted.
        most_segments: parts that are looked at.
    """
    sent: dict[int, list[int]] = {}  # component -> of its 64 coefficients, the lowest bit that came; -1: none
    first_symbols: dict[int, int] = {}  # table -> what its code of zeros alone means
    progressive = False
    position = 2
    for _ in range(most_segments):
        if not (marker := _MARKER.match(data, position)):
            return (
                "it ends before its end mark"
                if position >= len(data)
                else f"byte {position} begins no segment"
            )
        kind, start = data[marker.end() - 1], marker.end() + 2
        if kind == _END:
            return "" if set().union(*sent.values()) == {0} else "a scan is missing"
        position = start - 2 + int.from_bytes(data[start - 2 : start], "big")
        body = data[start:position]
        if kind in _FRAMES:
            if kind not in _SEQUENTIAL + _PROGRESSIVE:
                return UNUSUAL
            progressive = kind in _PROGRESSIVE
            sent = {component: [-1] * 64 for component in _number(body[6::3])}
        elif kind == _STEPS and _has_no_step(body):
            return "a table of steps holds zeros"
        elif kind == _TABLES:
            first_symbols |= _read_first_symbols(body)
        elif kind == _SCAN:
            end = _END_OF_SCAN.search(data, position)
            codes = position, end.start() if end else len(data)
            problem = _note_scan(body, progressive, sent) or _find_filling(data, *codes, body, first_symbols)
            if problem:
                return problem
            position = codes[1]
    return f"it has more than {most_segments:,} segments"


def _note_scan(header: bytes, progressive: bool, sent: dict[int, list[int]]) -> str:
    """Enters into ``sent`` what a scan brings."""
    if len(header) < 6 or len(header) != 4 + 2 * header[0]:
        return "a scan has a broken header"
    first, last, bits = header[-3:] if progressive else (0, 63, 0)
    for component in _number(header[1:-3:2]):
        came = sent.get(component)
        if came is None or last > 63 or set(came[first : last + 1]) != {bits >> 4 or -1}:
            return "a scan comes twice or out of order"
        came[first : last + 1] = [bits & 15] * (last + 1 - first)
    return ""


def _number(components: bytes) -> list[int]:
    """Their numbers; where a writer gave one twice, those that libjpeg gives in its place."""
    numbers: list[int] = []
    for component in components:
        numbers.append(max(numbers) + 1 if component in numbers else component)
    return numbers


def _has_no_step(tables: bytes) -> bool:
    """Whether a step of a quantization table is 0, which makes flat what it stands for: no encoder writes one."""
    position = 0
    while position < len(tables):
        each = 2 if tables[position] >> 4 else 1
        steps = tables[position + 1 : position + 1 + 64 * each]
        if 0 in steps and not all(any(steps[at : at + each]) for at in range(0, len(steps), each)):
            return True
        position += 1 + 64 * each
    return False


def _read_first_symbols(tables: bytes) -> dict[int, int]:
    """Class and number of each Huffman table -> its first symbol."""
    found, position = {}, 0
    for _ in range(8):  # there are no more, however long a segment
        if position + 17 >= len(tables):
            break
        found[tables[position]] = tables[position + 17]
        position += 17 + sum(tables[position + 1 : position + 17])
    return found


def _find_filling(data: bytes, start: int, end: int, header: bytes, first_symbols: dict[int, int]) -> str:
    """A scan that a disk or a copy filled up.

    Zeros can be codes of a black or flat area, if a code of zeros means "no more in this block". If it means another
    step of a coefficient, one block after the other would have all its coefficients alike.
    """
    if _FILLED_SCAN.search(data, start, end):
        return "a scan holds bytes of ones"
    first, last, bits = header[-3:]
    if last - first < 4 or bits >> 4 or data.find(_ZEROS, start, end) < 0:
        return ""
    meant = [first_symbols.get(0x10 | tables & 15, 0) for tables in header[2:-3:2]]
    return "a scan holds bytes of zeros" if any(symbol & 15 for symbol in meant) else ""


def require_whole_png(data: bytes) -> None:
    """Checks the chunks that matter as libpng does, and that the rows are all there; Pillow does neither.

    Raises:
        ValueError: the picture is not whole.
    """
    if problem := find_png_problem(data):
        raise ValueError(problem)


def find_png_problem(data: bytes) -> str:
    """What a PNG lacks, or what libpng would refuse of it: "" if all is there."""
    position, header, palette = 8, b"", None
    packed: list[bytes] = []
    after_pixels = False
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + 8 + length
        if end + 4 > len(data):
            return f"it ends within chunk {kind!r}"
        critical = not kind[0] & 0x20  # a small first letter marks metadata that a reader may skip
        if critical and zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"wrong checksum of chunk {kind!r}"
        if kind == b"IEND":
            return _find_header_problem(header, palette) or _find_row_problem(_inflate(packed), header)
        if kind == b"IHDR" and position == 8:
            header = data[16:end]
        elif kind == b"PLTE" and palette is None and not packed:
            palette = length
        elif kind == b"IDAT" and not after_pixels:
            packed.append(data[position + 8 : end])
        elif critical or (kind == b"fcTL" and data[position + 12 : end][:16] != header[:8] + bytes(8)):
            return f"chunk {kind!r} is unknown, or stands where it must not"
        after_pixels = bool(packed) and kind != b"IDAT"
        position = end + 4
    return "it ends before its end mark"


def _find_header_problem(header: bytes, palette: int | None) -> str:
    if len(header) != 13 or header[10:12] != b"\0\0" or header[12] > 1:
        return "its header is of no known version"
    if header[9] == 3 and not palette:
        return "its palette is missing"
    return "its palette is broken" if (palette or 0) % 3 or (palette or 0) > 768 else ""


def _inflate(packed: list[bytes]) -> Iterator[bytes]:
    """Unpacks piece by piece, so that memory stays small whatever it grows to."""
    inflater = zlib.decompressobj()
    for chunk in packed:
        for start in range(0, len(chunk), _PIECE):
            rest = chunk[start : start + _PIECE]
            while rest and not inflater.eof:
                yield inflater.decompress(rest, 16 * _PIECE)
                rest = inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof:
        raise zlib.error("the rows end within their compression")


def _find_row_problem(pieces: Iterable[bytes], header: bytes) -> str:
    passes = _measure_passes(header)
    position, whole = 0, passes[-1][1]
    try:
        for piece in pieces:
            for start, end, row_bytes in passes:
                low, high = max(start, position), min(end, position + len(piece))
                filters = piece[low + (start - low) % row_bytes - position : high - position : row_bytes]
                if low < high and max(filters, default=0) > 4:
                    return "a row has an unknown filter"
            position += len(piece)
            if position > whole:
                break
    except zlib.error as error:
        return str(error)
    found = "more" if position > whole else "fewer"
    return "" if position == whole else f"it holds {found} rows than its header says"


def _measure_passes(header: bytes) -> list[tuple[int, int, int]]:
    """Start, end and bytes of a row (its filter's included) of each pass, in the unpacked stream."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    found, start = [], 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        row_bytes = 1 + (max(columns, 0) * bits + 7) // 8
        end = start + (row_bytes * rows if columns > 0 and rows > 0 else 0)
        found.append((start, end, row_bytes))
        start = end
    return found
