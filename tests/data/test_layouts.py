"""Trees as labs make them: read right, or refused with a cure that works to the letter."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_images import touch
from PIL import Image

from kerasall.components.example_gen import read_collection_of
from kerasall.components.transform import draw_split
from kerasall.data.image_folder import read_image_folder
from kerasall.data.image_table import read_table
from kerasall.data.layouts import decide_layout
from kerasall.data.locations import parse_location
from kerasall.data.splits import check_leaks
from kerasall.errors import DataError, KerasallError, LeakError, SettingsError
from kerasall.settings import DataSettings, SplitSettings

A, N = [f"A{i:02}" for i in range(8)], [f"N{i:02}" for i in range(8)]
FEW, MORE = [str(i) for i in range(1, 9)], [str(i) for i in range(9, 17)]
NAMES = ["Huber", "Lang", "Maier", "Wolf"], ["Kurz", "Roth", "Voss", "Weiss"]


def trees(form: str, classes=("ALL", "normal"), patients=(A, N), images: int = 3, **other) -> list[str]:
    """Paths of a form such as "{part}/{c}/{p}/{i}.png", over all values of each name."""
    paths = [
        form.replace("{c}", c).replace("{p}", p).replace("{i}", str(i))
        for c, ours in zip(classes, patients, strict=True) for p in ours for i in range(images)
    ]  # fmt: skip
    for name, values in other.items():
        paths = [path.replace(f"{{{name}}}", value) for path in paths for value in values]
    return sorted(set(paths))


@dataclass(frozen=True)
class Read:
    """What a tree must be taken for: number of the class's, the patient's and the part's folder, and words that are said."""

    paths: list[str]
    label: int | None
    subject: int | None = None
    fold: int | None = None
    said: str = ""


