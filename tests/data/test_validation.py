"""What `kerasall check` finds, and the real C-NMC listing from names to splits."""

from __future__ import annotations

import json
import struct

import cv2
import numpy as np
import pandas as pd
import pytest

from kerasall.data.confounders import find_confounders
from kerasall.data.duplicates import NearDuplicateSettings, exact_duplicates, search_duplicates
from kerasall.data.examples import Collection, make_examples
from kerasall.data.sources import read_source
from kerasall.data.splits import check_leaks
from kerasall.data.statistics import (
    Schema,
    infer_schema,
    leave_out_unreadable,
    scan_images,
    summarize,
)
from kerasall.data.stratification import fold_split, holdout_split, official_fold_split
from kerasall.data.validation import Examined, ValidationSettings
from kerasall.errors import ArtifactError, DataError


def _picture(seed, side=48):
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of six readable images each, all different."""
    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), _picture(number))
    return tmp_path


def _collect(folder, subject=lambda name: "", kind="none", labels=("a", "b")):
    rows = [
        {
            "id": f"{p.parent.name}/{p.name}",
            "path": str(p),
            "label": p.parent.name,
            "subject": subject(p.stem),
        }
        for p in sorted(folder.glob("*/*"))
    ]
    return Collection("folder", folder, make_examples(rows), labels, subject_kind=kind)


def check(collection, *, near=None, schema=None, settings=None):
    """The JSON object of ``kerasall check``."""
    scan = scan_images(collection.examples)
    found = search_duplicates(collection.examples, scan, near or NearDuplicateSettings())
    return Examined(collection, scan, found, schema, settings or ValidationSettings()).found


def _codes(result, kind="errors"):
    return {anomaly["code"]: anomaly for anomaly in result[kind]}


def test_good_data_have_no_errors_and_the_object_is_json(folder):
    result = check(_collect(folder), settings=ValidationSettings(few_images=1))
    assert result["errors"] == []
    assert result["warnings"] == []
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["images"] == result["readable"] == 12
    assert result["classes"] == {"a": 6, "b": 6}
    assert result["split_groups"] == 12
    for key in (
        "subjects",
        "subjects_per_class",
        "folds",
        "cross_subject_duplicate_groups",
        "near_duplicate_groups",
    ):
        assert key in result


def test_bad_files_are_named_with_reasons(folder):
    whole = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "nothing.bmp").write_bytes(b"")
    (folder / "b" / "words.jpg").write_text("this is no image")
    sizes = struct.pack("<IiiHHIIiiII", 40, 20000, 20000, 1, 24, *[0] * 6)
    (folder / "b" / "vast.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + sizes + bytes(1000))
    anomaly = _codes(check(_collect(folder)))["unreadable"]
    assert anomaly["files"] == ["a/cut.png", "b/nothing.bmp", "b/vast.bmp", "b/words.jpg"]
    assert anomaly["count"] == 4
    for words in ("a/cut.png", "0 bytes", "20,000 x 20,000", "unknown kind"):
        assert words in anomaly["message"]


def test_many_bad_files_are_counted_and_some_listed(folder):
    for number in range(30):
        (folder / "a" / f"bad{number:02d}.png").write_bytes(b"")
    anomaly = _codes(check(_collect(folder)))["unreadable"]
    assert anomaly["count"] == 30
    assert len(anomaly["files"]) == 20
    assert "and 25 more" in anomaly["message"]


def test_subject_with_two_labels_is_an_error_or_by_setting_a_warning(folder):
    collection = _collect(folder, subject=lambda stem: f"p{int(stem) // 4}", kind="subject")
    anomaly = _codes(check(collection))["two_label_subjects"]
    assert anomaly["count"] == 3
    assert "p0 (a, b)" in anomaly["message"]
    lowered = check(collection, settings=ValidationSettings(two_label_subjects="warning"))
    assert "two_label_subjects" in _codes(lowered, "warnings")
    assert lowered["errors"] == []
    assert "two_label_subjects" not in _codes(check(_collect(folder)))


def test_duplicates_are_counted_and_across_labels_an_error(folder):
    collection_subject = {"subject": lambda stem: f"p{stem[:2]}", "kind": "subject"}
    (folder / "a" / "20.png").write_bytes((folder / "a" / "00.png").read_bytes())
    result = check(_collect(folder, **collection_subject))
    assert result["exact_duplicate_groups"] == result["cross_subject_duplicate_groups"] == 1
    assert result["split_groups"] == 12
    assert result["errors"] == []
    assert "a/00.png = a/20.png" in _codes(result, "warnings")["cross_subject_exact_duplicates"]["message"]
    (folder / "b" / "21.png").write_bytes((folder / "a" / "02.png").read_bytes())
    wrong = _codes(check(_collect(folder, **collection_subject)))["exact_duplicates_two_labels"]
    assert wrong["files"] == ["a/02.png", "b/21.png"]


def test_near_duplicates_across_labels_are_a_warning(folder):
    cv2.imwrite(str(folder / "b" / "turned.png"), np.rot90(_picture(0)))
    result = check(_collect(folder))
    assert result["near_duplicate_groups"] == 1
    assert "a/00.png = b/turned.png" in _codes(result, "warnings")["near_duplicates_two_labels"]["message"]


def test_near_duplicates_that_join_too_much_are_an_error_naming_the_threshold(folder):
    for turn in range(1, 4):
        cv2.imwrite(str(folder / "a" / f"9{turn}.png"), np.rot90(_picture(0), turn))
    result = check(_collect(folder, subject=lambda stem: f"p{stem}", kind="subject"))
    assert "near_duplicates.confirm" in _codes(result)["near_duplicates_join_too_much"]["message"]
    off = check(
        _collect(folder, lambda stem: f"p{stem}", "subject"), near=NearDuplicateSettings(enabled=False)
    )
    assert off["errors"] == []


def test_sizes_and_constant_images_are_warnings(folder):
    cv2.imwrite(str(folder / "a" / "small.png"), _picture(99, side=10))
    cv2.imwrite(str(folder / "b" / "black.png"), np.zeros((48, 48, 3), np.uint8))
    warnings = _codes(check(_collect(folder)), "warnings")
    assert warnings["mixed_sizes"]["files"] == warnings["tiny_images"]["files"] == ["a/small.png"]
    assert warnings["constant_images"]["files"] == ["b/black.png"]


def _write(folder, label, count, make, suffix=".png", first=0):
    for number in range(first, first + count):
        path = folder / label / f"{label}{number:03d}{suffix}"
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), make(number))


def _grey(number):
    return np.repeat(_picture(number)[..., :1], 3, axis=2)


@pytest.mark.parametrize(
    ("code", "of_a", "of_b", "words"),
    [
        ("format_tells_class", (_picture, ".png"), (_picture, ".jpg"), "a 12 of 12 PNG, b 12 of 12 JPEG"),
        (
            "size_tells_class",
            (_picture, ".png"),
            (lambda n: _picture(n, 60), ".png"),
            "a 12 of 12 48x48, b 12 of 12 60x60",
        ),
        ("colour_tells_class", (_picture, ".png"), (_grey, ".png"), "a 12 of 12 coloured, b 12 of 12 grey"),
        ("colour_tells_class", (_picture, ".png"), (lambda n: _grey(n)[..., 0], ".png"), "b 12 of 12 grey"),
        (
            "size_tells_class",
            (lambda n: _picture(n, 40 + n), ".png"),
            (lambda n: _picture(n, 110 + n), ".png"),
            "b 12 of 12 181 to 256 pixels",
        ),
    ],
)
def test_an_attribute_of_the_files_that_tells_the_class_is_a_warning(tmp_path, code, of_a, of_b, words):
    _write(tmp_path, "a", 12, *of_a)
    _write(tmp_path, "b", 12, *of_b, first=100)
    found = [each for each in check(_collect(tmp_path))["warnings"] if each["code"].endswith("_tells_class")]
    assert [each["code"] for each in found] == [code]
    assert "balanced accuracy of 100%" in found[0]["message"]
    assert words in found[0]["message"]


ALIKE = {"quality": 0, "width": 48, "height": 48, "mode": "RGB", "mean_r": 1.0, "mean_g": 2.0, "mean_b": 3.0}


@pytest.mark.parametrize(
    ("formats", "subject", "told"),
    [
        # Formats of 24 images: one a letter, the first twelve of class a.
        ("PPPPPPPPPPPPJJJJJJJJJJJJ", lambda number: "", True),
        ("PPPPPPPPPPPJJJJJJJJJJJJP", lambda number: "", True),
        ("PPPPPPJJJJJJPPPPPPJJJJJJ", lambda number: "", False),
        ("PPPPPPPJJJJJJJJJJJJJJJJJ", lambda number: "", True),
        ("PPPPPJJJJJJJJJJJJJJJJJJJ", lambda number: "", False),
        # Of two patients a class this says nothing yet, of four it does.
        ("PPPPPPPPPPPPJJJJJJJJJJJJ", lambda number: f"p{number // 6}", False),
        ("PPPPPPPPPPPPJJJJJJJJJJJJ", lambda number: f"p{number // 3}", True),
        # Most images of a class are PNG, but of one patient alone.
        ("PPPPPPPPPJJJJJJJJJJJJJJJ", lambda number: "big" if number < 9 else f"p{number}", False),
    ],
)
def test_it_is_told_by_groups_and_small_sets_do_not_cry_wolf(formats, subject, told):
    table = pd.DataFrame({"format": list(formats), "group": [subject(n) or str(n) for n in range(24)]})
    table = table.assign(label=["a"] * 12 + ["b"] * 12, **ALIKE)
    found = find_confounders(table, ["a", "b"])
    assert [each.attribute for each in found] == (["format"] if told else [])
    assert find_confounders(table.sample(frac=1, random_state=0), ["a", "b"]) == found


def test_one_class_among_several_is_told_from_the_rest():
    table = pd.DataFrame({"label": list("abcd") * 12, "format": ["PNG", "PNG", "JPEG", "PNG"] * 12})
    table = table.assign(group=range(48), **ALIKE)
    (found,) = find_confounders(table, list("abcd"))
    assert (found.label, found.value) == ("c", 1.0)


@pytest.mark.parametrize(("qualities", "told"), [((95, 75), ["quality"]), ((95, 94), []), ((75, 75), [])])
def test_the_quality_of_jpeg_files_tells_too(tmp_path, qualities, told):
    for label, quality in zip("ab", qualities, strict=True):
        for number in range(12):
            path = tmp_path / label / f"{label}{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(
                str(path), _picture(number + 100 * (label == "b")), [cv2.IMWRITE_JPEG_QUALITY, quality]
            )
    warnings = _codes(check(_collect(tmp_path)), "warnings")
    assert [code for code in warnings if code.endswith("_tells_class")] == [
        f"{each}_tells_class" for each in told
    ]


def test_copies_by_name_join_groups_and_are_a_warning(folder):
    cv2.imwrite(str(folder / "a" / "00_rot15.png"), _picture(50))
    cv2.imwrite(str(folder / "b" / "00_rot15_2.png"), _picture(51))
    result = check(_collect(folder))
    assert result["named_copy_groups"] == 1
    assert result["split_groups"] == 13
    warnings = _codes(result, "warnings")
    assert "a/00.png = a/00_rot15.png" in warnings["named_copies"]["message"]
    assert warnings["named_copies_untold"]["files"] == ["b/00_rot15_2.png"]


def _left_out(collection):
    scan = scan_images(collection.examples)
    kept, out = leave_out_unreadable(collection, scan)
    found = search_duplicates(kept.examples, scan, NearDuplicateSettings())
    return Examined(kept, scan, found, settings=ValidationSettings(few_images=1), left_out=out).found


def test_unreadable_files_are_left_out_and_counted(folder):
    for name in ("a/20.png", "a/22.png", "b/21.png"):
        (folder / name).write_bytes(b"nothing")
    result = _left_out(_collect(folder))
    assert result["errors"] == []
    assert (result["images"], result["left_out"], result["classes"]) == (12, 3, {"a": 6, "b": 6})
    warning = _codes(result, "warnings")["unreadable_left_out"]
    assert warning["files"] == ["a/20.png", "a/22.png", "b/21.png"]
    assert "(a 2, b 1)" in warning["message"]
    assert "3 of 15 files could not be read and were left out: a 2 of 8, b 1 of 7." in result["notes"]


def test_a_class_or_a_patient_that_is_lost_whole_is_an_error(folder):
    (folder / "a" / "00.png").write_bytes(b"nothing")
    lost = _codes(_left_out(_collect(folder, lambda stem: f"p{stem}", "subject")))["subject_unreadable"]
    assert "of p00 none can" in lost["message"]
    assert "subject_unreadable" not in _codes(
        _left_out(_collect(folder, lambda stem: f"p{int(stem) % 2}", "subject"))
    )
    for path in (folder / "b").glob("*"):
        path.write_bytes(b"nothing")
    assert "['b'] have none" in _codes(_left_out(_collect(folder)))["class_empty"]["message"]
    for path in (folder / "a").glob("*"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of 12 can"):
        _left_out(_collect(folder))


def test_classes_that_are_empty_single_or_too_small_for_the_folds(folder):
    assert "class_empty" in _codes(check(_collect(folder, labels=("a", "b", "c"))))
    for path in (folder / "b").glob("*"):
        path.unlink()
    assert "one_class" in _codes(check(_collect(folder, labels=("a",))))
    subjects = _collect(folder, subject=lambda stem: str(int(stem) % 3), kind="subject", labels=("a",))
    too_few = _codes(check(subjects, settings=ValidationSettings(folds=5)))["too_few_groups"]
    assert "'a' has 3 groups for 5 folds" in too_few["message"]


def test_schema_holds_new_data_to_what_was_seen(folder, tmp_path):
    collection = _collect(folder)
    scan = scan_images(collection.examples)
    schema = infer_schema(summarize(collection, scan))
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    assert Examined(collection, scan, schema=schema).found["errors"] == []
    cv2.imwrite(str(folder / "a" / "large.png"), _picture(5, side=60))
    cv2.imwrite(str(folder / "a" / "other.bmp"), _picture(6))
    (folder / "b").rename(folder / "B")
    errors = _codes(check(_collect(folder, labels=("B", "a")), schema=schema))
    assert errors["size_not_in_schema"]["files"] == ["a/large.png"]
    assert errors["format_not_in_schema"]["files"] == ["a/other.bmp"]
    assert "['b'] are missing and ['B'] are new" in errors["classes_differ"]["message"]
    with pytest.raises(ArtifactError, match="schema must have the keys"):
        Schema.from_json({"labels": ["a"]})


def _write_bmp(path, sha256):
    """A 4 x 4 24-bit BMP whose pixels are those of the hash: equal hashes give equal bytes."""
    pixels = bytes.fromhex(sha256) + bytes.fromhex(sha256)[:16]
    header = struct.pack("<IHHIIiiHHIIiiII", 54 + 48, 0, 0, 54, 40, 4, 4, 1, 24, 0, 48, 2835, 2835, 0, 0)
    path.write_bytes(b"BM" + header + pixels)


@pytest.fixture(scope="module")
def cnmc(real_data, tmp_path_factory):
    """The whole C-NMC training set by its real names, with tiny images that repeat as the real ones do."""
    root = tmp_path_factory.mktemp("C-NMC_Leukemia")
    listing = pd.read_csv(real_data / "cnmc_manifest.csv")
    listing = listing[listing["path"].str.startswith("training_data/")]
    for folder in {path.rsplit("/", 1)[0] for path in listing["path"]}:
        (root / folder).mkdir(parents=True)
    for path, sha256 in zip(listing["path"], listing["sha256"], strict=True):
        _write_bmp(root / path, sha256)
    return read_source("cnmc", root)


@pytest.fixture(scope="module")
def cnmc_clusters(cnmc):
    return exact_duplicates(scan_images(cnmc.examples))


@pytest.mark.realdata
def test_cnmc_listing_checks_as_published(cnmc):
    result = check(cnmc)
    assert result["errors"] == []
    assert result["images"] == result["readable"] == 10_661
    assert result["classes"] == {"all": 7_272, "hem": 3_389}
    assert result["subjects"] == 73
    assert result["subjects_per_class"] == {"all": 47, "hem": 26}
    assert result["folds"] == {"fold_0": 3_527, "fold_1": 3_581, "fold_2": 3_553}
    assert result["exact_duplicate_groups"] == 104
    assert result["cross_subject_duplicate_groups"] == 99
    assert result["cross_fold_duplicate_groups"] == 94
    assert result["near_duplicate_groups"] == 0
    # Identical files join the 73 ids into 66 groups; near duplicates that others found, into 59.
    assert result["split_groups"] == 59


@pytest.mark.realdata
@pytest.mark.parametrize("seed", [0, 1])
def test_cnmc_own_splits_have_no_subject_and_no_duplicate_on_two_sides(cnmc, cnmc_clusters, seed):
    splits = [
        holdout_split(cnmc.examples, cnmc_clusters, shares={"validation": 0.15, "test": 0.15}, seed=seed),
        fold_split(cnmc.examples, cnmc_clusters, folds=5, seed=seed),
    ]
    for split in splits:
        assert check_leaks(split, cnmc_clusters) == []
        table = split.table
        assert table["group"].nunique() == 66
        assert (table.groupby("subject")["part"].nunique() == 1).all()
        part = table.set_index("id")["part"]
        assert all(part[cluster].nunique() == 1 for cluster in cnmc_clusters)
        counts = pd.crosstab(table["part"], table["label"], normalize="columns")
        wanted = (
            pd.Series({"train": 0.7, "validation": 0.15, "test": 0.15}) if split.kind == "holdout" else 0.2
        )
        assert counts.sub(wanted, axis=0).abs().to_numpy().max() < 0.01


@pytest.mark.realdata
def test_cnmc_official_folds_keep_all_images_and_train_on_no_copy(cnmc, cnmc_clusters):
    split = official_fold_split(cnmc.examples, cnmc_clusters, keep_joined=True)
    assert check_leaks(split, cnmc_clusters) == []
    part = split.table.set_index("id")["part"]
    assert part.value_counts().to_dict() == {"fold_0": 3_527, "fold_1": 3_581, "fold_2": 3_553}
    for fold in split.folds:
        held_out, training = set(split.ids(fold)), set(split.development_ids(fold))
        assert not any(held_out & set(pair) and training & set(pair) for pair in cnmc_clusters)
        assert len(training) == 10_661 - len(held_out) - len(split.dropped[fold])
    # Each of the 94 pairs across folds loses its other copy twice, once for either fold.
    assert sum(map(len, split.dropped.values())) == 188
    assert "51, 75 and 78 (fold_1, fold_2)" in split.notes[0]
