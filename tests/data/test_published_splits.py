"""Faithful configs divide C-NMC into the numbers that the papers print: on a tree of the real names, or one of its counts."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pandas as pd
import pytest
from lab_images import touch
from sklearn.model_selection import train_test_split

from kerasall.components.example_gen import read_collection_of
from kerasall.components.transform import draw_split
from kerasall.data.cnmc import LABEL_TABLE, read_cnmc
from kerasall.data.dealing import deal_images
from kerasall.data.splits import Split, check_leaks
from kerasall.errors import DataError, LeakError, SettingsError
from kerasall.settings.loading import load_settings

FOLDS = {"fold_0": (2397, 1130), "fold_1": (2418, 1163), "fold_2": (2457, 1096)}
"""Images of all and hem in each fold of the drawn tree; their sums are those of the published set."""


@pytest.fixture(scope="module")
def counted_tree(tmp_path_factory) -> Path:
    """Names of the published form and number: 7,272 and 3,389 training images, and the preliminary part beside them."""
    root = tmp_path_factory.mktemp("counted")
    names = []
    for fold, counts in FOLDS.items():
        for label, count in zip(("all", "hem"), counts, strict=True):
            head = f"training_data/{fold}/{label}/UID_{'H' if label == 'hem' else ''}{fold[-1]}"
            names += [f"{head}{number % 9}_{number}_1_{label}.bmp" for number in range(count)]
    rows = [
        f"UID_{'' if number < 1219 else 'H'}9{number % 20}_{number}_1_{'all' if number < 1219 else 'hem'}.bmp,"
        f"{number + 1}.bmp,{int(number < 1219)}"
        for number in range(1867)
    ]
    names += [f"validation_data/C-NMC_test_prelim_phase_data/{number + 1}.bmp" for number in range(1867)]
    touch(root, *names)
    (root / LABEL_TABLE).write_text("\n".join(["Patient_ID,new_names,labels", *rows, ""]), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def real_tree(real_data, tmp_path_factory) -> Path:
    """The real names, without a byte of the images."""
    root = tmp_path_factory.mktemp("real")
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        touch(root, *[row["path"] for row in csv.DictReader(file)])
    shutil.copy(real_data / LABEL_TABLE, root / "validation_data" / LABEL_TABLE)
    return root


@pytest.fixture(
    scope="module",
    params=["counted_tree", pytest.param("real_tree", marks=pytest.mark.realdata)],
)
def tree(request) -> Path:
    return request.getfixturevalue(request.param)


def split_of(config: str, tree: Path) -> Split:
    """The split that a shipped config draws of a tree."""
    settings = load_settings(config, overrides=[f"data.path={tree}"])
    return draw_split(
        read_collection_of(settings.data, Path()), settings.split, [], settings.seed, fingerprint=""
    )


@pytest.mark.parametrize(
    ("config", "printed"),
    [
        ("optimizer_sweep_faithful", {"train": (5817, 2711), "selection": (1455, 678)}),
        ("deep_features_svm_faithful", {"train": (6544, 3050), "selection": (728, 339)}),
        ("deep_features_svm_augmented_faithful", {"train": (6544, 3050), "selection": (728, 339)}),
        (
            "deep_features_svm_perceptron_faithful",
            {"train": (6546, 3051), "validation": (363, 169), "selection": (363, 169)},
        ),
    ],
)
def test_a_faithful_config_divides_the_training_folds_into_the_printed_numbers(config, printed, tree):
    """Fata: 8,528 and 2,133. Hasanaath: 9,594 and 1,067 = 728 + 339; the perceptron's parts have 532 = 363 + 169."""
    table = split_of(config, tree).table
    found = pd.crosstab(table["part"], table["label"])
    assert {part: tuple(counts) for part, counts in found.iterrows()} == printed
    assert len(table) == 10_661
    sizes = {part: sum(counts) for part, counts in printed.items()}
    if "sweep" in config:
        assert sizes == {"train": 8528, "selection": 2133}
    elif "perceptron" not in config:
        assert sizes == {"train": 9594, "selection": 1067}