PARTS = {"part": ["train", "val", "test"]}
UNDERSTOOD = {
    "class": Read(trees("{c}/{i}.png"), 1),
    "unknown classes": Read(trees("{c}/{i}.png", ("typA", "typB")), 1),
    "class and patient": Read(trees("{c}/{p}/{i}.png"), 1, 2),
    "unknown classes and patient": Read(trees("{c}/{p}/{i}.png", ("foo", "bar")), 1, 2),
    "named patients": Read(trees("{c}/Patient {p}/{i}.png", patients=(FEW, MORE)), 1, 2),
    "cases": Read(trees("{c}/case-{p}/{i}.png", patients=(FEW, MORE)), 1, 2),
    "numbered patients": Read(trees("{c}/{p}/{i}.png", patients=(FEW, MORE)), 1, 2),
    "numbers that begin again": Read(trees("{c}/{p}/{i}.png", patients=(FEW, FEW)), 1, 2, said="every class counts its own"),
    "numbered classes": Read(trees("{c}/{p}/{i}.png", ("0", "1"), (FEW, MORE)), 1, 2),
    "hospital numbers": Read(trees("{c}/2019-00{p}/{i}.png"), 1, 2),
    "surnames": Read(trees("{c}/{p}/{i}.png", patients=NAMES), 1, 2, said="because of their place and number"),
    "one patient in both": Read(trees("{c}/{p}/{i}.png", patients=(A, A)), 1, 2),
    "slides below patients": Read(trees("{c}/{p}/{slide}/{i}.png", slide=["slide_1", "slide_2"]), 1, 2),
    "dates below patients": Read(trees("{c}/{p}/{day}/{i}.png", day=["2021-03-01", "2021-04-30"]), 1, 2),
    "dates above patients": Read(trees("{c}/{day}/{p}/{i}.png", day=["01.03.2021", "30.04.2021"]), 1, 3),
    "noise between": Read(trees("{c}/images/{p}/png/{i}.png"), 1, 3),
    "wrapper": Read(trees("data/raw/{c}/{p}/{i}.png"), 3, 4),
    "wrapper that is a word": Read(trees("leukemia/{c}/{i}.png"), 2),
    "parts": Read(trees("{part}/{c}/{i}.png", **PARTS), 2, None, 1, said="split.kind: given"),
    "parts and patients": Read(trees("{part}/{c}/{p}/{i}.png", **PARTS), 2, 3, 1),
    "parts in German": Read(trees("{part}/{c}/{i}.png", ("krank", "gesund"), part=["Training", "Validierung", "Test"]), 2, None, 1),
    "parts below": Read(trees("{c}/{part}/{i}.png", **PARTS), 1, None, 2),
    "folds": Read(trees("fold_{k}/{c}/{p}/{i}.png", k=["0", "1"]), 2, 3, 1),
    "test images without class": Read([*trees("train/{c}/{i}.png"), "test/1.png", "test/2.png"], 2, None, 1, said="test/1.png"),
    "mixed depth": Read([*trees("{c}/{p}/{i}.png", ("ALL",), (A,)), *trees("normal/{i}.png")], 1, 2, said="no patient's folder"),
    "batches": Read(trees("{c}/batch{b}/{i}.png", b=["1", "2"], images=30), 1, said="not taken for patients"),
    "magnifications": Read(trees("{c}/{x}/{i}.png", x=["10x", "40x"]), 1, said="data.subject: folder:2"),
    "one folder per class": Read(["ALL/u1/1.png", "ALL/u1/2.png", "normal/u2/1.png", "normal/u2/3.png"], 1, said="one per class"),
    "one image per folder": Read(trees("{c}/u{p}{i}/x.png"), 1, said="each holds one image"),
    "few folders": Read(trees("{c}/{s}/{i}.png", s=["thick", "thin"], images=30), 1, said="not taken for patients"),
    "batches above": Read(trees("batch{b}/{c}/{p}/{i}.png", b=["1", "2"]), 2, 3),
    "FAB classes": Read(trees("{c}/{i}.png", ("L1", "L2")), 1),
    "French": Read(trees("{c}/patient_{p}/{i}.png", ("leucémie", "témoin")), 1, 2),
    "Spanish": Read(trees("{c}/caso{p}/{i}.png", ("Benigno", "Maligno"), (FEW, MORE)), 1, 2),
    "stages of one class": Read(trees("{c}/{p}/{i}.png", ("[Malignant] early Pre-B", "[Malignant] Pre-B")), 1, 2),
    "one class alone": Read(trees("{c}/{p}/{i}.png", ("ALL",), (A,)), 1, 2),
    "years above patients": Read(trees("{c}/{year}/{p}/{i}.png", year=["2019", "2020"]), 1, 3),
    "a class folder in itself": Read(trees("{c}/{c} images/{p}/{i}.png"), 1, 3),
    "class in the patient's name": Read(trees("{c}/{c}_{p}/{i}.png"), 1, 2),
    "masks beside": Read([*trees("{c}/{i}.png"), "masks/1.png"], 1, said="data.classes: [ALL, normal]"),
    "parts with more words": Read(trees("{part}/{c}/{i}.png", part=["01_train images", "02_test images"]), 2, None, 1),
    "initials": Read(trees("{c}/{p}/{i}.png", patients=(["AB", "CD", "EF"], ["GH", "IJ", "KL"])), 1, 2, said="if they are none"),
    "codes in files' names": Read(trees("{c}/{p}_{i}.png"), 1, said="begin with 16 codes"),
}  # fmt: skip
REFUSED = {
    "patient and class": (trees("{p}/{c}/{i}.png"), 2, 1),
    "numbers and class": (trees("{p}/{c}/{i}.png", patients=(FEW, MORE)), 2, 1),
    "surnames and class": (trees("{p}/{c}/{i}.png", patients=NAMES), 2, 1),
    "patient and unknown class": (trees("{p}/{c}/{i}.png", ("foo", "bar")), 2, 1),
    "numbers all over": (trees("{p}/{c}/{i}.png", ("0", "1"), (FEW, MORE)), 2, 1),
    "both classes of every patient": (trees("{p}/{c}/{i}.png", patients=(A, A)), 2, 1),
    "part, patient and class": (trees("{part}/{p}/{c}/{i}.png", **PARTS), 3, 2),
    "wrapper, patient and class": (trees("cells/{p}/{c}/{i}.png"), 3, 2),
    "two and two": (["foo/baz/1.png", "foo/qux/1.png", "bar/baz/1.png", "bar/qux/1.png"], 1, None),
    "classes of classes": (["leukemia/ALL/1.png", "leukemia/AML/1.png", "healthy/early/1.png"], 1, None),
    "parts beside others": ([*trees("{part}/{c}/{i}.png", **PARTS), *trees("extra/{c}/{i}.png")], 2, None),
    "patients alone": (trees("{p}/{i}.png", ("x",), (A,)), 1, None),
    "many numbers": (trees("{p}/{i}.png", ("x", "y"), (FEW, MORE)), 1, None),
    "batches alone": (trees("batch{p}/{i}.png", ("x",), (FEW,)), 1, None),
    "days and unknown names": (["2021-03-01/foo/1.png", "2021-03-02/bar/1.png"], 2, None),
    "hospitals above": (trees("{site}/{c}/{p}/{i}.png", site=["Berlin", "Paris"]), 2, 3),
    "parts in classes": (["ALL_train/1.png", "ALL_test/1.png", "normal_train/1.png", "normal_test/1.png"], 1, None),
    "classes counted through": ([f"{c}_{i}/{k}.png" for c in ("ALL", "normal") for i in range(9) for k in "ab"], 1, None),
}  # fmt: skip


