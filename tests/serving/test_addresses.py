"""Images and tables at addresses, on fsspec's file system in memory: listed, read, gone on with, tried again in place."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile

import fsspec
import numpy as np
import pyarrow.parquet
import pytest
from command_line import invoke
from test_batch import LABELS, export_tiny, write_images

from kerasall.decoding import DEFAULT_LIMITS, Limits
from kerasall.errors import DataError, DecodingError, KerasallError
from kerasall.serving.addresses import match_images, read_address
from kerasall.serving.batch import resume_predictions
from kerasall.serving.image_files import ImageNames
from kerasall.serving.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    return Predictor(export_tiny(tmp_path_factory.mktemp("addresses") / "tiny" / "1"))


@pytest.fixture
def bucket(tmp_path):
    """Five images at ``memory://cells``, one of them broken, and what is none."""
    system = fsspec.filesystem("memory")
    write_images(tmp_path / "images", ["b.png", "a.png", "sub/d.png", "sub/deeper/e.png"])
    system.put(f"{tmp_path}/images/", "/cells/", recursive=True)
    system.pipe("/cells/broken.png", b"nothing")
    system.pipe("/cells/notes.txt", b"no image")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


ALL = [f"memory:///cells/{name}" for name in ("a.png", "b.png", "broken.png", "sub/d.png", "sub/deeper/e.png")]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("memory://cells", ALL),
        ("memory://cells/", ALL),
        ("memory://cells/*.png", ALL[:3]),
        ("memory://cells/**/*.png", ALL),
        ("memory://cells/sub/d.png", ALL[3:4]),
        ("memory://cells/gone.png", []),
        ("memory://nothing/", []),
    ],
)
def test_an_address_stands_for_images(bucket, address, found):
    assert sorted(match_images(address)) == found
    if not found:
        with pytest.raises(DataError, match="matches nothing"):
            list(ImageNames((address,), match_remote=match_images))


def test_a_folder_that_cannot_be_listed_is_no_empty_one(bucket, monkeypatch):
    listed = type(bucket).ls

    def ls(self, path, **options):
        if path.endswith("/sub"):
            raise PermissionError("not yours")
        return listed(self, path, **options)

    monkeypatch.setattr(type(bucket), "ls", ls)
    with pytest.raises(DataError, match="listing it failed: not yours"):
        list(match_images("memory://cells"))


