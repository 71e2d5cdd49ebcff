"""Files of every kind, damaged or made up: does training see the pixels that the exported graph sees, or neither any?

As a program: ``python tests/mutated_files.py --minutes 60``. A child process judges them, so that a crash, a case
that takes too long or too much memory ends only the child; its bytes are kept under ``--keep``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from test_decoding import EXACT, GREY, LOSSY, RGB

from kerasall.decoding import Limits, decode, to_native
from kerasall.errors import DecodingError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LIMITS = Limits(max_side=4096, max_pixels=1 << 20)
SECONDS, MEBIBYTES = 10, 400
"""What one case may take of the processor and of memory, both ways together."""


def _jpeg(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


SEEDS: dict[str, bytes] = {name: data for name, (data, *_) in (EXACT | LOSSY).items()} | {
    "JPEG restarts": _jpeg(RGB, quality=90, restart_marker_blocks=2),
    "JPEG progressive restarts": _jpeg(RGB, quality=90, progressive=True, restart_marker_rows=1),
    "JPEG grey progressive": _jpeg(GREY, progressive=True),
    "JPEG own tables": _jpeg(RGB, optimize=True, subsampling=0),
}
KINDS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP")
_ODD_NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 127, 128, 255, 256, 4095, 4096, 65535, 65536, (1 << 31) - 1, 1 << 31,
                (1 << 32) - 1)  # fmt: skip
_NO_SUCH_PART = (struct.error, IndexError, ValueError, TypeError, AttributeError, zlib.error)
Mutation = Callable[[random.Random, bytes], bytes]


def mutate(draw: random.Random, name: str) -> bytes:
    """One to four mutations of a seed, of its kind's structure or of its bytes."""
    data, kind = SEEDS[name], name.split()[0]
    for _ in range(draw.choice((1, 1, 1, 1, 2, 2, 3))):
        own = _OF_KIND[kind] if draw.random() < (0.9 if kind == "PNG" else 0.65) else _OF_BYTES
        with contextlib.suppress(*_NO_SUCH_PART):
            data = draw.choice(own)(draw, data)
    return data


# --- bytes


def _span(draw: random.Random, data: bytes) -> tuple[int, int]:
    start = draw.randrange(len(data))
    return start, min(len(data), start + draw.choice((1, 1, 2, 4, 16, 64, 400)))


def _flip(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(min(len(data), draw.choice((64, 700, 1 << 20))))
    return (
        data[:place]
        + bytes([data[place] ^ draw.choice((1, 2, 4, 8, 16, 32, 64, 128, 255))])
        + data[place + 1 :]
    )


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(1, len(data))]


def _cut_and_close(draw: random.Random, data: bytes) -> bytes:
    end = data[-12:] if data.startswith(b"\x89PNG") else data[-2:]
    return data[: draw.randrange(1, len(data))] + end