def decide(paths, label="auto", subject="auto"):
    found = decide_layout(paths, parse_location(label, "data.label"), parse_location(subject, "data.subject"))
    return found.label, found.subject, found.fold


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_tree_is_understood_and_the_reading_is_told_with_an_example(tmp_path, name):
    wanted = UNDERSTOOD[name]
    collection = read_image_folder(touch(tmp_path, *wanted.paths))
    for number, column in ((wanted.label, "label"), (wanted.subject, "subject"), (wanted.fold, "fold")):
        folders = [path.split("/")[:-1] for path in collection.examples["id"]]
        there = [names[number - 1] if number and len(names) >= number else "" for names in folders]
        assert list(collection.examples[column]) == there, column
    first, *others = collection.notes
    example = re.fullmatch(r"Folders are read as in (.*): class (.*?) \((\d).. folder\), (.*)\.", first)
    assert example is not None
    assert example[1] in wanted.paths
    folders = example[1].split("/")
    patient = (
        f"patient {folders[wanted.subject - 1]} ({wanted.subject}" if wanted.subject else "no patient known"
    )
    assert (int(example[3]), example[2]) == (wanted.label, folders[int(example[3]) - 1])
    assert example[4].startswith(patient)
    assert wanted.said in "\n".join([*others, *collection.read_warnings])


def test_a_pure_patient_level_is_no_doubt(tmp_path):
    collection = read_image_folder(touch(tmp_path, *UNDERSTOOD["class and patient"].paths))
    note = "Folders are read as in ALL/A00/0.png: class ALL (1st folder), patient A00 (2nd folder)."
    assert (collection.notes, collection.read_warnings) == ((note,), ())
    assert (collection.subject_kind, collection.labels) == ("subject", ("ALL", "normal"))


def settings_in(message: str) -> list[dict[str, str]]:
    """The ``--set`` options of every reading that an error shows."""
    found = []
    for line in re.findall(r"\((--set .*)\)$", message, re.MULTILINE):
        words = [word for word in shlex.split(line) if word != "--set"]
        found.append(
            {key.removeprefix("data."): value for key, _, value in (word.partition("=") for word in words)}
        )
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_a_tree_with_two_readings_is_refused_and_each_cure_works(tmp_path, name):
    paths, label, subject = REFUSED[name]
    root = touch(tmp_path, *paths)
    with pytest.raises(DataError, match=re.escape(str(root))) as refused:
        read_image_folder(root)
    cures = settings_in(str(refused.value))
    wanted = {"label": f"folder:{label}"} | ({"subject": f"folder:{subject}"} if subject else {})
    assert cures[0] == wanted
    assert all(f"data.{key}: {value}" in str(refused.value) for key, value in wanted.items())
    for cure in cures:
        told = read_image_folder(root, **cure).examples
        assert "subject" not in cure or "" not in set(told["subject"])
    told = read_image_folder(root, **wanted).examples
    assert list(told["label"]) == [path.split("/")[label - 1] for path in told["id"]]


def test_the_class_that_begins_a_patients_name_is_found_by_the_pattern_that_the_error_gives(tmp_path):
    root = touch(tmp_path, *REFUSED["classes counted through"][0])
    with pytest.raises(DataError) as refused:
        read_image_folder(root)
    collection = read_image_folder(root, **settings_in(str(refused.value))[1])
    assert collection.labels == ("ALL", "normal")
    assert collection.examples["subject"].nunique() == 18


def test_classes_at_different_depths_are_found_by_the_patterns_that_the_error_gives(tmp_path):
    stages = trees("malignant/{c}/{p}/{i}.png", ("early", "pre"), (A, N))
    root = touch(tmp_path, *stages, *trees("benign/{p}/{i}.png", ("x",), (["C1", "C2"],)))
    with pytest.raises(DataError, match="two levels of folders are classes") as refused:
        read_image_folder(root)
    outer, inner = (read_image_folder(root, **cure) for cure in settings_in(str(refused.value)))
    assert outer.labels == ("benign", "malignant")
    assert inner.labels == ("benign", "early", "pre")
    assert set(inner.examples["subject"]) == {*A, *N, "C1", "C2"}