def test_an_address_whose_host_is_left_out_of_its_files_names_is_refused_once(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        archive.writestr("cells/a.png", b"nothing")
    address = f"zip://cells::{tmp_path}/cells.zip"
    assert read_address(f"zip://cells/a.png::{tmp_path}/cells.zip", DEFAULT_LIMITS) == b"nothing"
    with pytest.raises(DataError, match=r"the first would be zip://cells/a\.png, which does not lead there"):
        list(match_images(address))
    hosted = fsspec.get_filesystem_class("webhdfs")  # no request is sent before it is asked for something
    monkeypatch.setattr(hosted, "isdir", lambda *_: False)
    monkeypatch.setattr(hosted, "exists", lambda *_: True)
    with pytest.raises(DataError, match="state host and account") as caught:
        list(match_images("webhdfs://me:secret@host:9870/a.png"))
    assert "webhdfs://me:***@host:9870/a.png" in str(caught.value)
    monkeypatch.setitem(fsspec.config.conf, "webhdfs", {"host": "host", "port": 9870})
    assert list(match_images("webhdfs:///a.png")) == ["webhdfs:///a.png"]


def test_no_message_holds_the_password_of_an_address():
    address = "nosuch://me:sec:r@t@host/a.png"
    for ask in (lambda: list(match_images(address)), lambda: read_address(address, DEFAULT_LIMITS)):
        with pytest.raises((DataError, DecodingError), match="nosuch://me:") as caught:
            ask()
        assert "sec:r@t" not in str(caught.value)


def test_what_cannot_be_read_says_why(bucket):
    assert read_address("memory://cells/broken.png", DEFAULT_LIMITS) == b"nothing"
    for address, limits, words in (
        ("memory://cells/gone.png", DEFAULT_LIMITS, "must be readable"),
        ("memory://cells/a.png", Limits(max_bytes=10), "at most 10 bytes"),
        ("nosuch://cells/a.png", DEFAULT_LIMITS, "file system that fsspec knows"),
    ):
        with pytest.raises(DecodingError, match=words):
            read_address(address, limits)


def read_rows(system, folder: str, suffix: str) -> list[dict]:
    rows: list[dict] = []
    for part in sorted(system.ls(folder, detail=False)):
        content = system.cat_file(part)
        if suffix == ".parquet":
            rows += pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
        elif suffix == ".csv":
            rows += csv.DictReader(io.StringIO(content.decode(), newline=""))
        else:
            rows += map(json.loads, content.decode().splitlines())
    return rows


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_at_an_address_is_gone_on_with_and_errors_are_tried_again_in_place(
    predictor, bucket, tmp_path, suffix
):
    out = f"memory://out/scores{suffix}"
    first = ImageNames((ALL[0], ALL[2]), match_remote=match_images)
    tally = resume_predictions(predictor, first, out, part_rows=2)
    assert (tally.files, tally.failed) == (2, 1)
    names = ImageNames(("memory://cells",), match_remote=match_images)
    again = resume_predictions(predictor, names, out, part_rows=2)
    assert (again.files, again.held, again.again, again.failed) == (5, 2, 1, 1)
    parts = [f"/out/scores{suffix}/part-{number:05d}{suffix}" for number in range(3)]
    assert sorted(bucket.ls(f"/out/scores{suffix}", detail=False)) == parts
    order = [ALL[0], ALL[2], ALL[1], *ALL[3:]]
    rows = read_rows(bucket, f"/out/scores{suffix}", suffix)
    assert [row["path"] for row in rows] == order
    assert [bool(row["error"]) for row in rows] == [False, True, False, False, False]
    bucket.pipe("/cells/broken.png", bucket.cat_file("/cells/b.png"))
    kept = {part: bucket.modified(part) for part in parts}
    last = resume_predictions(predictor, names, out, part_rows=2)
    assert (last.held, last.again, last.failed) == (5, 1, 0)
    rows = read_rows(bucket, f"/out/scores{suffix}", suffix)
    assert [row["path"] for row in rows] == order
    np.testing.assert_allclose(*([float(rows[at][name]) for name in LABELS] for at in (1, 2)), atol=1e-6)
    assert [bucket.modified(part) == kept[part] for part in parts] == [False, True, True]


def test_the_command_reads_and_writes_addresses_and_says_what_it_cannot(predictor, bucket, tmp_path):
    model = predictor.folder
    done = invoke("predict", model, "memory://cells", "--out", "memory://out/s.parquet")
    assert done.exit_code == 1
    assert "5 files, 1 failed" in done.output
    assert len(read_rows(bucket, "/out/s.parquet", ".parquet")) == 5
    done = invoke("predict", model, "memory://cells/a.png", "--out", "memory://out/s.parquet", "--overwrite")
    assert (done.exit_code, len(read_rows(bucket, "/out/s.parquet", ".parquet"))) == (0, 1)
    for words, said in (
        (["nosuch://cells/*.png"], "file system that fsspec knows"),
        (["memory://cells", "--workers", 2], "--workers goes with --cluster"),
        (["memory://cells", "--cluster", "auto"], "give --out"),
        (["memory://cells", "--excel", "--cluster", "auto", "--out", tmp_path / "s.csv"], "--excel is for one CSV"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(said)):
            invoke("predict", model, *words)


def test_a_folder_of_parts_stays_one_and_a_half_part_is_named(predictor, tmp_path):
    write_images(tmp_path / "images", ["a.png", "b.png", "c.png"])
    names, out = ImageNames((str(tmp_path / "images"),)), tmp_path / "scores.csv"
    resume_predictions(predictor, ImageNames((str(tmp_path / "images" / "a.png"),)), out, parts=True)
    tally = resume_predictions(predictor, names, out, part_rows=1)  # without parts=True
    assert (tally.files, tally.held) == (3, 1)
    assert sorted(path.name for path in out.iterdir()) == [f"part-{n:05d}.csv" for n in range(3)]
    (out / "part-00000.csv").unlink()  # its number is not given away again
    assert resume_predictions(predictor, names, out).held == 2
    assert sorted(path.name for path in out.iterdir()) == [f"part-{n:05d}.csv" for n in (1, 2, 3)]
    part = out / "part-00002.csv"
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"part-00002\.csv must be a whole part"):
        resume_predictions(predictor, names, out)
    file = tmp_path / "file.csv"
    resume_predictions(predictor, names, file)
    with pytest.raises(DataError, match="folder of parts, but"):
        resume_predictions(predictor, names, file, parts=True)


def test_a_folder_of_parts_is_overwritten_whole_or_left_alone(predictor, tmp_path):
    write_images(tmp_path / "images", ["a.png", "b.png", "c.png"])
    names, out = ImageNames((str(tmp_path / "images"),)), tmp_path / "scores.csv"
    resume_predictions(predictor, names, out, parts=True, part_rows=1)
    again = ["predict", predictor.folder, tmp_path / "images" / "a.png", "--out", out, "--overwrite"]
    held = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(KerasallError):
        invoke("predict", tmp_path / "no model", *again[2:])
    for foreign in ("notes.csv", "part-time.csv"):
        (out / foreign).write_text("mine")
        with pytest.raises(DataError, match=foreign):
            invoke(*again)
        (out / foreign).unlink()
    assert {path: path.read_bytes() for path in out.iterdir()} == held
    assert invoke(*again).exit_code == 0
    assert [path.name for path in out.iterdir()] == ["part-00000.csv"]
    assert "b.png" not in (out / "part-00000.csv").read_text()
