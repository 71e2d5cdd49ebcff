"""The four-class set: folder names of its copies, and blocks of consecutive numbers for patients."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasall.data.aria import read_aria
from kerasall.errors import DataError

PUBLIC = ("Benign", "[Malignant] Pre-B", "[Malignant] Pro-B", "[Malignant] early Pre-B")


def _make(
    root: Path, classes=("Benign", "Early", "Pre", "Pro"), numbers=range(1, 21), name="WBC-{:03d}.jpg"
) -> Path:
    for label in classes:
        (root / label).mkdir(parents=True)
        for number in numbers:
            (root / label / name.format(number)).touch()
    return root


def test_real_set_is_read_in_both_variants(real_data):
    collection = read_aria(real_data / "aria")
    examples = collection.examples
    assert len(examples) == 2603
    assert examples["label"].value_counts().to_dict() == {"Early": 788, "Pre": 771, "Pro": 642, "Benign": 402}
    assert collection.labels == ("Benign", "Early", "Pre", "Pro")
    assert collection.malignant == ("Early", "Pre", "Pro")
    assert (collection.subject_kind, examples["subject"].nunique()) == ("block", 40)
    assert "evaluation by patient is impossible" in collection.notes[0]
    sizes = examples.groupby(["label", "subject"]).size().groupby("label").agg(["min", "max"])
    assert (sizes["max"] - sizes["min"] <= 1).all()
    segmented = read_aria(real_data / "aria", variant="Segmented")
    columns = ["id", "label", "subject"]
    assert segmented.examples[columns].equals(examples[columns])
    assert "/Segmented/" in segmented.examples["path"][0]


def test_blocks_are_runs_of_consecutive_numbers_whatever_the_digits(tmp_path):
    root = _make(tmp_path, numbers=[*range(1, 31), 200, 1000], name="WBC-{}.jpg")
    examples = read_aria(root, blocks=4).examples.query("label == 'Pre'")
    numbers = examples["id"].str.extract(r"-(\d+)\.")[0].astype(int)
    ranges = numbers.groupby(examples["subject"]).agg(["min", "max", "size"])
    assert list(ranges.index) == ["Pre/01", "Pre/02", "Pre/03", "Pre/04"]
    assert list(ranges["size"]) == [8, 8, 8, 8]
    assert (ranges["min"].to_numpy()[1:] > ranges["max"].to_numpy()[:-1]).all()


@pytest.mark.parametrize(
    "classes", [PUBLIC, ("BENIGN", "early", "PRE", "pro"), ("benign", "Early Pre-B", "Pre-B", "Pro-B")]
)
def test_folder_names_of_public_copies_become_the_labels(tmp_path, classes):
    collection = read_aria(_make(tmp_path, classes), blocks=2)
    assert collection.labels == tuple(sorted(classes))
    assert collection.malignant == tuple(sorted(name for name in classes if name.lower() != "benign"))


@pytest.mark.parametrize("below", ["", "Original", "original", "Blood cell Cancer [ALL]", "archive/Original"])
def test_the_folder_or_its_parents_may_be_given(tmp_path, below):
    _make(tmp_path / below)
    collection = read_aria(tmp_path)
    assert collection.root == tmp_path / below
    assert collection.examples["id"][0] == "Benign/WBC-001.jpg"


def test_other_files_are_counted_and_images_in_folders_below_a_class_are_read(tmp_path):
    root = _make(tmp_path)
    (root / "Pre" / "more").mkdir()
    for name in ("Pre/more/WBC-021.jpg", "Pre/notes.txt", "sheet.png", "Pre/.DS_Store"):
        (root / name).touch()
    collection = read_aria(root)
    assert len(collection.examples) == 81
    outside, others = collection.read_warnings
    assert "sheet.png" in outside
    assert others == "1 file that is no image was left out: Pre/notes.txt"


def test_what_is_wrong_is_named(tmp_path):
    three = _make(tmp_path / "three", ("Benign", "Early", "Pre"))
    with pytest.raises(DataError, match="Benign, Early, Pre: give the path"):
        read_aria(three)
    with pytest.raises(DataError, match="does not exist"):
        read_aria(tmp_path / "none")
    both = tmp_path / "both"
    _make(both / "A")
    _make(both / "B")
    with pytest.raises(DataError, match=r"holds \['A', 'B'\]"):
        read_aria(both)
    assert read_aria(both, variant="b").root == both / "B"


@pytest.mark.parametrize("blocks", [0, 1, 21])
def test_impossible_numbers_of_blocks_are_refused(tmp_path, blocks):
    with pytest.raises(DataError, match=r"blocks must be .* 20 images"):
        read_aria(_make(tmp_path), blocks=blocks)