@pytest.mark.parametrize(
    ("label", "subject", "message"),
    [
        ("folder:3", "auto", "deepest path has 2"),
        ("auto", "folder:9", "data.subject must name a folder"),
        ("folder:1", "folder:1", "different folders"),
        ("column:dx", "auto", "for tables"),
        ("none", "auto", "data.label must be one of"),
        ("folder:0", "auto", "data.label must be one of"),
        ("auto", "patient", "or none"),
        ("auto", "pattern:(", "is none"),
        ("auto", "pattern:A", "group named subject"),
        ("pattern:(?P<label>zzz)", "auto", "matches none of 48"),
        ("pattern:(?P<label>ALL)", "auto", "matches 24 of 48 not: normal/N00/0.png"),
    ],
)
def test_settings_that_fit_no_tree_are_answered(tmp_path, label, subject, message):
    root = touch(tmp_path, *UNDERSTOOD["class and patient"].paths)
    with pytest.raises(KerasallError, match=message):
        read_image_folder(root, label, subject)


def test_what_is_said_goes_before_what_is_seen(tmp_path):
    root = touch(tmp_path, *trees("{c}/{p}/{i}.png"), "ALL/loose.png")
    waived = read_image_folder(root, subject="none")
    assert waived.subject_kind == "none"
    assert "waived by data.subject: none" in waived.notes[1]
    assert not waived.read_warnings
    by_pattern = read_image_folder(root, subject="pattern:/(?P<subject>[AN]0[0-3])/")
    assert by_pattern.examples["subject"].nunique() == 9  # eight and none
    assert "matches 25 of 49 images not" in by_pattern.read_warnings[0]
    joined = read_image_folder(root, "pattern:^(?P<label>.)")
    assert joined.labels == ("A", "n")
    assert joined.examples["subject"].nunique() == 17
    by_file = read_image_folder(
        touch(tmp_path / "b", *trees("{p}/{c}{i}.png")), "pattern:/(?P<label>ALL|normal)"
    )
    assert by_file.examples["subject"].nunique() == 16
    flat = read_image_folder(root, "folder", "folder")
    assert set(flat.examples["subject"]) == {"", *A, *N}
    files = touch(tmp_path / "flat", "ALL_P1_1.png", "ALL_P2_1.png", "hem_P3_1.png")
    named = read_image_folder(files, "pattern:^(?P<label>[^_]+)", "pattern:_(?P<subject>P[0-9]+)_")
    assert list(named.examples["subject"]) == ["P1", "P2", "P3"]
    assert named.labels == ("ALL", "hem")
    assert read_image_folder(files, "pattern:^(?P<label>[^_]+)").subject_kind == "none"


def test_spellings_of_classes_and_patients_are_one_and_words_for_unknown_none(tmp_path):
    paths = ["ALL/P01/1.png", "ALL/P01/2.png", "all/p01/3.png", "All/P 01/4.png", "ALL/P1/1.png"]
    paths += [
        "Gesund/Müller/1.png",
        "gesund/Mueller/2.png",
        "gesund/Mu\u0308ller/2.png",
        "gesund/unknown/1.png",
    ]
    paths += ["gesund/N.A./2.png", "ALL/P7/1.png"]
    collection = read_image_folder(touch(tmp_path, *paths), "folder:1", "folder:2")
    assert collection.labels == ("ALL", "gesund")
    subjects = collection.examples.set_index("id")["subject"]
    assert subjects["All/P 01/4.png"] == subjects["all/p01/3.png"] == "P01" != subjects["ALL/P1/1.png"]
    assert (
        len(set(subjects[["Gesund/Müller/1.png", "gesund/Mueller/2.png", "gesund/Mu\u0308ller/2.png"]])) == 1
    )
    assert subjects["gesund/unknown/1.png"] == subjects["gesund/N.A./2.png"] == ""
    notes = "\n".join(collection.notes)
    for told in ("ALL (also 'All', 'all')", "P01 (also 'P 01', 'p01')", "'unknown' (1)"):
        assert told in notes
    assert any("leading zeros alone" in each and "P01 and P1" in each for each in collection.read_warnings)


