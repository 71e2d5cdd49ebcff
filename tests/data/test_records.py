"""TFRecords: what is written comes back, without TensorFlow and with it; damage is found and named."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from typer.testing import CliRunner

from kerasall.cli.data import data_app
from kerasall.data.examples import COLUMNS
from kerasall.data.records import (
    EXTRACTED,
    INDEX,
    TABLE,
    TEXT_FEATURES,
    open_records,
    read_record_image,
    read_records,
    write_records,
)
from kerasall.data.sources import detect_source, read_source
from kerasall.data.statistics import fingerprint_data, scan_images
from kerasall.data.stratification import holdout_split
from kerasall.decoding import decode, to_native
from kerasall.errors import ArtifactError, DataError, DecodingError, KerasallError, SettingsError

COPY_OF_1 = "fold_1/all/UID_2_1_1_all.bmp"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Twelve C-NMC files of four subjects; one kind TensorFlow misreads; a copy under another subject."""
    root = tmp_path_factory.mktemp("c-nmc ü")
    random = np.random.default_rng(5)
    for label, subject, fold in (("all", "1", 0), ("all", "2", 1), ("hem", "H1", 0), ("hem", "H2", 1)):
        for number in (1, 2, 3):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            file = root / f"fold_{fold}" / label / f"UID_{subject}_{number}_1_{label}.bmp"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    shutil.copy(root / "fold_0/all/UID_1_1_1_all.bmp", root / COPY_OF_1)
    palette = root / "fold_0/hem/UID_H1_2_1_hem.bmp"
    Image.open(palette).quantize(16).save(palette)
    return root


@pytest.fixture(scope="module")
def collection(source):
    return read_source("cnmc", source)


def stored_images(records) -> list[bytes]:
    """The images' bytes, each read by one seek."""
    places = records.table[["shard", "offset", "length"]].itertuples(index=False)
    return [read_record_image(records.folder / shard, *span) for shard, *span in places]


@pytest.fixture(scope="module")
def records(collection, tmp_path_factory):
    return write_records(collection, tmp_path_factory.mktemp("out") / "records", shards=5)


