"""Which damage to a JPEG does the reader see?

    python benchmarks/jpeg_damage.py FOLDER [--files 200] [--tries 10] [--json FILE]

Each JPEG of the folder is checked whole, then ``--files`` of them are damaged in their codes, ``--tries`` times in every
way: as they are, and coded again with scans of growing fineness (progressive). Printed is the share that is refused. What
is not refused decodes, to other pixels, by codes that all have a meaning: a JPEG carries no checksum that could tell.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from kerasall.decoding import to_native
from kerasall.errors import DecodingError

Damage = Callable[[random.Random, bytes, int, int], bytes]
"""Draw, file, first byte and end of its codes -> damaged file."""


def cut(draw: random.Random, data: bytes, start: int, end: int) -> bytes:
    return data[: draw.randrange(start, end - 16)] + data[end:]


def remove(length: int) -> Damage:
    def damage(draw: random.Random, data: bytes, start: int, end: int) -> bytes:
        place = draw.randrange(start, end - length)
        return data[:place] + data[place + length :]

    return damage


def fill(length: int, value: int) -> Damage:
    def damage(draw: random.Random, data: bytes, start: int, end: int) -> bytes:
        place = draw.randrange(start, end - length)
        return data[:place] + bytes([value]) * length + data[place + length :]

    return damage


def fill_tail(draw: random.Random, data: bytes, start: int, end: int) -> bytes:
    place = draw.randrange(start, end - 16)
    return data[:place] + bytes(len(data) - place)


def flip(draw: random.Random, data: bytes, start: int, end: int) -> bytes:
    place = draw.randrange(start, end)
    return data[:place] + bytes([data[place] ^ draw.randrange(1, 256)]) + data[place + 1 :]


DAMAGES: dict[str, Damage] = {
    "cut, end mark given again": cut,
    "tail of zeros": fill_tail,
    "sector of 512 zeros": fill(512, 0),
    "sector of 512 ones": fill(512, 255),
    "4,096 bytes removed": remove(4096),
    "400 bytes removed": remove(400),
    "100 bytes removed": remove(100),
    "1 byte removed": remove(1),
    "1 byte changed": flip,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = [path.read_bytes() for path in sorted(options.folder.rglob("*.jp*g"))]
    begun = time.process_time()
    refused = sum(is_refused(data) for data in files)
    each = 1000 * (time.process_time() - begun) / max(len(files), 1)
    print(f"{len(files):,} whole files: {refused} refused, {each:.2f} ms each")
    chosen = random.Random(0).sample(files, min(options.files, len(files)))
    rows = [measure(name, damage, chosen, options.tries) for name, damage in DAMAGES.items()]
    for row in (("damage", "tried", "baseline", "progressive"), *rows):
        print("{:28}{:>8}{:>12}{:>12}".format(*row))
    if options.json:
        options.json.write_text(
            json.dumps({"files": len(files), "refused": refused, "rows": rows}), encoding="utf-8"
        )


def measure(name: str, damage: Damage, files: list[bytes], tries: int) -> tuple[str, str, str, str]:
    """Share refused of the files as they are, and of the same made progressive."""
    draw = random.Random(name)
    shares = []
    for coded in (files, [make_progressive(data) for data in files]):
        found = [
            is_refused(damage(draw, data, find_codes(data), len(data) - 2))
            for data in coded
            if len(data) - find_codes(data) > 4200
            for _ in range(tries)
        ]
        shares.append(f"{sum(found) / max(len(found), 1):.1%}")
    return (name, f"{len(found):,}", *shares)


def find_codes(data: bytes) -> int:
    """First byte of the codes of the first scan."""
    found = re.search(rb"\xff\xda(..)", data, re.DOTALL)
    assert found is not None
    return found.start() + 2 + int.from_bytes(found[1], "big")


def make_progressive(data: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "JPEG", quality="keep", progressive=True)
    return file.getvalue()


def is_refused(data: bytes) -> bool:
    try:
        to_native(data)
    except DecodingError:
        return True
    return False


if __name__ == "__main__":
    main()