def test_one_name_for_most_images_is_no_patient_unless_somebody_says_so(tmp_path):
    root = touch(tmp_path, *trees("{c}/{p}/{i}.png"), *(f"ALL/X99/{i}.png" for i in range(60)))
    seen = read_image_folder(root)
    assert "X99 stands for the patient of 60 of 108 images" in "\n".join(seen.notes)
    assert "X99" not in set(seen.examples["subject"])
    assert "X99" in set(read_image_folder(root, subject="folder:2").examples["subject"])


def test_classes_are_picked_ordered_renamed_and_joined(tmp_path):
    root = touch(tmp_path, *trees("{c}/{p}/{i}.png", ("early", "pre", "normal"), (A, N, ["C1", "C2"])))
    picked = read_image_folder(root, classes=["Normal", "EARLY"])
    assert picked.labels == ("normal", "early")
    assert "pre (24)" in picked.read_warnings[0]
    joined = read_image_folder(root, classes={"ALL": ["pre", "early"], "benign": ["normal"]})
    assert joined.labels == ("ALL", "benign")
    assert dict(joined.examples["label"].value_counts()) == {"ALL": 48, "benign": 6}
    with pytest.raises(
        SettingsError, match=r"'norml' \(did you mean 'normal'\?\) is not: there are early, normal, pre"
    ):
        read_image_folder(root, classes=["norml", "pre"])
    with pytest.raises(SettingsError, match="to one new name, but gives pre to more"):
        read_image_folder(root, classes={"a": ["pre"], "b": ["pre", "early"]})


def test_settings_reach_the_reader_and_malignant_classes_are_known_by_any_spelling(tmp_path):
    root = touch(tmp_path, *REFUSED["patient and class"][0])
    data = {"path": str(root), "label": "folder:2", "subject": "folder:1", "malignant": "all"}
    collection = read_collection_of(DataSettings(**data), tmp_path)
    assert (collection.malignant, collection.examples["subject"].nunique()) == (("ALL",), 16)
    with pytest.raises(
        SettingsError, match=r"data.malignant .*'AL' \(did you mean 'ALL'\?\) is not: there are ALL, normal"
    ):
        read_collection_of(DataSettings(**data | {"malignant": ["AL"]}), tmp_path)


def test_a_labs_own_folders_of_the_four_classes_are_not_the_public_set(tmp_path):
    four = ("Benign", "Early", "Pre", "Pro")
    patients = tuple([f"{c}{i}" for i in range(3)] for c in "abcd")
    own = read_collection_of(
        DataSettings(path=str(touch(tmp_path / "own", *trees("{c}/{p}/{i}.png", four, patients)))), tmp_path
    )
    assert (own.source, own.examples["subject"].nunique()) == ("folder", 12)
    public = touch(tmp_path / "public", *trees("{c}/{i}.png", four, patients))
    data = DataSettings(
        path=str(public),
        classes={"leukaemia": ["Early", "Pre", "Pro"], "benign": ["Benign"]},
        aria={"blocks": 3},
    )
    joined = read_collection_of(data, tmp_path)
    assert (joined.source, joined.labels, joined.malignant) == (
        "aria",
        ("leukaemia", "benign"),
        ("leukaemia",),
    )
    with pytest.raises(SettingsError, match="read as the source aria"):
        read_collection_of(DataSettings(path=str(public), subject="folder:1"), tmp_path)
    with pytest.raises(SettingsError, match="must not join malignant and other"):
        read_collection_of(
            data.model_copy(update={"classes": {"x": ("Early", "Benign"), "y": ("Pre",)}}), tmp_path
        )


# --- ready-made parts ---


def given_parts(tmp_path, paths, clusters=(), report_only=False, **options):
    collection = read_image_folder(touch(tmp_path, *paths))
    split = draw_split(collection, SplitSettings(kind="given", **options), list(clusters), 0, "")
    check_leaks(split, clusters, report_only=report_only, cure="set split.kind: holdout")
    return split


def per_part(*parts: str, **options) -> list[str]:
    """Trees of parts that share no patient."""
    return [
        path for n, part in enumerate(parts)
        for path in trees(f"{part}/{{c}}/{{p}}/{{i}}.png", patients=([f"A{n}{i}" for i in range(6)], [f"N{n}{i}" for i in range(6)]))
    ]  # fmt: skip


def test_given_parts_are_taken_over_as_they_are(tmp_path):
    split = given_parts(tmp_path, per_part("Training", "valid", "Holdout"))
    found = {row.id.split("/")[0]: row.part for row in split.table.itertuples()}
    assert found == {"Training": "train", "valid": "validation", "Holdout": "test"}
    assert split.fixed == ("train", "validation", "test")