def test_the_index_tells_counts_classes_and_the_fingerprint_of_the_images(records, collection):
    index = records.index
    assert index["classes"] == {"all": 6, "hem": 6}
    assert (index["images"], index["subjects"], index["groups"]) == (12, 4, 3)
    assert index["folds"] == {"fold_0": 6, "fold_1": 6}
    assert index["transcoded"] == 1
    assert index["fingerprint"] == fingerprint_data(collection, scan_images(collection.examples))
    assert [shard["images"] for shard in index["shards"]] == [3, 3, 2, 2, 2]
    for shard in index["shards"]:
        data = (records.folder / shard["file"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (shard["sha256"], shard["bytes"])
    assert sorted(p.name for p in records.folder.iterdir()) == sorted(
        [INDEX, TABLE, *(shard["file"] for shard in index["shards"])]
    )


def test_bytes_come_back_as_they_were_or_as_tensorflow_can_read_them(records, collection):
    files = dict(zip(collection.examples["id"], collection.examples["path"], strict=True))
    for row, stored in zip(records.table.itertuples(), stored_images(records), strict=True):
        original = Path(files[row.id]).read_bytes()
        assert row.sha256 == hashlib.sha256(original).hexdigest()
        assert row.image_sha256 == hashlib.sha256(stored).hexdigest()
        assert stored == to_native(original)
        np.testing.assert_array_equal(
            tf.io.decode_image(stored, channels=3, expand_animations=False), decode(original)
        )
    changed = records.table[records.table["sha256"] != records.table["image_sha256"]]
    assert changed["id"].tolist() == ["fold_0/hem/UID_H1_2_1_hem.bmp"]


def test_copies_under_two_subjects_share_a_group(records):
    groups = records.table.groupby("subject")["group"].agg(set).to_dict()
    assert groups == {"1": {"1+2"}, "2": {"1+2"}, "H1": {"H1"}, "H2": {"H2"}}


def test_the_collection_is_the_one_that_was_written(records, collection):
    known = [name for name in COLUMNS if name != "path"]
    again = read_records(records.folder)
    expected = collection.examples.sort_values("id", ignore_index=True)
    assert again.examples[known].equals(expected[known])
    for name in ("labels", "malignant", "subject_kind", "notes"):
        assert getattr(again, name) == getattr(collection, name)
    shutil.rmtree(records.folder / EXTRACTED)


def test_any_reader_of_images_reads_records_as_a_source(records, collection, tmp_path):
    folder = shutil.copytree(records.folder, tmp_path / "moved")
    assert detect_source(folder) == "records"
    again = read_source("auto", folder)
    assert len(list((folder / EXTRACTED).iterdir())) == 11  # two ids share one content
    scan = scan_images(again.examples).table
    assert scan["sha256"].tolist() == records.table["image_sha256"].tolist()
    times = {p: p.stat().st_mtime_ns for p in (folder / EXTRACTED).iterdir()}
    assert read_source("auto", folder).examples.equals(again.examples)
    assert times == {p: p.stat().st_mtime_ns for p in (folder / EXTRACTED).iterdir()}
    split = holdout_split(again.examples, shares={"test": 0.5}, seed=0)
    assert set(split.table["id"]) == set(collection.examples["id"])


def test_an_id_never_decides_where_a_file_is_extracted(tmp_path):
    (tmp_path / "images").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(np.full((30, 30, 3), 90 * number, np.uint8)).save(tmp_path / name)
    table = tmp_path / "images" / "t.csv"
    table.write_text("path,label\n../a.png,x\n../b.png,y\n", encoding="utf-8")
    made = write_records(read_source("csv", table), tmp_path / "records")
    assert made.table["id"].str.startswith("/").all()
    paths = [Path(path) for path in read_records(made.folder).examples["path"]]
    assert {path.parent for path in paths} == {made.folder / EXTRACTED}


def test_tensorflow_reads_what_the_table_says(records):
    texts = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image", *TEXT_FEATURES)}
    features = {**texts, "label": tf.io.FixedLenFeature([], tf.int64)}
    images = stored_images(records)
    for number, shard in enumerate(records.shards):
        rows = records.table.iloc[number :: len(records.shards)]  # dealt out in turn
        for row, message in zip(rows.itertuples(), tf.data.TFRecordDataset(str(shard)), strict=True):
            found = {
                name: value.numpy() for name, value in tf.io.parse_single_example(message, features).items()
            }
            assert found["image"] == images[row.Index]
            assert ("all", "hem")[found["label"]] == row.label
            assert [found[name].decode() for name in TEXT_FEATURES] == [
                getattr(row, name) for name in TEXT_FEATURES
            ]


def test_equal_images_give_equal_files_wherever_they_lie(source, records, tmp_path):
    copy = shutil.copytree(source, tmp_path / "elsewhere")
    again = write_records(read_source("cnmc", copy), tmp_path / "records", shards=5)
    assert again.index == records.index
    one, four = (write_records(read_source("cnmc", copy), tmp_path / str(n), shards=n) for n in (1, 4))
    assert one.index["fingerprint"] == four.index["fingerprint"]
    assert one.table["image_sha256"].equals(four.table["image_sha256"])
    default = write_records(read_source("cnmc", copy), tmp_path / "default")
    assert len(default.shards) == 1


@pytest.mark.parametrize("shards", [0, 13])
def test_impossible_numbers_of_shards_are_refused(collection, tmp_path, shards):
    with pytest.raises(SettingsError, match="between 1 and the 12 images"):
        write_records(collection, tmp_path / "records", shards=shards)


def test_a_folder_that_holds_something_is_left_alone(collection, records, tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(SettingsError, match="must not exist or be empty"):
        write_records(collection, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_unreadable_images_are_counted_and_nothing_is_left_behind(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "in")
    for name in ("UID_1_2_1_all.bmp", "UID_1_3_1_all.bmp"):
        (copy / "fold_0/all" / name).write_bytes(b"BM")
    with pytest.raises(DataError, match=r"2 of 12 are not .*UID_1_2_1_all\.bmp"):
        write_records(read_source("cnmc", copy), tmp_path / "records")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_an_image_that_changes_between_two_looks_is_named(collection, monkeypatch, tmp_path):
    from kerasall.data import records

    def read_changed(path, limits):
        return Path(path).read_bytes() + b"x"

    monkeypatch.setattr(records, "read_image_bytes", read_changed)
    with pytest.raises(DataError, match=r"UID_1_1_1_all\.bmp must not change"):
        write_records(collection, tmp_path / "records")
    assert list(tmp_path.iterdir()) == []


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _drop(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flip_a_byte, _drop, _cut])
@pytest.mark.parametrize("name", [TABLE, "images-00002-of-00005.tfrecord"])
def test_damage_is_found_and_the_file_named(records, tmp_path, damage, name):
    folder = shutil.copytree(records.folder, tmp_path / "copy")
    damage(folder / name)
    with pytest.raises(ArtifactError, match=name):
        read_records(folder)


def test_an_index_that_is_none_or_names_other_folders_is_refused(records, tmp_path):
    folder = shutil.copytree(records.folder, tmp_path / "copy")
    index = json.loads((folder / INDEX).read_text())
    shards = [{**index["shards"][0], "file": "../secret.tfrecord"}]
    for changed, message in (
        ({**index, "schema_version": 99}, "schema version 1, but has 99"),
        ([], "schema version 1, but has None"),
        ({**index, "shards": shards}, "shards of its own folder"),
        ({**index, "shards": index["shards"][:2]}, f"{INDEX} alone"),
    ):
        (folder / INDEX).write_text(json.dumps(changed))
        with pytest.raises(ArtifactError, match=message):
            open_records(folder)
    with pytest.raises(KerasallError, match="does not exist"):
        open_records(tmp_path / "none")


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    shard = tmp_path / "images-00000-of-00001.tfrecord"
    with pytest.raises(DecodingError, match=f"{shard.name}#12\\+9"):
        read_record_image(shard, 12, 9)
    shard.write_bytes(b"0123456789")
    assert read_record_image(shard, 2, 3) == b"234"
    with pytest.raises(DecodingError, match="the shard ends before"):
        read_record_image(shard, 8, 3)


def test_the_command_builds_and_prints(source, tmp_path):
    run = CliRunner().invoke
    result = run(data_app, ["build", str(source), "--out", str(tmp_path / "r"), "--shards", "2"])
    assert result.exit_code == 0, result.output
    assert "12 images, 4 subjects, 3 groups, source cnmc" in result.stdout
    assert len(open_records(tmp_path / "r").shards) == 2
    as_json = run(data_app, ["build", str(source), "--out", str(tmp_path / "j"), "--shards", "2", "--json"])
    assert json.loads(as_json.stdout) == open_records(tmp_path / "r").index
    refused = run(data_app, ["build", str(source), "--out", str(tmp_path / "r")])
    assert isinstance(refused.exception, SettingsError)


def test_records_are_read_without_tensorflow(records):
    program = (
        "import sys; from kerasall.data.records import *; "
        f"print(len(read_records({str(records.folder)!r}).examples), 'tensorflow' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["12", "False"]
    shutil.rmtree(records.folder / EXTRACTED)


@pytest.mark.realdata
def test_real_cells_survive(real_data, tmp_path):
    collection = read_source("cnmc", real_data / "cnmc_sample")
    made = write_records(collection, tmp_path / "records", shards=3)
    assert made.index["transcoded"] == 0
    originals = [Path(p).read_bytes() for p in collection.examples.sort_values("id")["path"]]
    assert stored_images(made) == originals
