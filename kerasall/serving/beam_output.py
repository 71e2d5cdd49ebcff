"""Files of a job of Apache Beam's: shards, dead letters and records of finished parts, on any file system."""

# Beam is an extra: without it there is nothing here to check types against.
# pyright: reportMissingImports=false

from __future__ import annotations

import glob
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from kerasall.csv_tables import csv_rows
from kerasall.errors import DataError
from kerasall.listing.folders import is_image_name
from kerasall.serving.image_files import NameSet, is_remote
from kerasall.serving.prediction_tables import (
    PARQUET,
    SUFFIXES,
    TEXT_FORMATS,
    Kind,
    Row,
    as_utf8,
    encode,
    make_schema,
)


@dataclass(frozen=True)
class Part:
    """Where one pipeline reads and writes.

    Attributes:
        number: counts from 1.
        names: file with the names of the images, a JSON string a line.
        shards: what the names of its shards begin with.
        dead_letters: file for what failed.
        files: how many images there are.
    """

    number: int
    names: str
    shards: str
    dead_letters: str
    files: int


class JobOutput:
    """Files of a job's output, by way of Beam's file systems.

    Args:
        out: ``.csv``, ``.jsonl`` or ``.parquet`` path; absolute, or an address.
        record: what must be the same in all parts.

    Raises:
        DataError: another kind of file, or a path that would be read as a pattern.
    """

    def __init__(self, out: str, record: Mapping[str, Any]) -> None:
        self._suffix = Path(out).suffix.lower()
        if self._suffix not in SUFFIXES:
            raise DataError(f"predictions are written as {', '.join(SUFFIXES)}, but the path is {out}")
        if set("*?[]{}") & set(out):
            raise DataError(f"the path of predictions must be free of * ? [ ] {{ }}, but is {out}: rename it")
        self._out, self._record = out, dict(record)
        self._prefix = out.removesuffix(Path(out).suffix)
        self._parts = f"{self._prefix}.parts"
        self._last = 0

    def open(self, overwrite: bool) -> NameSet:
        """Removes what parts left that were begun and not finished, and gives the names that finished parts hold.

        Raises:
            DataError: a part was written by another model, one of its shards is gone, or there are shards that
                nothing is known of.
        """
        if overwrite:
            _delete(self._shards(r"\d{5}"))
            _delete(_match(f"{self._parts}/*"))
        finished = [self._read_record(path) for path in _match(f"{self._parts}/*.done.json")]
        self._last = max((done["part"] for done in finished), default=0)
        known = [f"{self._prefix}-{shard}" for done in finished for shard in done["shards"]]
        self._remove_unfinished(set(known))
        kept = {
            self._of_part(done["part"], kind) for done in finished for kind in ("done.json", "dead.jsonl")
        }
        _delete(path for path in _match(f"{self._parts}/*") if path not in kept)
        return self._held(known)

    def _remove_unfinished(self, known: set[str]) -> None:
        for begun in _match(f"{self._parts}/*.names.jsonl"):
            _delete(path for path in self._shards(Path(begun).name[:5]) if path not in known)
        folder, _, name = self._prefix.rpartition("/")
        for pattern in (f"{folder}/beam-temp-{name}-*", f"{self._parts}/beam-temp-*"):
            _delete(_match(f"{pattern}/**"))
            # Elsewhere folders are nothing but the names of their files.
            for left in [] if is_remote(pattern) else glob.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        if foreign := [path for path in self._shards(r"\d{5}") if path not in known]:
            raise DataError(
                f"every shard must be known to {self._parts}, but {foreign[0]} is not: give another name, or --overwrite"
            )

    def _of_part(self, number: int, kind: str) -> str:
        return f"{self._parts}/{number:05d}.{kind}"

    def _read_record(self, path: str) -> dict[str, Any]:
        with _open(path) as file:
            done = json.loads(file.read())
        if {key: done[key] for key in self._record} != self._record:
            raise DataError(
                f"{self._out} must hold this model's predictions to go on with, but {path} was made by another "
                "model: give another name, or --overwrite"
            )
        return done

    def _held(self, shards: Sequence[str]) -> NameSet:
        held = NameSet()
        for path in shards:
            try:
                with _open(path) as file:
                    for name in _read_names(self._suffix, file):
                        held.add(name)
            except (OSError, BeamIOError) as error:
                raise DataError(
                    f"{path} must be readable, as its part is finished, but is not ({error}): bring it back, or --overwrite"
                ) from None
        return held

    def _shards(self, part: str) -> list[str]:
        suffix = re.escape(self._suffix)
        shard = re.compile(rf"{re.escape(self._prefix)}-{part}-\d{{5}}-of-\d{{5}}{suffix}")
        return [path for path in _match(f"{self._prefix}-*") if shard.fullmatch(path)]

    def begin_part(self, names: Sequence[str]) -> Part:
        """Lists the names of a new part in a file."""
        self._last += 1
        number = self._last
        listed, dead = self._of_part(number, "names.jsonl"), self._of_part(number, "dead.jsonl")
        _write_text(listed, "".join(json.dumps(name) + "\n" for name in names))
        return Part(number, listed, f"{self._prefix}-{number:05d}", dead, len(names))

    def finish_part(self, part: Part) -> None:
        """Records that all shards of a part are there."""
        shards = [path.removeprefix(f"{self._prefix}-") for path in self._shards(f"{part.number:05d}")]
        done = {**self._record, "part": part.number, "files": part.files, "shards": shards}
        _write_text(self._of_part(part.number, "done.json"), json.dumps(done, indent=2) + "\n")
        _delete([part.names])

    def write_dead_letters(self) -> int:
        """Gathers the dead letters of all parts into one file; returns how many there are."""
        count = 0
        path = f"{self._prefix}-dead-letter.jsonl"
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as gathered:
            for part in _match(f"{self._parts}/*.dead.jsonl"):
                with _open(part) as file:
                    for line in file:
                        gathered.write(line)
                        count += 1
        return count