def _fill(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    length = end - start
    filling = draw.choice((bytes(length), b"\xff" * length, draw.randbytes(length)))
    return data[:start] + filling + data[end:]


def _fill_tail(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(1, len(data))
    return data[:start] + draw.choice((b"\0", b"\xff")) * (len(data) - start)


def _remove(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:] or data


def _repeat(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:end] + data[start:]


def _insert(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + draw.randbytes(end - start) + data[start:]


def _append(draw: random.Random, data: bytes) -> bytes:
    return data + draw.choice((b"\0", bytes(64), b"hello", data, b"\xff\xd9", b"\r\n"))


def _splice(draw: random.Random, data: bytes) -> bytes:
    other = SEEDS[draw.choice([name for name in SEEDS if SEEDS[name][:2] == data[:2]] or list(SEEDS))]
    return data[: draw.randrange(1, len(data))] + other[draw.randrange(len(other)) :]


def _number(draw: random.Random, data: bytes) -> bytes:
    form = draw.choice(("<H", ">H", "<I", ">I"))
    place = draw.randrange(min(len(data), 256) - 4)
    value = draw.choice(_ODD_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
    return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]


_OF_BYTES: tuple[Mutation, ...] = (
    _flip, _flip, _cut, _cut_and_close, _fill, _fill_tail, _remove, _repeat, _insert, _append, _splice, _number,
)  # fmt: skip

# --- PNG: chunks, their checksums right again

_PNG = b"\x89PNG\r\n\x1a\n"


def _split_png(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def _join_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return _PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _edit_chunks(draw: random.Random, data: bytes) -> bytes:
    chunks = _split_png(data)
    place, other = draw.randrange(len(chunks)), draw.randrange(len(chunks))
    kind, body = chunks[place]
    match draw.randrange(6):
        case 0:
            del chunks[place]
        case 1:
            chunks.insert(other, chunks[place])
        case 2:
            chunks[place], chunks[other] = chunks[other], chunks[place]
        case 3:
            chunks[place] = kind, draw.choice(_OF_BYTES)(draw, body)
        case 4:
            chunks[place] = (
                bytes([kind[0] ^ draw.choice((0, 32)), *kind[1:3], kind[3] ^ draw.choice((1, 32))]),
                body,
            )
        case 5:
            chunks.insert(other, draw.choice(_CHUNKS))
    return _join_png(chunks)


_CHUNKS = (
    (b"IDAT", b""), (b"ABCD", b"?"), (b"abCd", b"?"), (b"tRNS", b"\0\1"), (b"tRNS", b"\0\1\0\2\0\3"), (b"tRNS", bytes(300)),
    (b"PLTE", bytes(range(6))), (b"PLTE", bytes(768)), (b"PLTE", b"\1\2"), (b"gAMA", struct.pack(">I", 45455)),
    (b"sBIT", b"\5\5\5"), (b"sBIT", b"\0\0\0"), (b"bKGD", b"\0\1\0\2\0\3"), (b"acTL", struct.pack(">II", 1, 0)),
    (b"acTL", struct.pack(">II", 3, 0)), (b"sRGB", b"\0"), (b"cHRM", bytes(32)), (b"iCCP", b"x\0\0" + zlib.compress(b"no")),
    (b"tEXt", b"k\0v"), (b"zTXt", b"k\0\0" + zlib.compress(bytes(4096))), (b"IEND", b""), (b"pHYs", bytes(9)),
    (b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"), (b"fcTL", bytes(26)), (b"IHDR", bytes(13)),
)  # fmt: skip


def _edit_png_header(draw: random.Random, data: bytes) -> bytes:
    chunks = _split_png(data)
    fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
    place = draw.randrange(7)
    fields[place] = (
        max(0, fields[place] + draw.choice((-8, -1, 1, 8, 40)))
        if place < 2
        else draw.choice((0, 1, 2, 3, 4, 6, 8, 16))
    )
    chunks[0] = chunks[0][0], struct.pack(">IIBBBBB", *fields)
    return _join_png(chunks)


def _edit_rows(draw: random.Random, data: bytes) -> bytes:
    chunks = _split_png(data)
    places = [place for place, (kind, _) in enumerate(chunks) if kind == b"IDAT"]
    rows = zlib.decompress(b"".join(chunks[place][1] for place in places))
    cut = draw.randrange(len(rows))
    packed = zlib.compress(rows)
    end = draw.randrange(len(packed))
    packed = draw.choice(
        (
            zlib.compress(rows[:cut]), zlib.compress(rows + rows[:cut]), zlib.compress(draw.choice(_OF_BYTES)(draw, rows)),
            zlib.compress(rows[:cut] + b"\5" + rows[cut + 1 :]), packed[:-1] + b"?", packed[:-4], packed[:end],
            packed + packed, packed + b"?" * 9, zlib.compress(rows, 0), packed[:end] + b"?" + packed[end + 1 :],
        )
    )  # fmt: skip
    parts = draw.choice(([packed], [packed[:end], packed[end:]], [b"", packed[:1], b"", packed[1:], b""]))
    rest = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    return _join_png(rest[: places[0]] + [(b"IDAT", part) for part in parts] + rest[places[0] :])


# --- JPEG: segments; a scan's codes belong to its segment

_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _split_jpeg(data: bytes) -> list[bytes]:
    marks = []
    place = 2
    while found := _NEXT.search(data, place):
        marks.append(found.start())
        length = (
            0
            if data[found.start() + 1] == 0xD9
            else int.from_bytes(data[found.end() : found.end() + 2], "big")
        )
        place = found.end() + length
    return [data[start:end] for start, end in zip(marks, [*marks[1:], len(data)], strict=True)]


def _edit_segments(draw: random.Random, data: bytes) -> bytes:
    parts = _split_jpeg(data)
    place, other = draw.randrange(len(parts)), draw.randrange(len(parts))
    match draw.randrange(6):
        case 0:
            del parts[place]
        case 1:
            parts.insert(other, parts[place])
        case 2:
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            parts[place] = parts[place][:4] + draw.choice(_OF_BYTES)(draw, parts[place][4:])
        case 4:
            parts.insert(other, draw.choice(_SEGMENTS))
        case 5:
            parts[place] = parts[place][:1] + bytes([draw.randrange(0xC0, 0xFF)]) + parts[place][2:]
    return data[:2] + b"".join(parts)


_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
_SEGMENTS = (
    _ADOBE + b"\0", _ADOBE + b"\1", _ADOBE + b"\2", b"\xff\xdd\0\4\0\1", b"\xff\xdd\0\4\0\2", b"\xff\xdd\0\4\0\0",
    b"\xff\xfe\0\5abc", b"\xff\xd0", b"\xff\xd8", b"\xff\xd9", b"\xff\xff\xff", b"abc", b"\xff\1", b"\xff\xdc\0\4\0\x10",
    b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0", b"\xff\xe2\0\x10ICC_PROFILE\0\2\1",
    b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0",
)  # fmt: skip


def _edit_frame(draw: random.Random, data: bytes) -> bytes:
    place = re.search(rb"\xff[\xc0-\xc2]\0", data).start()  # type: ignore[union-attr]
    frame = bytearray(data[place : place + 19])
    match draw.randrange(5):
        case 0:
            frame[1] = draw.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA))
        case 1:
            frame[4] = draw.choice((8, 12, 16, 2))
        case 2:
            side = draw.choice((5, 7))
            value = int.from_bytes(frame[side : side + 2], "big") + draw.choice((-16, -8, -1, 1, 8, 16, 32))
            frame[side : side + 2] = max(0, value).to_bytes(2, "big")
        case 3:
            frame[11] = draw.choice((0x11, 0x21, 0x12, 0x22, 0x41, 0x14, 0x31, 0x00, 0x44))
        case 4:
            frame[10] = draw.choice((0, 1, 2, 3, ord("R"), 255))
    return data[:place] + bytes(frame) + data[place + 19 :]


def _edit_restarts(draw: random.Random, data: bytes) -> bytes:
    marks = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    if not marks:
        place = draw.randrange(len(data) * 3 // 4, len(data) - 2)
        return data[:place] + bytes([0xFF, draw.randrange(0xD0, 0xD8)]) + data[place:]
    place = draw.choice(marks)
    mark = draw.choice((b"", data[place : place + 2] * 2, bytes([0xFF, draw.randrange(0xD0, 0xD8)])))
    return data[:place] + mark + data[place + 2 :]


def _hurt_scan(draw: random.Random, data: bytes) -> bytes:
    start = data.rindex(b"\xff\xda") + 14 if draw.random() < 0.5 else data.index(b"\xff\xda") + 14
    return data[:start] + draw.choice(_OF_BYTES[1:-2])(draw, data[start:-2]) + data[-2:]


# --- BMP, TIFF, WebP: fields


def _edit_bmp(draw: random.Random, data: bytes) -> bytes:
    place, form = draw.choice(
        ((2, "<I"), (10, "<I"), (14, "<I"), (18, "<i"), (22, "<i"), (26, "<H"), (28, "<H"), (30, "<I"), (34, "<I"), (46, "<I"))
    )  # fmt: skip
    (value,) = struct.unpack_from(form, data, place)
    value = draw.choice((-value, value + 1, value - 1, value + 4, value - 4, value * 2, *_ODD_NUMBERS[:12]))
    return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]


def _edit_tag(draw: random.Random, data: bytes) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    place = start + 2 + 12 * draw.randrange(count)
    tag = bytearray(data[place : place + 12])
    match draw.randrange(4):
        case 0:
            return data[:place] + data[place + 12 :]
        case 1:
            struct.pack_into(order + "H", tag, 2, draw.randrange(14))
        case 2:
            struct.pack_into(order + "I", tag, 4, draw.choice(_ODD_NUMBERS))
        case 3:
            value = struct.unpack_from(order + "I", tag, 8)[0] + draw.choice((-1, 1, 8, 64))
            struct.pack_into(order + "I", tag, 8, draw.choice((value & 0xFFFFFFFF, *_ODD_NUMBERS[:14])))
    return data[:place] + bytes(tag) + data[place + 12 :]


def _edit_webp(draw: random.Random, data: bytes) -> bytes:
    chunks, place = [], 12
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        chunks.append((data[place : place + 4], data[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    place, other = draw.randrange(len(chunks)), draw.randrange(len(chunks))
    kind, body = chunks[place]
    match draw.randrange(4):
        case 0:
            del chunks[place]
        case 1:
            chunks.insert(other, chunks[place])
        case 2:
            chunks[place] = kind, draw.choice(_OF_BYTES)(draw, body)
        case 3:
            chunks[place] = draw.choice((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"EXIF", b"ANIM", b"ICCP")), body
    packed = b"".join(k + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", len(packed) + 4) + b"WEBP" + packed


_OF_KIND: dict[str, tuple[Mutation, ...]] = {
    "PNG": (_edit_chunks, _edit_chunks, _edit_png_header, _edit_rows, _edit_rows),
    "JPEG": (_edit_segments, _edit_segments, _edit_frame, _edit_restarts, _hurt_scan, _hurt_scan),
    "BMP": (_edit_bmp,),
    "TIFF": (_edit_tag,),
    "WEBP": (_edit_webp,),
}

# --- judging


def judge(data: bytes) -> str:
    """What becomes of a file: "equal", "both refuse", or "only ours refuses" where TensorFlow alone would answer.

    Raises:
        AssertionError: training and the graph do not agree.
    """
    pixels, served = (
        _try(lambda: decode(data, LIMITS)),
        _try(lambda: _decode_in_graph(to_native(data, LIMITS))),
    )
    if pixels is None and served is None:
        small = len(data) < 1 << 16  # TensorFlow has no limits
        alone = (
            _try(lambda: _decode_in_graph(data))
            if small and data[:2] in (b"\xff\xd8", b"BM", b"\x89P")
            else None
        )
        return "both refuse" if alone is None else "only ours refuses"
    assert pixels is not None, "training refuses what the graph answers"
    assert served is not None, "the graph refuses what training sees"
    assert pixels.shape == served.shape, f"{pixels.shape} in training, {served.shape} in the graph"
    assert np.array_equal(pixels, served), "other pixels in training than in the graph"
    return "equal"


def _try(function: Callable[[], np.ndarray]) -> np.ndarray | None:
    import tensorflow as tf

    try:
        return function()
    except (DecodingError, tf.errors.InvalidArgumentError, tf.errors.OpError):
        return None


def _decode_in_graph(data: bytes) -> np.ndarray:
    import tensorflow as tf

    from kerasall.serving.export import decode_native

    return decode_native(tf.constant(data)).numpy()


# --- the program


def main() -> int:
    options = _read_options()
    if options.child:
        return _judge_for_a_while(options)
    report: Counter[str] = Counter()
    faults: list[str] = []
    stop = time.monotonic() + 60 * options.minutes
    seed = options.seed
    while time.monotonic() < stop:
        faults += _run_child(options, seed, min(120.0, stop - time.monotonic()), report)
        seed += 1
        options.report.write_text(_describe(report, faults, options), encoding="utf-8")
    print(options.report.read_text(encoding="utf-8"))
    return 1 if faults else 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, default=Path("mutated_files"), help="folder for files with a fault"
    )
    parser.add_argument("--report", type=Path, default=Path("mutated_files.txt"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_child(options: argparse.Namespace, seed: int, seconds: float, report: Counter[str]) -> Iterator[str]:
    options.keep.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--child", "--seed", str(seed), "--minutes", str(seconds / 60)]
    child = subprocess.run(
        [*command, "--keep", str(options.keep)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    for line in child.stdout.splitlines():
        found = json.loads(line)
        report.update(found.get("counts", {}))
        if "fault" in found:
            yield found["fault"]
    if child.returncode:
        current = options.keep / f"current-{seed}"
        kept = current.rename(options.keep / f"crash-{seed}")
        yield f"the process ended with {child.returncode} over {kept}"


def _judge_for_a_while(options: argparse.Namespace) -> int:
    draw = random.Random(options.seed)
    counts: Counter[str] = Counter()
    longest, current = 0.0, options.keep / f"current-{options.seed}"
    for data in SEEDS.values():  # warm: what the libraries take once is no case's
        judge(data)
    memory, stop = _peak_memory(), time.monotonic() + 60 * options.minutes
    names = list(SEEDS)
    for number in range(1 << 62):
        if time.monotonic() > stop:
            break
        name = draw.choice(names)
        data = mutate(draw, name)
        current.write_bytes(data)
        started = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(_used_seconds()) + 2 * SECONDS, resource.RLIM_INFINITY))
        fault = ""
        try:
            outcome = judge(data)
        except Exception as error:
            outcome, fault = "fault", f"{type(error).__name__}: {error}"
        spent, peak = time.process_time() - started, _peak_memory()
        longest = max(longest, spent)
        fault = fault or (f"{spent:.1f} s of the processor" if spent > SECONDS else "")
        fault = fault or (f"{peak - memory} MiB of memory" if peak - memory > MEBIBYTES else "")
        memory = max(memory, peak - MEBIBYTES)
        counts[f"{name.split()[0]}: {outcome}"] += 1
        if fault:
            kept = options.keep / f"fault-{options.seed}-{number}"
            kept.write_bytes(data)
            print(json.dumps({"fault": f"{name}: {fault}: {kept}"}), flush=True)
    current.unlink()
    print(json.dumps({"counts": counts, "longest": longest, "memory": _peak_memory()}), flush=True)
    return 0


def _used_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_memory() -> int:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _describe(report: Counter[str], faults: list[str], options: argparse.Namespace) -> str:
    lines = [f"{sum(report.values()):,} files, seeds {options.seed} and on"]
    lines += [f"{what}: {count:,}" for what, count in sorted(report.items())]
    lines += [f"{len(faults)} faults", *faults]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
