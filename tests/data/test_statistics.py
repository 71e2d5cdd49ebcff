"""One pass over the files: measures, hashes, bad files, fingerprint."""

from __future__ import annotations

import hashlib
import struct

import cv2
import numpy as np
import pandas as pd
import pytest

from kerasall.data.examples import Collection, make_examples
from kerasall.data.statistics import read_scan, scan_images, summarize, write_scan
from kerasall.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Two good images of known colours, and every kind of bad file."""
    flat = np.full((40, 60, 3), (10, 100, 200), np.uint8)  # BGR
    cv2.imwrite(str(tmp_path / "flat.png"), flat)
    cell = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(cell, (50, 50), 20, (90, 40, 120), -1)
    cv2.imwrite(str(tmp_path / "cell.bmp"), cell)
    whole = (tmp_path / "cell.bmp").read_bytes()
    (tmp_path / "truncated.bmp").write_bytes(whole[: len(whole) // 2])
    photo = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[
        1
    ].tobytes()
    (tmp_path / "hole.jpg").write_bytes(photo[:1000] + photo[2400:])
    (tmp_path / "closed_again.jpg").write_bytes(photo[: len(photo) // 2] + b"\xff\xd9")
    (tmp_path / "empty.bmp").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    header = (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 20000, 20000, 1, 24, *[0] * 6)
    )
    (tmp_path / "huge.bmp").write_bytes(header + bytes(2000))
    return tmp_path


def _examples(folder, names):
    return make_examples(
        [{"id": n, "path": str(folder / n), "label": "x", "subject": f"s{n[0]}"} for n in names]
    )


def test_measures_are_those_of_the_pixels(folder):
    scan = scan_images(_examples(folder, ["flat.png", "cell.bmp"]))
    flat, cell = (scan.table.iloc[i] for i in (0, 1))
    assert (flat["mean_r"], flat["mean_g"], flat["mean_b"]) == (200, 100, 10)
    assert (flat["width"], flat["height"], flat["format"], flat["std_grey"]) == (60, 40, "PNG", 0)
    assert flat["foreground_share"] == 1
    # Colours of a cell on black are those of the cell.
    assert (cell["mean_r"], cell["mean_g"], cell["mean_b"]) == (120, 40, 90)
    assert cell["foreground_share"] == pytest.approx(np.pi * 20**2 / 100**2, rel=0.05)
    assert 39 <= cell["box_side"] <= 41
    assert cell["sha256"] == hashlib.sha256((folder / "cell.bmp").read_bytes()).hexdigest()


def test_thumbnail_is_the_foreground_box(folder):
    thumbnail = scan_images(_examples(folder, ["cell.bmp"])).thumbnails[0]
    assert thumbnail.shape == (32, 32)
    assert thumbnail[0, 0] == 0
    assert thumbnail[16, 16] == thumbnail[1, 16] > 0  # the disc touches the edge of its box


@pytest.mark.parametrize(
    "name",
    ["truncated.bmp", "hole.jpg", "closed_again.jpg", "empty.bmp", "text.jpg", "huge.bmp", "absent.png"],
)
def test_bad_files_are_named_and_do_not_stop_the_rest(folder, name):
    scan = scan_images(_examples(folder, [name, "flat.png"]))
    assert name in scan.table["error"][0]
    assert scan.table["error"][1] == ""
    assert np.isnan(scan.table["mean_r"][0])


def test_size_of_a_huge_image_is_known_without_decoding_it(folder):
    table = scan_images(_examples(folder, ["huge.bmp"])).table
    assert "20,000 x 20,000" in table["error"][0]


def test_workers_and_order_of_rows_do_not_matter(folder):
    names = ["flat.png", "cell.bmp", "empty.bmp", "truncated.bmp"]
    one = scan_images(_examples(folder, names), workers=1)
    many = scan_images(_examples(folder, names[::-1]), workers=4)
    pd.testing.assert_frame_equal(one.table, many.table[::-1].reset_index(drop=True))
    np.testing.assert_array_equal(one.thumbnails, many.thumbnails[::-1])


def test_scan_survives_its_file(folder, tmp_path):
    scan = scan_images(_examples(folder, ["flat.png", "empty.bmp", "cell.bmp"]))
    write_scan(scan, tmp_path / "scan.csv")
    pd.testing.assert_frame_equal(read_scan(tmp_path / "scan.csv").table, scan.table)
    with pytest.raises(DataError, match="image scan"):
        read_scan(folder / "flat.png")


def _fingerprint(examples, labels=("x", "y")):
    collection = Collection("folder", ".", examples, labels)
    return summarize(collection, scan_images(collection.examples))["fingerprint"]


def test_fingerprint_follows_contents_labels_and_subjects_only(folder):
    examples = _examples(folder, ["flat.png", "cell.bmp"])
    first = _fingerprint(examples)
    assert _fingerprint(examples[::-1].reset_index(drop=True)) == first
    for column, value in (("label", "y"), ("subject", "other"), ("id", "renamed")):
        assert _fingerprint(examples.assign(**{column: [value, examples[column][1]]})) != first
    cv2.imwrite(str(folder / "flat.png"), np.full((40, 60, 3), 7, np.uint8))
    assert _fingerprint(examples) != first


def test_summary_counts(folder):
    names = ["flat.png", "cell.bmp", "empty.bmp"]
    collection = Collection("folder", folder, _examples(folder, names), ("x",), subject_kind="subject")
    summary = summarize(collection, scan_images(collection.examples))
    assert summary["images"] == 3
    assert summary["readable"] == 2
    assert summary["classes"] == {"x": 3}
    assert summary["subjects_per_class"] == {"x": 3}
    assert summary["sizes"] == {"60x40": 1, "100x100": 1}
    assert summary["width"] == [60, 100]
    assert summary["formats"] == {"BMP": 1, "PNG": 1}


@pytest.mark.realdata
def test_real_cells_have_the_stain_of_cells(real_data):
    paths = sorted((real_data / "cnmc_sample").glob("*.bmp"))
    scan = scan_images(make_examples([{"id": p.name, "path": str(p), "label": "x"} for p in paths]))
    assert (scan.table["error"] == "").all()
    # Purple: red and blue above green, which means over the black background would hide.
    assert (scan.table["mean_r"] > scan.table["mean_g"] + 20).all()
    assert scan.table["foreground_share"].between(0.05, 0.4).all()