def pack(row: Row) -> Row:
    """A row that may travel between processes: Beam's coders refuse names that are no UTF-8."""
    return {**row, "path": json.dumps(row["path"]), "error": json.dumps(row["error"])}


def unpack(row: Row) -> Row:
    """The row that ``pack`` was given."""
    return {**row, "path": json.loads(row["path"]), "error": json.loads(row["error"])}


def write_rows(suffix: str, prefix: str, columns: Mapping[str, Kind], shards: int) -> beam.PTransform:
    """What writes packed rows to as many shards of one kind; 0 as the runner sees fit."""
    if suffix == PARQUET:
        return beam.Map(lambda row: as_utf8(unpack(row))) | beam.io.WriteToParquet(
            prefix, make_schema(columns), file_name_suffix=PARQUET, num_shards=shards
        )
    form = TEXT_FORMATS[suffix](columns)
    return beam.Map(lambda row: encode(form.line(unpack(row)))) | beam.io.WriteToText(
        prefix,
        suffix,
        append_trailing_newlines=False,
        num_shards=shards,
        coder=beam.coders.BytesCoder(),
        compression_type=CompressionTypes.UNCOMPRESSED,
        header=form.header or None,
    )


def _read_names(suffix: str, file: Any) -> Iterator[str]:
    """Names of the files in an open shard."""
    if suffix == ".csv":
        rows = csv_rows(io.TextIOWrapper(file, "utf-8", newline=""))
        place = next(rows, ["path"]).index("path")
        yield from (row[place] for row in rows)
    elif suffix == ".jsonl":
        yield from (json.loads(line)["path"] for line in file)
    else:
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(columns=["path"]):
            yield from batch.column(0).to_pylist()


def match_images(pattern: str) -> list[str]:
    """Addresses of the images that an address, a pattern or a folder's address ending in ``/`` stands for."""
    found = _match(pattern + "**" if pattern.endswith("/") else pattern)
    return [path for path in found if is_image_name(path)]


def _match(pattern: str) -> list[str]:
    return sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)


def _delete(paths: Iterable[str]) -> None:
    if found := list(paths):
        FileSystems.delete(found)


def _open(path: str) -> Any:
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def _write_text(path: str, text: str) -> None:
    """Writes under another name first: a kill leaves no half of it."""
    with FileSystems.create(f"{path}.new", compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(text.encode())
    FileSystems.rename([f"{path}.new"], [path])