def test_the_numbers_are_those_of_scikit_learn(tree):
    """Papers divide by ``train_test_split``; which images it takes for a seed differs, how many of each class does not."""
    examples = read_cnmc(tree, folds=("fold_0", "fold_1", "fold_2")).examples
    for share in (0.05, 0.1, 0.2, 1 / 3):
        _, theirs = train_test_split(
            examples["label"], test_size=share, stratify=examples["label"], random_state=0
        )
        ours = deal_images(
            examples["id"].tolist(), examples["label"].tolist(), {"train": 1 - share, "test": share}, 0
        )
        taken = examples["label"][examples["id"].map(ours) == "test"]
        assert taken.value_counts().to_dict() == theirs.value_counts().to_dict()


def test_order_does_not_matter_and_the_seed_does():
    ids, labels = [f"{n:03}" for n in range(60)], ["ab"[n % 3 == 0] for n in range(60)]
    shares = {"train": 0.7, "validation": 0.1, "selection": 0.2}
    first = deal_images(ids, labels, shares, seed=1)
    assert deal_images(ids[::-1], labels[::-1], shares, seed=1) == first
    assert deal_images(ids, labels, shares, seed=2) != first
    assert pd.Series(first).value_counts().to_dict() == {"train": 42, "selection": 12, "validation": 6}
    with pytest.raises(DataError, match="class 'b' has only 1 images"):
        deal_images(ids[:20], ["a"] * 19 + ["b"], shares, seed=1)


def test_only_the_named_parts_are_read_and_one_that_is_not_there_is_said(counted_tree, tmp_path):
    some = read_cnmc(counted_tree, folds=("fold_0", "prelim"))
    assert some.examples["fold"].value_counts().to_dict() == {"fold_0": 3527, "prelim": 1867}
    assert "The parts fold_0, prelim alone are read (data.folds)" in some.notes[0]
    first = touch(tmp_path, "fold_0/all/UID_1_1_1_all.bmp", "prelim/1.bmp")
    # Nor is the label table of a part that is passed over missed.
    assert read_cnmc(first, folds=("fold_0",)).read_warnings == (
        "the part fold_0 has no images of hem: it cannot be held out by itself",
    )
    with pytest.raises(
        DataError, match=r"data.folds must name parts .* but fold_2 is none of \['fold_0', 'prelim'\]"
    ):
        read_cnmc(first, folds=("fold_0", "fold_2"))


@pytest.mark.parametrize("source", ["folder", "auto", "synthetic"])
def test_parts_of_cnmc_are_refused_for_other_data(tmp_path, source):
    touch(tmp_path, *[f"{label}/{number}.png" for label in "ab" for number in range(3)])
    overrides = [f"data.path={tmp_path}", f"data.source={source}", "data.folds=[x]"]
    settings = load_settings("aria_mobilenet", overrides=overrides)
    with pytest.raises(SettingsError, match=r"data\.folds names published parts of C-NMC"):
        read_collection_of(settings.data, tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (["split.subjects={validation: ['20', '5', H13]}"], "group 1.15.16.17.20.21 in train and validation"),
        (
            ["split.subjects={validation: ['51', '5', H13]}"],
            "all images of 51 stand in a published part, or are",
        ),
        (
            ["split.subjects={validation: ['51', '5', H13]}", "split.joined=keep"],
            r"group 51\+55\+75\+78 in train",
        ),
        (["split.subjects={validation: ['2', '55', H13]}"], "all images of 55 stand in a published part"),
        (["split.subjects={validation: ['02', '5', H13]}"], "no image of 02"),
        (["split.subjects={validation: ['2', '5', h13]}"], "no image of h13"),
        (["split.subjects={validation: ['2', '5']}"], r"\['hem'\] do not stand in 'validation'"),
        (["data.folds=[fold_0, prelim]", "split.subjects={validation: ['2', H13]}"], "no image of"),
    ],
)
def test_what_would_divide_a_patient_or_score_nobody_is_refused(changes, fault, real_tree):
    settings = load_settings("weighted_ensemble", overrides=[f"data.path={real_tree}", *changes])
    with pytest.raises((DataError, LeakError), match=fault):
        check_leaks(
            draw_split(read_collection_of(settings.data, Path()), settings.split, [], settings.seed, "")
        )
