"""The dry run at full size: the set it renders is the published one in names, counts and layout, and it is killed and gone on with."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import results.full_size as study
from kerasall.data.cnmc import parse_cell_name, read_cnmc
from kerasall.data.cnmc_subjects import JOINED_IDS, join_subjects
from kerasall.decoding import DEFAULT_LIMITS, decode
from kerasall.settings.loading import load_settings
from kerasall.settings.shipped import shipped_files
from results.full_size import SIDE, SUBJECTS, SYSTEMS, encode_bmp, plan_cells, render_set
from results.page import fill_marks
from results.pages.full_size import section, table

PUBLISHED_BYTES = {"training": 608_454, "prelim": 608_538}
"""Of every file of the two parts."""


def test_the_planned_set_has_the_published_counts():
    cells = plan_cells()
    assert len({cell.file for cell in cells}) == len(cells) == 10_661 + 1_867
    counts = Counter(
        (cell.file.split("/")[1], cell.file.split("/")[2]) for cell in cells if "training" in cell.file
    )
    assert counts == {
        ("fold_0", "all"): 2397, ("fold_0", "hem"): 1130, ("fold_1", "all"): 2418, ("fold_1", "hem"): 1163,
        ("fold_2", "all"): 2457, ("fold_2", "hem"): 1096,
    }  # fmt: skip
    known = [parse_cell_name(cell.name) for cell in cells]
    assert Counter(label for _, label in {*known}) == {"all": 47 + 13, "hem": 26 + 15}
    assert sum("UID_h3_" in cell.name for cell in cells) == 36
    assert {len(group) for group in join_subjects({subject for subject, _ in known})} == {2, 4, 5, 6}


@pytest.mark.realdata
def test_every_id_has_as_many_images_as_in_the_published_list(real_data):
    found = Counter()
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if match := re.search(r"(fold_\d)/(all|hem)/UID_([Hh]?\d+)_", row["path"]):
                found[match.groups()] += 1
            for part, size in PUBLISHED_BYTES.items():
                assert part not in row["path"] or int(row["bytes"]) == size
    with open(real_data / study.LABEL_TABLE, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[
                "prelim",
                *re.search(r"_(all|hem)\.", row["Patient_ID"]).groups(),
                row["Patient_ID"].split("_")[1],
            ] += 1
    stated = {
        (part, label, subject): number
        for (part, label), line in SUBJECTS.items()
        for subject, number in study._read_counts(line)
    }
    assert stated == found


def test_ids_that_are_one_patient_share_cells_and_no_others_do():
    holders: dict[tuple[int, int, int], set[str]] = {}
    kinds: Counter[str] = Counter()
    for cell in plan_cells():
        holders.setdefault(cell.shows, set()).add(parse_cell_name(cell.name)[0])
        kinds[cell.again] += 1
    shared = {frozenset(ids) for ids in holders.values() if len(ids) > 1}
    known = {frozenset((pair.first, pair.second)) for pair in JOINED_IDS}
    assert shared <= known
    assert len(shared) >= len(known) - 3  # 17 with 20, and 16 with both: of 20 and 21 no image is left
    assert kinds["identical"] == sum(pair.identical_groups for pair in JOINED_IDS) == 99
    assert 350 < kinds["near"] <= sum(pair.near_duplicate_groups for pair in JOINED_IDS)


def test_files_are_those_of_the_two_published_kinds():
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for longer, size in zip((False, True), PUBLISHED_BYTES.values(), strict=True):
        data = encode_bmp(pixels, longer=longer)
        assert len(data) == size
        assert (decode(data, DEFAULT_LIMITS, "it") == pixels).all()
        assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) == pixels).all()


@pytest.fixture
def few(monkeypatch):
    """At most two images of every id."""
    small = {
        key: " ".join(f"{subject}:{min(number, 2)}" for subject, number in study._read_counts(line))
        for key, line in SUBJECTS.items()
    }
    monkeypatch.setattr(study, "SUBJECTS", small)


def test_the_reader_takes_the_rendered_package_as_it_stands(few, tmp_path):
    folder = tmp_path / "PKG - C-NMC 2019"
    cells = plan_cells()
    render_set(folder, cells)
    read = read_cnmc(folder)
    assert len(read.examples) == len(cells) == 2 * 101
    assert set(read.examples["fold"]) == {"fold_0", "fold_1", "fold_2", "prelim"}
    told = dict(
        zip(
            read.examples["id"],
            zip(read.examples["subject"], read.examples["label"], strict=True),
            strict=True,
        )
    )
    assert {cell.file: parse_cell_name(cell.name) for cell in cells} == told
    assert read.read_warnings == ()
    written = {path.stat().st_mtime_ns for path in folder.rglob("*.bmp")}
    render_set(folder, cells)
    assert {path.stat().st_mtime_ns for path in folder.rglob("*.bmp")} == written


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_keeps_the_split_and_the_kind_of_its_shipped_config(name, tmp_path):
    system = SYSTEMS[name]
    study.write_config(tmp_path / f"{name}.yaml", system)
    own, shipped = (
        load_settings(path) for path in (tmp_path / f"{name}.yaml", shipped_files("configs")[system.config])
    )
    for key in ("pipeline", "data", "split", "augment", "protocol", "evaluate", "checks"):
        assert getattr(own, key) == getattr(shipped, key) or key == "pipeline"
    assert Path(own.pipeline).name == Path(shipped.pipeline).name
    assert own.ensemble.rule == shipped.ensemble.rule
    assert own.train.batch_size == shipped.train.batch_size
    assert own.train.oversample == shipped.train.oversample


def test_the_page_says_what_it_took():
    found = {
        "config": "weighted_ensemble", "command": "run", "says": "five small members", "killed_in": "Trainer b",
        "found_again": ["ExampleGen", "Transform"], "scored": "test", "images": 1867, "metrics": {},
        "begun_before": False, "seconds_of_tries": [30.0, 120.0], "seconds_of_processor": 96.0, "load": 2.5, "bytes_peak": 3 << 30, "bytes_peak_own": 1 << 30,
    }  # fmt: skip
    document = {
        "command": "python", "images": {"training": 10_661, "preliminary": 1_867}, "systems": {"full_001": found},
        "bytes_images": 7 << 30, "bytes_runs": 2 << 30, "hardware": {"cores": 2},
    }  # fmt: skip
    page = "\n".join(section(document))
    assert (
        "| `kerasall run weighted_ensemble` | five small members | 0.5 + 2.0 | 1.6 | 2.5 | 3.0 GiB | 1.0 GiB | 1,867 (test) | Trainer b |"
        in page
    )
    assert "10,661 for training and 1,867 of the preliminary part" in page
    mark = "<!-- results:full_size -->\n{}<!-- end -->"
    kept = {"full_size": document | {"study": "full_size"}}
    assert fill_marks(mark.format(""), kept) == mark.format("\n".join(table(document)) + "\n")
    assert fill_marks(mark.format(""), {}) == mark.format("")


@pytest.mark.slow
def test_killed_in_its_step_the_same_command_goes_on(few, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "AFTER", 1)
    words = ["full_size", "--folder", str(tmp_path / "work"), "--out", str(tmp_path), "--systems", "full_004"]
    monkeypatch.setattr(sys, "argv", words)
    (tmp_path / "work").mkdir()
    study.main()
    found = json.loads((tmp_path / "full_size.json").read_text(encoding="utf-8"))["systems"]["full_004"]
    assert len(found["seconds_of_tries"]) == 2
    assert "Transform" in found["found_again"]
    assert "SweepTrainer" not in found["found_again"]
    assert found["images"] == 2 * 28
    assert found["bytes_peak"] >= found["bytes_peak_own"] > 100 << 20
    assert list((tmp_path / "work").iterdir()) == []
