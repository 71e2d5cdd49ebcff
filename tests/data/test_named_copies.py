"""Copies by name: what a name says is joined, what only looks so is not, on any order of the rows."""

from __future__ import annotations

import pandas as pd
import pytest

from kerasall.data.named_copies import find_named_copies

OTHERS = [f"c/cell{number:02d}.png" for number in range(20)]
"""So many more of the class that no group holds most of it."""
UUID, HASH = "0b0e3a7c-1f0e-4c1e-9a39-0b1cf4f8c3a2", "0123456789abcdef0123456789abcdef"

SAID = [
    "x_aug1", "x_aug_2", "x-AUG-3", "x_augmented_3", "x_aug_3_12", "x_rot15", "x_rot_15", "x_rot-15", "x_rot15.5",
    "x_rotated_90", "x_rotated90deg", "x_flip", "x_hflip", "x_h_flip", "x_flip_h", "x_fliplr", "x_vertical_flip", "x-mirror",
    "x_flipped", "x_rot15_flip", "x_bright_aug1", "x - Copy", "x - Copy (2)", "x - Kopie", "x - Copie", "x copy 2", "x_copy",
    "x_copy2", "x (copy)", "x (another copy)", "x (Kopie)", "Copy of x", "Kopie von x", "aug_x", "aug_0_x", "aug1_x",
    "augmented-3-x", "rot90_x", "flipped_x", f"ALL_original_x.png_{UUID}", "X_Aug1",
]  # fmt: skip
"""Names that say by themselves that they are copies of x."""
BESIDE = [
    "x_rot", "x_bright", "x_brightness_1.2", "x_noise", "x_noisy2", "x_crop1", "x_blur", "x_zoom_1.2", "x_r90", "x_180",
    "x_shift", "x_resized", "x (1)", "x(2)", "x_0_1234", "noise_x", f"x_png.rf.{HASH}",
]  # fmt: skip
"""Names that say so only beside an image x."""
APART = [
    "UID_1_2_3_all", "UID_H10_1_1_hem", "WBC-Benign-001", "cell_1", "cell_2", "P01", "P01_12", "Im001_1", "x2", "x_2", "xa",
    "x_ALL", "copper_3", "augusta_3", "rotor_3", "x_y", "crop", "x1_1", "x_12",
]  # fmt: skip


def find(names, labels=None, subjects=None):
    rows = {"id": names, "label": labels or ["c"] * len(names), "subject": subjects or [""] * len(names)}
    return find_named_copies(pd.DataFrame(rows))


@pytest.mark.parametrize("name", [*SAID, *BESIDE])
@pytest.mark.parametrize("suffix", [".png", ".JPG"])
def test_a_copy_joins_its_original(name, suffix):
    found = find(["c/x.png", f"c/{name}{suffix}", *OTHERS])
    assert found.groups == [sorted(["c/x.png", f"c/{name}{suffix}"])]
    assert found.untold == []


@pytest.mark.parametrize("name", SAID)
def test_a_copy_without_its_original_is_told(name):
    found = find([f"c/{name}.png", *OTHERS])
    assert (found.groups, found.untold) == ([], [f"c/{name}.png"])


@pytest.mark.parametrize("name", BESIDE)
def test_what_may_mean_something_else_is_no_copy_without_its_original(name):
    found = find([f"c/{name}.png", *OTHERS])
    assert (found.groups, found.untold) == ([], [])


@pytest.mark.parametrize("name", APART)
def test_what_only_looks_so_is_no_copy(name):
    found = find([f"c/{name}.bmp", "c/x.bmp", *OTHERS])
    assert (found.groups, found.untold) == ([], [])


def test_copies_of_a_missing_original_join_among_themselves():
    alone = [name for name in SAID if name != "x_bright_aug1"]  # a copy of x_bright, as far as is known
    names = [f"c/{name}.png" for name in (*alone, f"x_png.rf.{HASH}")]
    assert find([*names, *(f"c/more{n}.png" for n in range(60))]).groups == [sorted(names)]
    roboflow = [f"c/{stem}_jpg.rf.{n}{HASH[1:]}.jpg" for stem in "xyz" for n in (1, 2)]
    assert find(roboflow + OTHERS).groups == [roboflow[:2], roboflow[2:4], roboflow[4:]]


