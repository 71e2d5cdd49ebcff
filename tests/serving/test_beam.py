"""The same predictions with Apache Beam's direct runner in several processes.

pip install -c constraints-beam.txt -e '.[test,beam]'
python -m pytest -m slow tests/serving/test_beam.py
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from test_batch import LABELS, export_tiny, write_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("apache_beam") is None,
        reason="the extra beam is absent: pip install -c constraints-beam.txt -e '.[test,beam]'",
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("beam") / "tiny" / "1")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, [f"{i:03d}.png" for i in range(40)] + ['a, "quoted".png', "a\nbreak.png"])
    (folder / "broken.png").write_bytes(b"nothing")
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write((folder / "001.png").read_bytes())
    return folder


def predict(saved: Path, *arguments: str, status: int) -> str:
    command = [sys.executable, "-m", "kerasall", "predict", str(saved), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == status, done.stderr
    return done.stderr


def read_rows(folder: Path, suffix: str) -> list[dict]:
    rows: list[dict] = []
    for path in sorted(p for p in folder.glob(f"*{suffix}") if "dead-letter" not in p.name):
        if path.suffix == ".parquet":
            rows += pyarrow.parquet.read_table(path).to_pylist()
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)
    return sorted(rows, key=lambda row: row["path"].encode("utf-8", "backslashreplace"))


def require_same(rows: list[dict], expected: list[dict]) -> None:
    for column in ("path", "label", "error"):
        assert [row[column] for row in rows] == [row[column] for row in expected]
    numbers = [[[float(r[label] or "nan") for label in LABELS] for r in each] for each in (rows, expected)]
    np.testing.assert_allclose(numbers[0], numbers[1], atol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_shards_of_two_processes_hold_the_local_rows(saved, images, tmp_path, suffix):
    predict(saved, str(images), "--out", str(tmp_path / f"local{suffix}"), status=1)
    out = tmp_path / "beam" / f"scores{suffix}"
    told = predict(
        saved,
        str(images),
        "--out",
        str(out),
        "--runner",
        "direct",
        "--workers",
        "2",
        "--batch-size",
        "4",
        status=1,
    )
    assert "44 files, 1 failed" in told
    shards = sorted(path.name for path in out.parent.glob(f"scores-0*{suffix}"))
    assert shards == [f"scores-00001-0000{i}-of-00002{suffix}" for i in range(2)]
    if suffix == ".parquet":  # Beam puts all rows of a process into one batch; which shard gets it is chance
        batches = (pyarrow.parquet.ParquetFile(out.parent / shard).num_row_groups for shard in shards)
        assert sum(batches) >= 2
    else:
        assert all(len(read_rows(out.parent, shard.removeprefix("scores"))) > 5 for shard in shards)
    local = tmp_path / f"local{suffix}"
    require_same(read_rows(out.parent, suffix), read_rows(local if local.is_dir() else tmp_path, suffix))
    (dead,) = map(json.loads, (out.parent / "scores-dead-letter.jsonl").read_text().splitlines())
    assert dead["path"] == str(images / "broken.png")
    assert "must be a BMP, PNG, JPEG, TIFF or WebP image" in dead["error"]


def test_a_killed_job_goes_on_with_none_twice_and_none_left_out(saved, images, tmp_path):
    manifest = tmp_path / "list.txt"
    names = [str(images / f"{i % 40:03d}.png") for i in range(40)] + [str(images / "broken.png")]
    manifest.write_text("".join(f"{name}\n" for name in names))
    out = tmp_path / "beam" / "scores.csv"
    arguments = ["--manifest", str(manifest), "--out", str(out), "--runner", "direct", "--part-files", "15"]
    command = [sys.executable, "-m", "kerasall", "predict", str(saved), *arguments]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "beam/scores.parts/00002.names.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert len(read_rows(out.parent, ".csv")) >= 15
    # What a kill in the midst of moving shards into place leaves, whatever the moment was.
    (out.parent / "scores-00002-00000-of-00001.csv").write_text("path,label\nhalf")
    (out.parent / "beam-temp-scores-00002-0123456789").mkdir()
    told = predict(saved, *arguments, status=1)
    assert "41 files, 15 of them passed over, 1 failed" in told
    assert sorted(row["path"] for row in read_rows(out.parent, ".csv")) == sorted(names)
    assert {path.name for path in out.parent.iterdir()} == {
        *(f"scores-0000{i}-00000-of-00001.csv" for i in (1, 2, 3)), "scores-dead-letter.jsonl", "scores.parts",
    }  # fmt: skip
    other = export_tiny(tmp_path / "other" / "1", seed=2)
    assert "was made by another model" in predict(other, *arguments, status=1)


def test_what_a_job_cannot_do_is_said_before_it_starts(saved, images, tmp_path):
    out = ["--out", str(tmp_path / "o.csv")]
    assert "give --out" in predict(saved, str(images), "--runner", "direct", status=1)
    assert "must be one of direct, flink" in predict(saved, str(images), *out, "--runner", "storm", status=1)
    option = ["--runner", "direct", "--beam-option", "--parallelism"]
    assert "without dashes" in predict(saved, str(images), *out, *option, status=1)
    assert "only --runner can read" in predict(saved, "gs://bucket/*.png", status=1)
