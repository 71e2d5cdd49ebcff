"""The table of sources: what is detected, and what a wrong name or option says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lab_images import touch

from kerasall.data.sources import SOURCES, detect_source, read_source
from kerasall.errors import DataError, SettingsError


def _four_classes(root: Path) -> Path:
    return touch(
        root, *(f"{label}/{i}.jpg" for label in ("Benign", "Early", "Pre", "Pro") for i in range(10))
    )


def test_every_row_is_known_by_its_name_and_described():
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.description


def test_detection_takes_the_most_particular_source(tmp_path):
    assert detect_source(touch(tmp_path / "c", "fold_0/all/UID_1_1_1_all.bmp")) == "cnmc"
    assert detect_source(_four_classes(tmp_path / "a")) == "aria"
    assert detect_source(_four_classes(tmp_path / "b" / "Original").parent) == "aria"
    assert detect_source(touch(tmp_path / "f", "x/1.png", "y/2.png")) == "folder"
    assert detect_source(touch(tmp_path, "t.CSV") / "t.CSV") == "csv"


def test_real_data_are_detected(real_data):
    assert detect_source(real_data / "cnmc_sample") == "cnmc"
    assert detect_source(real_data / "aria" / "Segmented") == "aria"


def test_auto_reads_what_it_detects_and_gives_it_only_its_own_options(tmp_path):
    root = _four_classes(tmp_path)
    automatic = read_source("auto", str(root), blocks=5, label_csv=None)
    assert automatic.source == "aria"
    assert automatic.examples.equals(read_source("aria", root, blocks=5).examples)
    plain = read_source("folder", root)
    assert (plain.source, plain.subject_kind) == ("folder", "none")


def test_wrong_names_and_options_are_answered_with_the_near_ones(tmp_path):
    root = _four_classes(tmp_path)
    with pytest.raises(SettingsError, match="did you mean 'cnmc'"):
        read_source("cnmcc", root)
    with pytest.raises(
        SettingsError,
        match=r"source folder takes \['classes', 'label', 'subject'\], but was given \['blocks'\]",
    ):
        read_source("folder", root, blocks=5)
    with pytest.raises(SettingsError, match=r"was given \['block'\]"):
        read_source("auto", root, block=5)


def test_paths_that_hold_nothing_known(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_source("auto", tmp_path / "none")
    with pytest.raises(DataError, match="neither"):
        read_source("auto", touch(tmp_path, "x.dat") / "x.dat")


def test_readers_load_no_tensorflow():
    program = "import sys, kerasall.data.sources; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]