def test_a_bulk_rename_is_a_series():
    series = [f"c/cell ({number}).png" for number in range(1, 161)]
    assert find(series).groups == []
    assert find(["c/cell.png", *series]).groups == []
    assert find(["c/field.png", *(f"c/field_{number}.png" for number in range(1, 300))]).groups == []
    assert find(["c/x.png", "c/x_90.png", "c/x_180.png", *OTHERS]).groups == [
        ["c/x.png", "c/x_180.png", "c/x_90.png"]
    ]
    assert find(["c/P01.png", "c/P01 (1).png", "c/P01 (2).png", *OTHERS]).groups == [
        ["c/P01 (1).png", "c/P01 (2).png", "c/P01.png"]
    ]


def test_names_of_a_series_join_nothing_and_are_told():
    for series in ([f"c/aug_0_{n}.png" for n in range(200)], [f"c/ALL_aug{n}.png" for n in range(40)]):
        found = find(series)
        assert (found.groups, found.untold) == ([], sorted(series))
    keras = [f"c/aug_{image}_{n}" for image in range(6) for n in (11, 222, 3333)]
    assert len(find(keras).groups) == 6


@pytest.mark.parametrize(
    ("names", "labels", "subjects", "joined"),
    [
        # The original lies in another folder of the same class and the same or no patient.
        (["train/c/x", "test/c/x_rot15"], "cc", ["", ""], True),
        (["p1/x", "p1/aug/x_rot15"], "cc", ["1", "1"], True),
        (["p1/x", "aug/x_rot15"], "cc", ["1", ""], True),
        (["p1/x", "p2/x_rot15"], "cc", ["1", "2"], False),
        (["c/x", "d/x_rot15"], "cd", ["", ""], False),
        # In one folder a name is unique: whatever the table says of class and patient, it is a copy.
        (["all/x", "all/x_rot15"], "cd", ["1", "2"], True),
        # A folder of copies, whose files keep their names; and two parts that number alike.
        (["original/c/x", "augmented/c/x"], "cc", ["", ""], True),
        (["train/c/x", "test/c/x"], "cc", ["", ""], False),
        # Copies whose original is missing.
        (["train/c/x_aug1", "test/c/x_aug2"], "cc", ["", ""], True),
        (["p1/x_aug1", "p2/x_aug2"], "cc", ["1", "2"], False),
    ],
)
def test_folders_classes_and_patients(names, labels, subjects, joined):
    names = [f"{name}.png" for name in names]
    found = find([*names, *OTHERS], [*labels, *"c" * 20], [*subjects, *[""] * 20])
    assert found.groups == ([sorted(names)] if joined else [])


def test_a_name_that_every_patient_has_joins_nothing_across_folders():
    names = [f"p{patient}/{image:03d}.png" for patient in range(8) for image in range(4)]
    copies = [f"p{patient}/001_rot15.png" for patient in range(8)]
    assert find([*names, *copies]).groups == [[f"p{n}/001.png", f"p{n}/001_rot15.png"] for n in range(8)]
    found = find([*names, "more/001_rot15.png"])
    assert (found.groups, found.untold) == ([], ["more/001_rot15.png"])
    orphans = [f"p{patient}/001_aug{k}.png" for patient in range(8) for k in range(2)]
    assert len(find(orphans + OTHERS).groups) == 8


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_changes_nothing(seed):
    names = [f"c/{name}.png" for name in ("x", *SAID[:9], "y", "y_crop1", "y (1)", "z_aug1", "z_aug2")]
    names += [
        f"{part}/c/{n}{mark}.png" for part in ("train", "test") for n in range(3) for mark in ("", "_flip")
    ]
    rows = pd.DataFrame({"id": names + OTHERS, "label": "c", "subject": ""})
    expected = find_named_copies(rows)
    assert len(expected.groups) == 9
    assert find_named_copies(rows.sample(frac=1, random_state=seed)) == expected


@pytest.mark.realdata
def test_published_names_hold_no_copies(real_data):
    published = pd.read_csv(real_data / "cnmc_manifest.csv")["path"].tolist()
    published += [
        p.relative_to(real_data).as_posix() for p in sorted((real_data / "aria" / "Original").rglob("*.jpg"))
    ]
    assert len(published) > 15_000
    found = find(published)
    assert (found.groups, found.untold) == ([], [])