def test_a_validation_part_that_is_not_given_is_drawn_out_of_the_training_part(tmp_path):
    paths = per_part("train", "test")
    split = given_parts(tmp_path, paths)
    assert set(split.parts) == {"train", "validation", "test"}
    assert "20% of the training part" in split.notes[1]
    assert all(name.startswith("test/") for name in split.ids("test"))
    assert split.table.groupby("subject")["part"].nunique().max() == 1
    assert given_parts(tmp_path, paths, validation=0).parts == ("train", "test")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (trees("fold_{k}/{c}/{i}.png", k=["0", "1"]), "split.kind: official_folds"),
        (trees("{c}/{i}.png"), "the data have none"),
        (per_part("train", "val"), "split.test: 0"),
        (per_part("test", "val"), "needs a part train"),
    ],
)
def test_what_is_no_ready_made_split_is_refused_with_a_cure(tmp_path, paths, message):
    with pytest.raises(DataError, match=message):
        given_parts(tmp_path, paths)


def test_train_and_validation_alone_are_taken_where_no_test_part_is_asked_for(tmp_path):
    assert given_parts(tmp_path, per_part("train", "val"), test=0).parts == ("train", "validation")


def test_a_given_split_that_divides_a_patient_or_copies_stops(tmp_path):
    with pytest.raises(LeakError, match=r"subject A00 in train and test .*split.kind: holdout"):
        given_parts(tmp_path, trees("{part}/{c}/{p}/{i}.png", part=["train", "test"]))
    copies = [["train/ALL/A00/0.png", "test/ALL/A10/0.png"]]
    with pytest.raises(LeakError, match="duplicate"):
        given_parts(tmp_path / "copies", per_part("train", "test"), copies)


def test_parts_of_unknown_patients_are_taken_over(tmp_path):
    assert given_parts(tmp_path, trees("{part}/{c}/{i}.png", **PARTS)).parts == (
        "train",
        "validation",
        "test",
    )


# --- folders and tables ---


@pytest.mark.parametrize("kind", ["holdout", "folds"])
def test_folders_and_a_table_of_the_same_images_give_the_same_split(tmp_path, kind):
    paths = trees("{c}/{p}/{i}.png")
    random = np.random.default_rng(0)
    for name in paths:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / name)
    table = tmp_path / "cells.csv"
    rows = [",".join([name, name.split("/")[0], name.split("/")[1]]) for name in paths]
    Random(1).shuffle(rows)
    table.write_text("path,label,subject\n" + "\n".join(rows), encoding="utf-8")
    collections = read_image_folder(tmp_path), read_table(table)
    assert collections[0].examples.equals(collections[1].examples)
    assert collections[0].labels == collections[1].labels
    drawn = [draw_split(each, SplitSettings(kind=kind, folds=3), [], 7, "f") for each in collections]
    assert drawn[0].sha256 == drawn[1].sha256


# --- properties ---


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(UNDERSTOOD)), st.randoms(use_true_random=False))
def test_the_order_of_the_paths_decides_nothing(name, random):
    paths = list(UNDERSTOOD[name].paths)
    first = decide(paths)
    random.shuffle(paths)
    assert decide(paths) == first


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(A + N), st.sampled_from(["{c}/{p}/{i}.png", "data/{c}/{p}/{i}.png", "{part}/{c}/{p}/{i}.png"]),
    st.sampled_from([("ALL", "normal"), ("foo", "bar"), ("0", "1")]),
)  # fmt: skip
def test_the_names_of_the_patients_may_change_places(patients, form, classes):
    paths = trees(form, classes, (patients[:8], patients[8:]), **PARTS)
    assert decide(paths) == decide(trees(form, classes, **PARTS))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["ALL", "hem", "P1", "P2", "x", "7", "train", "test", "data"]), max_size=4),
        min_size=1,
    )
)
def test_any_tree_is_read_or_refused_in_words(folders):
    paths = sorted({"/".join([*names, "i.png"]) for names in folders if names})
    if not paths:
        return
    try:
        label, subject, fold = decide(paths)
    except DataError as error:
        told = str(error)
    else:
        levels = [number for number in (label, subject, fold) if number]
        told = "--set data.label=folder:" if label and len(set(levels)) == len(levels) else ""
    assert "--set data.label=folder:" in told
