"""C-NMC in its public layouts; with the real names the published counts come out."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from itertools import combinations
from math import inf
from pathlib import Path

import pytest
from lab_images import touch

from kerasall.components.transform import draw_split
from kerasall.data.cnmc import LABEL_TABLE, parse_cell_name, read_cnmc
from kerasall.data.cnmc_subjects import JOINED_IDS, join_subjects
from kerasall.data.splits import check_leaks
from kerasall.data.stratification import official_fold_split
from kerasall.errors import DataError
from kerasall.settings.loading import load_settings

TRAINING = (
    "fold_0/all/UID_1_1_1_all.bmp",
    "fold_0/hem/UID_H1_1_1_hem.bmp",
    "fold_1/all/UID_2_1_1_all.bmp",
    "fold_2/hem/UID_h3_4_1_hem.bmp",
    "fold_2/hem/UID_h3_4_2_hem.bmp",
)
PRELIMINARY = {"1.bmp": "UID_57_29_1_all.bmp", "2.bmp": "UID_H25_1_2_hem.bmp"}
PRELIMINARY_FOLDER = "validation_data/C-NMC_test_prelim_phase_data"


def _write_table(path: Path, rows=None, head="Patient_ID,new_names,labels") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    default = [f"{cell},{new},{int(cell.endswith('all.bmp'))}" for new, cell in PRELIMINARY.items()]
    path.write_text("\n".join([head, *(default if rows is None else rows)]) + "\n", encoding="utf-8")
    return path


def _warnings(collection) -> list[str]:
    """Without those of folds that lack a class, which these few files leave."""
    return [text for text in collection.read_warnings if "cannot be held out by itself" not in text]


def _whole(root: Path, training="training_data", preliminary=PRELIMINARY_FOLDER) -> Path:
    touch(root, *[f"{training}/{name}" for name in TRAINING])
    return touch(root, *[f"{preliminary}/{name}" for name in PRELIMINARY])


@pytest.fixture(scope="module")
def real_tree(real_data, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cnmc") / "C-NMC_Leukemia"
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        names = [row["path"] for row in csv.DictReader(file)]
    for folder in {str(Path(name).parent) for name in names}:
        (root / folder).mkdir(parents=True)
    for name in names:
        (root / name).touch()
    shutil.copy(real_data / LABEL_TABLE, root / "validation_data" / LABEL_TABLE)
    return root


def test_real_names_give_the_published_counts(real_tree):
    collection = read_cnmc(real_tree)
    examples = collection.examples
    training, preliminary = (examples[(examples["fold"] == "prelim") == part] for part in (False, True))
    assert len(training) == 10_661
    assert training["label"].value_counts().to_dict() == {"all": 7272, "hem": 3389}
    assert training.groupby("label")["subject"].nunique().to_dict() == {"all": 47, "hem": 26}
    assert training["subject"].nunique() == 73
    assert training["fold"].value_counts().to_dict() == {"fold_0": 3527, "fold_1": 3581, "fold_2": 3553}
    assert (training["subject"] == "H3").sum() == 36
    assert training.groupby("subject")["fold"].nunique().max() == 1
    assert len(preliminary) == 1867
    assert preliminary["label"].value_counts().to_dict() == {"all": 1219, "hem": 648}
    assert preliminary["subject"].nunique() == 28
    assert not set(preliminary["subject"]) & set(training["subject"])
    (warning,) = _warnings(collection)
    assert "2586 images of the final test were left out" in warning
    assert (collection.labels, collection.malignant, collection.subject_kind) == (
        ("all", "hem"),
        ("all",),
        "subject",
    )


def test_on_the_real_names_ids_are_joined_before_an_image_is_read(real_tree):
    collection = read_cnmc(real_tree)
    assert "10,661 of 10,661 training images and 1,867 of 1,867 preliminary" in collection.notes[0]
    assert collection.joined_subjects == (
        ("1", "15", "16", "17", "20", "21"), ("43", "44"), ("51", "55", "75", "78"), ("H2", "H4", "H5", "H6", "H7"),
        ("H3", "H10"), ("H14", "H24"),
    )  # fmt: skip
    assert "51 = 55 = 75 = 78" in collection.notes[1]
    given = {"joined": collection.joined_subjects, "fixed": {"test": ["prelim"]}}
    split = official_fold_split(collection.examples, **given)
    counts = split.table["part"].value_counts()
    # Training ids 51, 75 and 78 have 757, 99 and 218 images: 55 is in the preliminary part.
    assert (counts["dropped"], counts["test"], counts.sum()) == (757 + 99 + 218, 1867, 12_528)
    subject = split.table.set_index("id")["subject"]
    assert set(subject.loc[list(split.dropped["fold_1"])]) == {
        *["1", "15", "17", "20", "21", "43", "H24", "H3"]
    }
    assert {"51", "75", "78"} == set(split.table["subject"][split.table["part"] == "dropped"])
    kept = official_fold_split(collection.examples, keep_joined=True, **given)
    assert (kept.table["part"] == "dropped").sum() == 0


def test_joined_ids_are_those_of_the_table_and_join_through_ids_that_are_absent():
    pairs = JOINED_IDS
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == len(pairs) == 18
    for pair in pairs:
        many = "high" if pair.near_duplicate_groups >= 5 else "likely"
        assert pair.certainty == ("certain" if pair.identical_groups else many)
        assert pair.first.startswith("H") == pair.second.startswith("H")  # none crosses the classes
    assert join_subjects({"75", "78", "2"}) == (("75", "78"),)
    assert join_subjects({"75", "2"}) == ()


def test_an_id_that_is_one_patient_with_absent_ones_is_told(tmp_path):
    """A model that was trained on 51 has seen the patient of 55, though no file here says so."""
    touch(tmp_path, "fold_0/all/UID_55_1_1_all.bmp", "fold_0/hem/UID_H13_1_1_hem.bmp")
    note = read_cnmc(tmp_path).notes[1]
    assert "Ids that are not here are the same patients: 55 with 51, 75, 78." in note
    touch(tmp_path, *(f"fold_0/all/UID_{name}_1_1_all.bmp" for name in ("51", "75", "78")))
    assert "not here" not in read_cnmc(tmp_path).notes[1]


def test_identical_files_under_two_ids_are_those_of_the_published_hashes(real_data):
    holders: dict[str, set[str]] = {}
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if known := parse_cell_name(row["path"]):
                holders.setdefault(row["sha256"], set()).add(known[0])
    found = Counter(frozenset(pair) for ids in holders.values() for pair in combinations(ids, 2))
    listed = {frozenset((pair.first, pair.second)): pair.identical_groups for pair in JOINED_IDS}
    assert found == {pair: count for pair, count in listed.items() if count}


def test_a_fold_that_lacks_a_class_and_rows_of_the_label_table_without_files_are_named(tmp_path):
    root = touch(tmp_path, *TRAINING, f"{PRELIMINARY_FOLDER}/1.bmp")
    _write_table(root / LABEL_TABLE)
    warnings = read_cnmc(root).read_warnings
    assert [w for w in warnings if "cannot be held out by itself" in w] == [
        "the part fold_1 has no images of hem: it cannot be held out by itself",
        "the part fold_2 has no images of all: it cannot be held out by itself",
        "the part prelim has no images of hem: it cannot be held out by itself",
    ]
    (unfilled,) = [w for w in warnings if "not here" in w]
    assert unfilled.startswith(f"1 rows of {root / LABEL_TABLE} name images")
    assert "2" in unfilled


def test_the_published_hashes_bear_out_what_the_notes_say(real_data):
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    training, preliminary = (
        [(row["sha256"], row["path"]) for row in rows if part in row["path"]] for part in ("fold_", "prelim")
    )
    assert not {digest for digest, _ in training} & {digest for digest, _ in preliminary}
    holders: dict[str, set[str]] = {}
    folds: dict[str, str] = {}
    for digest, name in training:
        subject = parse_cell_name(name)[0]
        holders.setdefault(digest, set()).add(subject)
        folds[subject] = name.split("/")[-3]
    groups = [{subject} for subject in folds]
    for joined in holders.values():
        touched = [group for group in groups if group & joined]
        groups = [group for group in groups if not group & joined] + [set.union(*touched)]
    spanning = [group for group in groups if len({folds[subject] for subject in group}) > 1]
    assert (len(folds), len(groups), len(spanning)) == (73, 66, 4)
    copies = Counter(digest for digest, _ in training)
    assert sum(count > 1 for count in copies.values()) == 104


@pytest.mark.parametrize("config", ["weighted_ensemble_faithful", "weighted_ensemble_450_faithful"])
def test_the_faithful_weighted_ensemble_has_the_printed_division_with_patients_whole(
    real_data, real_tree, config
):
    """Table 3 of Mondal et al.: images and subjects of each class; identical files and joined ids on one side."""
    settings, cells = load_settings(config), read_cnmc(real_tree)
    copies: dict[str, list[str]] = {}
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            copies.setdefault(row["sha256"], []).append(row["path"])
    clusters = [names for names in copies.values() if len(names) > 1]
    drawn = draw_split(cells, settings.split, clusters, settings.seed, "")
    found = drawn.table.groupby(["part", "label"]).agg(ids=("subject", "nunique"), images=("id", "size"))
    assert {key: tuple(row) for key, row in zip(found.index, found.to_numpy().tolist(), strict=True)} == {
        ("train", "all"): (32, 5822), ("train", "hem"): (19, 2703),
        ("validation", "all"): (15, 1450), ("validation", "hem"): (7, 686),
        ("selection", "all"): (13, 1219), ("selection", "hem"): (15, 648),
    }  # fmt: skip
    apart = replace(drawn, table=drawn.table[drawn.table["part"] != "selection"])
    assert check_leaks(apart, clusters) == []
    joined = drawn.table[drawn.table["group"].isin(drawn.table["group"][drawn.table["part"] == "selection"])]
    beside = joined[joined["part"] == "train"]
    assert (set(beside["subject"]), len(beside)) == ({"51", "75", "78"}, 1074)  # as the config says


@pytest.mark.parametrize(
    ("label", "ids", "images", "ways"), [("all", 15, 1450, 134_150), ("hem", 7, 686, 29)]
)
def test_the_stated_division_is_the_most_even_of_all_with_the_printed_counts(
    real_data, label, ids, images, ways
):
    """As ``docs/cnmc.md`` says: of all choices of whole patients the one with the least sum of squared images a patient."""
    with open(real_data / "cnmc_manifest.csv", encoding="utf-8", newline="") as file:
        named = [parse_cell_name(row["path"]) for row in csv.DictReader(file) if "fold_" in row["path"]]
    counts = Counter(subject for subject, own in named if own == label)
    joined = join_subjects(counts)
    patients = [*joined, *((name,) for name in counts if not any(name in group for group in joined))]
    # Ids and images so far -> how many choices, and the least sum of squares with its last patient and those before.
    found = {(0, 0): (1, 0, ())}
    for patient in patients:
        size = sum(counts[name] for name in patient)
        for (taken, held), (number, squares, chosen) in list(found.items()):
            place = taken + len(patient), held + size
            if place[0] <= ids and place[1] <= images:
                others, least, before = found.get(place, (0, inf, ()))
                mine = squares + size * size
                best = (mine, (patient, chosen)) if mine < least else (least, before)
                found[place] = (others + number, *best)
    number, _, chosen = found[ids, images]
    names = set()
    while chosen:
        patient, chosen = chosen
        names.update(patient)
    stated = load_settings("weighted_ensemble_faithful").split.subjects["validation"]
    assert (number, names) == (ways, set(stated) & set(counts))


@pytest.mark.parametrize(
    "prefix", ["", "training_data/", "C-NMC_Leukemia/training_data/", "C-NMC_training_data/"]
)
def test_public_layouts_of_the_training_folds(tmp_path, prefix):
    touch(tmp_path, *[prefix + name for name in TRAINING])
    collection = read_cnmc(tmp_path)
    examples = collection.examples
    assert list(examples["id"]) == sorted(prefix + name for name in TRAINING)
    assert list(examples["fold"]) == ["fold_0", "fold_0", "fold_1", "fold_2", "fold_2"]
    assert list(examples["label"]) == ["all", "hem", "all", "hem", "hem"]
    assert list(examples["subject"]) == ["1", "H1", "2", "H3", "H3"]
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in examples["path"])
    assert _warnings(collection) == []
    assert len(collection.notes) == 2


@pytest.mark.parametrize(("below", "fold"), [("fold_2", "fold_2"), ("fold_2/hem", "fold_2")])
def test_a_part_of_the_tree_keeps_its_fold(tmp_path, below, fold):
    touch(tmp_path, *TRAINING)
    examples = read_cnmc(tmp_path / below).examples
    assert set(examples["fold"]) == {fold}
    assert set(examples["label"]) == {"hem"}


def test_real_cells_in_a_flat_folder(real_data):
    examples = read_cnmc(real_data / "cnmc_sample").examples
    assert examples["label"].value_counts().to_dict() == {"hem": 6, "all": 4}
    assert set(examples["subject"]) == {"1", "2", "13", "H1", "H2", "H3", "H6", "H10"}
    assert set(examples["fold"]) == {""}


@pytest.mark.parametrize(
    "table",
    [
        f"validation_data/{LABEL_TABLE}",
        f"{PRELIMINARY_FOLDER}/{LABEL_TABLE}",
        LABEL_TABLE,
        f"../{LABEL_TABLE}",
    ],
)
def test_label_table_is_found_below_and_beside(tmp_path, table):
    root = _whole(tmp_path / "cnmc")
    _write_table(root / table)
    collection = read_cnmc(root)
    preliminary = collection.examples.query("fold == 'prelim'")
    assert list(preliminary["subject"]) == ["57", "H25"]
    assert list(preliminary["label"]) == ["all", "hem"]
    assert _warnings(collection) == []
    assert len(collection.notes) == 2


@pytest.mark.parametrize("inner", ["", "C-NMC_test_prelim_phase_data/"])
@pytest.mark.parametrize("below", ["", "PKG - C-NMC 2019", "PKG - C-NMC 2019/C-NMC_training_data/.."])
def test_the_archive_s_package_is_read_as_it_unpacks(tmp_path, inner, below):
    """Folds, flat preliminary and final parts, the table among the images, what macOS leaves in archives; any folder above."""
    package = tmp_path / "PKG - C-NMC 2019"
    preliminary = package / "C-NMC_test_prelim_phase_data" / inner
    touch(package, *(f"C-NMC_training_data/{name}" for name in TRAINING), "C-NMC_training_data/.DS_Store")
    touch(preliminary, *PRELIMINARY, "._1.bmp")
    touch(tmp_path / "__MACOSX" / "PKG - C-NMC 2019", "C-NMC_training_data/fold_0/all/._UID_1_1_1_all.bmp")
    touch(package / "C-NMC_test_final_phase_data", "1.bmp")
    _write_table(preliminary / LABEL_TABLE)
    read = read_cnmc(tmp_path / below)
    assert sorted(read.examples["fold"]) == [
        "fold_0",
        "fold_0",
        "fold_1",
        "fold_2",
        "fold_2",
        "prelim",
        "prelim",
    ]
    assert ["1 images of the final test were left out" in each for each in _warnings(read)] == [True]


def test_label_table_can_be_passed_even_for_a_flat_folder(tmp_path):
    touch(tmp_path / "images", *PRELIMINARY)
    table = _write_table(tmp_path / "elsewhere" / "mine.csv")
    examples = read_cnmc(tmp_path / "images", label_csv=table).examples
    assert list(examples["fold"]) == ["prelim", "prelim"]
    with pytest.raises(DataError, match=r"none\.csv must be C-NMC's label table"):
        read_cnmc(tmp_path / "images", label_csv=tmp_path / "none.csv")


def test_preliminary_folder_given_directly_finds_the_table_beside(tmp_path):
    _whole(tmp_path)
    _write_table(tmp_path / "validation_data" / LABEL_TABLE)
    examples = read_cnmc(tmp_path / PRELIMINARY_FOLDER).examples
    assert list(examples["id"]) == ["1.bmp", "2.bmp"]


def test_preliminary_images_without_table_are_left_out_with_the_cure(tmp_path):
    collection = read_cnmc(_whole(tmp_path))
    assert len(collection.examples) == len(TRAINING)
    (warning,) = _warnings(collection)
    assert "2 images of the preliminary test" in warning
    assert f"put {LABEL_TABLE} into {tmp_path}" in warning
    with pytest.raises(DataError, match="without their label table"):
        read_cnmc(tmp_path / PRELIMINARY_FOLDER)


def test_preliminary_images_that_the_table_lacks_are_named(tmp_path):
    root = touch(_whole(tmp_path), f"{PRELIMINARY_FOLDER}/3.bmp")
    _write_table(root / LABEL_TABLE)
    (warning,) = _warnings(read_cnmc(root))
    assert f"{PRELIMINARY_FOLDER}/3.bmp" in warning


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        (["UID_57_29_1_all.bmp,1.bmp,0"], "Patient_ID,new_names,labels", "line 2"),
        (
            ["UID_57_29_1_all.bmp,1.bmp,1", "UID_57_29_2_all.bmp,1.bmp,1"],
            "Patient_ID,new_names,labels",
            "line 3",
        ),
        (["UID_57_29_1_all.bmp,1.bmp"], "Patient_ID,new_names,labels", "line 2"),
        (["x,UID_57_29_1_all.bmp,1.bmp,1"], "Patient_ID,new_names,labels", "line 2"),
        (["57,1.bmp,1"], "Patient_ID,new_names,labels", "line 2"),
        (["UID_57_29_1_all.bmp,1.bmp,yes"], "Patient_ID,new_names,labels", "line 2"),
        (["1.bmp,1"], "new_names,labels", "lacks"),
    ],
)
def test_a_label_table_that_contradicts_itself_is_refused(tmp_path, rows, head, message):
    root = _whole(tmp_path)
    _write_table(root / LABEL_TABLE, rows, head)
    with pytest.raises(DataError, match=message):
        read_cnmc(root)


def test_mislabelled_files_are_named_and_give_their_subject_two_labels(tmp_path):
    wrong = "fold_0/hem/UID_1_1_2_all.bmp"
    collection = read_cnmc(touch(tmp_path, *TRAINING, wrong))
    (warning,) = _warnings(collection)
    assert warning.startswith("mislabelled")
    assert wrong in warning
    assert set(collection.examples.query("subject == '1'")["label"]) == {"all", "hem"}


def test_names_that_cannot_be_read_are_left_out_and_named(tmp_path):
    odd = ["fold_0/all/cell.bmp", "fold_0/all/UID_1_1_1_all (1).bmp", "fold_1/all/UID_X_1_1_all.bmp"]
    collection = read_cnmc(touch(tmp_path, *TRAINING, *odd, "readme.txt", ".hidden/UID_9_1_1_all.bmp"))
    assert len(collection.examples) == len(TRAINING)
    names, others = _warnings(collection)
    assert all(name in names for name in odd)
    assert "readme.txt" in others


def test_a_cell_name_in_two_folders_and_a_shared_subject_are_named(tmp_path):
    root = touch(_whole(tmp_path), "training_data/fold_1/all/UID_1_1_1_all.bmp")
    _write_table(root / LABEL_TABLE, ["UID_2_9_9_all.bmp,1.bmp,1", "UID_H25_1_2_hem.bmp,2.bmp,0"])
    twice, shared = _warnings(read_cnmc(root))
    assert "uid_1_1_1_all" in twice
    assert shared.endswith("preliminary test: 2")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images"),
        (["a/1.bmp", "b/2.bmp"], "2 images with other names"),
        (["testing_data/C-NMC_test_final_phase_data/1.bmp"], "only 1 images of the final test"),
        (["C-NMC_training_data/fold_0.zip"], "unpack C-NMC_training_data/fold_0.zip there"),
    ],
)
def test_a_folder_without_cells_says_what_it_holds(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read_cnmc(touch(tmp_path, *names))


def test_two_readings_are_equal(tmp_path):
    _write_table(_whole(tmp_path) / LABEL_TABLE)
    first, second = read_cnmc(tmp_path), read_cnmc(str(tmp_path) + "/.")
    assert first.examples.equals(second.examples)
    assert list(first.examples["id"]) == sorted(first.examples["id"])
