"""Splits are disjoint, covering, grouped, stratified, reproducible; leaks and changed files are refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasall.data.examples import make_examples
from kerasall.data.splits import check_leaks, group_examples, read_split, write_split
from kerasall.data.stratification import fold_split, holdout_split, inner_validation, official_fold_split
from kerasall.errors import ArtifactError, DataError, LeakError
from kerasall.files import read_json

SHARES = {"validation": 0.2, "test": 0.2}


def _uneven(seed=0, subjects=60, classes=("all", "hem")):
    """Subjects of 9 to 750 images as on C-NMC, of one class each, in three folds."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(subjects):
        label = classes[number % len(classes)]
        for image in range(int(9 + 740 * rng.random() ** 3)):
            name = f"{label}/{number}_{image}.bmp"
            rows.append(
                {"id": name, "path": name, "label": label, "subject": str(number), "fold": f"f{number % 3}"}
            )
    return make_examples(rows)


def _small(subjects=12, images=3):
    return make_examples(
        [
            {
                "id": f"{s}_{i}",
                "path": "-",
                "label": "ab"[s % 2],
                "subject": f"s{s}",
                "fold": f"f{s // 2 % 3}",
            }
            for s in range(subjects)
            for i in range(images)
        ]
    )


def _class_shares(split):
    counts = pd.crosstab(split.table["part"], split.table["label"])
    return counts / counts.sum()


def _draw(kind, examples, clusters=(), seed=0):
    if kind == "holdout":
        return holdout_split(examples, clusters, shares=SHARES, seed=seed)
    if kind == "folds":
        return fold_split(examples, clusters, folds=3, seed=seed)
    return official_fold_split(examples, clusters, seed=seed)


def test_groups_are_unions_of_subjects_and_clusters():
    examples = make_examples(
        [
            {"id": name, "path": "-", "label": "x", "subject": subject}
            for name, subject in [
                ("a", "1"),
                ("b", "1"),
                ("c", "2"),
                ("d", "10"),
                ("e", ""),
                ("f", ""),
                ("g", ""),
            ]
        ]
    )
    groups = group_examples(examples, [["b", "c"], ["c", "d"], ["e", "f"], ["g", "not there"]])
    assert groups.to_dict() == {**dict.fromkeys("abcd", "1+2+10"), "e": "e", "f": "e", "g": "g"}


def test_group_names_stay_apart_when_subjects_look_like_other_names():
    examples = make_examples(
        [
            {"id": name, "path": "-", "label": "x", "subject": subject}
            for name, subject in [("a", "1"), ("b", "2"), ("c", "1+2"), ("d", "e"), ("e", "")]
        ]
    )
    assert group_examples(examples, [["a", "b"]]).nunique() == 4


@pytest.mark.parametrize("kind", ["holdout", "folds", "official"])
def test_parts_are_disjoint_cover_all_and_keep_subjects_and_clusters_whole(kind):
    examples = _uneven()
    clusters = [["all/0_0.bmp", "all/6_0.bmp"], ["hem/1_0.bmp", "hem/7_1.bmp", "hem/13_2.bmp"]]
    split = _draw(kind, examples, clusters)
    assert sorted(name for part in split.parts for name in split.ids(part)) == sorted(examples["id"])
    assert (split.table.groupby("subject")["part"].nunique() == 1).all()
    if kind != "official":
        assert (split.table.groupby("group")["part"].nunique() == 1).all()
    assert check_leaks(split, clusters) == []


@pytest.mark.parametrize("seed", range(5))
def test_class_shares_come_near_though_subjects_are_very_uneven(seed):
    examples = _uneven(seed)
    shares = _class_shares(holdout_split(examples, shares=SHARES, seed=seed))
    wanted = pd.Series({"train": 0.6, **SHARES})
    assert shares.sub(wanted, axis=0).abs().to_numpy().max() < 0.02
    folds = _class_shares(fold_split(examples, folds=5, seed=seed))
    assert (folds - 0.2).abs().to_numpy().max() < 0.03


def test_several_subjects_stand_in_every_part():
    split = holdout_split(_uneven(), shares=SHARES, seed=0)
    assert split.table.groupby(["part", "label"])["group"].nunique().min() >= 3


@pytest.mark.parametrize("kind", ["holdout", "folds", "official"])
def test_order_of_rows_does_not_matter(kind):
    examples = _uneven()
    clusters = [["all/0_0.bmp", "all/6_0.bmp"], ["hem/1_0.bmp", "hem/7_1.bmp"]]
    shuffled = examples.sample(frac=1, random_state=1).reset_index(drop=True)
    turned = [cluster[::-1] for cluster in clusters[::-1]]
    assert _draw(kind, examples, clusters).sha256 == _draw(kind, shuffled, turned).sha256


@pytest.mark.parametrize("kind", ["holdout", "folds"])
def test_seed_decides(kind):
    examples = _uneven()
    first, again, other = (_draw(kind, examples, seed=seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256
    assert not first.table["part"].equals(other.table["part"])


def test_images_without_subjects_are_dealt_out_one_by_one():
    examples = _uneven(subjects=10).assign(subject="")
    split = fold_split(examples, [["all/0_0.bmp", "all/2_0.bmp"]], folds=4, seed=0)
    assert (_class_shares(split) - 0.25).abs().to_numpy().max() < 0.005
    assert split.table["group"].nunique() == len(examples) - 1


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=6, max_size=25),
    joins=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=5),
    folds=st.integers(2, 4),
    seed=st.integers(0, 10_000),
)
def test_any_data_are_split_without_leak_or_refused_in_words(sizes, joins, folds, seed):
    rows = [
        {"id": f"{s}-{i}", "path": "-", "label": "ab"[s % 2], "subject": str(s)}
        for s, size in enumerate(sizes)
        for i in range(size)
    ]
    examples = make_examples(rows)
    clusters = [[f"{a % len(sizes)}-0", f"{b % len(sizes)}-0"] for a, b in joins]
    label_of = dict(zip(examples["id"], examples["label"], strict=True))
    groups = group_examples(examples, clusters)
    if groups.groupby(groups.index.map(label_of)).nunique().min() < folds:
        with pytest.raises(DataError, match="each class must stand in every"):
            fold_split(examples, clusters, folds=folds, seed=seed)
        return
    try:
        split = fold_split(examples, clusters, folds=folds, seed=seed)
    except DataError:  # enough groups, but those of several classes are too few to go round
        assert groups.nunique() < 2 * folds
        return
    assert check_leaks(split, clusters) == []
    assert set(split.table["id"]) == set(examples["id"])
    assert (split.table.groupby("part")["label"].nunique() == 2).all()
    assert split.folds == tuple(f"fold_{i}" for i in range(folds))


def test_too_few_groups_names_class_and_cure():
    examples = _small(subjects=6)
    with pytest.raises(DataError, match=r"class 'a' has only 3 independent group.*at most 3"):
        fold_split(examples, folds=4, seed=0)
    joined = [["0_0", "2_0", "4_0"]]
    with pytest.raises(DataError, match=r"class 'a' has only 1 independent"):
        holdout_split(examples, joined, shares=SHARES, seed=0)


def test_shares_that_are_none_are_refused():
    for shares in ({"test": 1.0}, {"test": -0.1}, {"tset": 0.2}):
        with pytest.raises(DataError, match="shares must be"):
            holdout_split(_small(), shares=shares, seed=0)


def test_official_folds_drop_the_training_copies_of_held_out_images():
    examples = _small()
    clusters = [["0_0", "2_1"], ["1_0", "1_1"]]  # f0 and f1; within f0
    split = official_fold_split(examples, clusters, keep_joined=True)
    assert split.folds == ("f0", "f1", "f2")
    assert dict(zip(split.table["id"], split.table["part"], strict=True)) == dict(
        zip(examples["id"], examples["fold"], strict=True)
    )
    assert split.dropped == {"f0": ("2_1",), "f1": ("0_0",)}
    assert "2_1" not in split.development_ids("f0")
    assert "2_1" in split.development_ids("f2")
    assert "0_0" in split.ids("f0")  # still scored when its own fold is held out
    assert check_leaks(split, clusters) == []
    assert "s0 and s2 (f0, f1)" in split.notes[0]
    assert "other images of these subjects are" in split.notes[0]


def test_official_folds_train_on_no_patient_who_is_held_out_under_another_id():
    examples = _small()
    clusters, joined = (
        [["0_0", "2_1"]],
        [("s1", "s5", "s7")],
    )  # f0 and f1; f0, f2, f0 by what the source knows
    split = official_fold_split(examples, clusters, joined=joined)
    own = {name: tuple(f"{name[1:]}_{i}" for i in range(3)) for name in ("s0", "s1", "s2", "s5", "s7")}
    assert split.dropped == {"f0": own["s2"] + own["s5"], "f1": own["s0"], "f2": own["s1"] + own["s7"]}
    assert {"0_0", "2_1"} <= set(split.development_ids())  # a model refitted on all folds
    assert "s0 and s2 (f0, f1)" in split.notes[0]
    assert "s1, s5 and s7 (f0, f2)" in split.notes[0]
    for fold in split.folds:
        trained = split.table[split.table["id"].isin(split.development_ids(fold))]
        held_out = split.table[split.table["part"] == fold]
        assert not set(trained["group"]) & set(held_out["group"])


def test_a_fixed_part_takes_its_patients_out_of_training_under_every_id():
    examples = _small(subjects=24)
    joined = [("s4", "s0")]  # f2, here the test part, and f0
    given = {"seed": 0, "fixed": {"test": ["f2"]}, "joined": joined}
    for split in (
        holdout_split(examples, shares={"validation": 0.3}, **given),
        fold_split(examples, folds=3, **given),
        official_fold_split(examples, **given),
    ):
        assert split.table["id"][split.table["part"] == "dropped"].tolist() == ["0_0", "0_1", "0_2"]
        assert "3 images are left out" in split.notes[0]
        assert "s0 and s4 (f0, f2)" in split.notes[1]
        assert "not trained on" in split.notes[1]
    kept = holdout_split(examples, shares={"validation": 0.3}, keep_joined=True, **given)
    assert "dropped" not in set(kept.table["part"])
    assert "trained on all the same" in kept.notes[0]


def test_official_folds_must_be_there():
    with pytest.raises(DataError, match="official folds need"):
        official_fold_split(_small().assign(fold=""))


def test_fixed_part_is_kept_and_its_copies_leave_training():
    examples = _small(subjects=24)
    clusters = [["4_0", "0_0"], ["0_0", "2_2"]]  # subject 4 is in fold f2, here the test part
    split = holdout_split(
        examples, clusters, shares={"validation": 0.3}, seed=0, fixed={"test": ["f2"]}, keep_joined=True
    )
    in_f2 = set(examples["id"][examples["fold"] == "f2"])
    assert set(split.ids("test")) == in_f2
    assert set(split.table["id"][split.table["part"] == "dropped"]) == {"0_0", "2_2"} - in_f2
    assert split.parts == ("train", "validation", "test")
    assert check_leaks(split, clusters) == []
    folds = fold_split(examples, clusters, folds=3, seed=0, fixed={"test": ["f2"]})
    assert set(folds.ids("test")) == in_f2
    assert folds.folds == ("fold_0", "fold_1", "fold_2")
    assert not in_f2 & set(folds.development_ids())
    assert check_leaks(folds, clusters) == []


def test_fixed_part_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match=r"no image has the fold \['prelim'\]"):
        holdout_split(_small(), shares={"validation": 0.3}, seed=0, fixed={"test": ["prelim"]})


@pytest.mark.parametrize("kind", ["folds", "official"])
def test_inner_validation_is_grouped_stratified_and_never_held_out(kind):
    examples = _uneven()
    clusters = [["all/0_0.bmp", "all/8_0.bmp"], ["hem/1_0.bmp", "hem/7_0.bmp"]]
    split = _draw(kind, examples, clusters)
    for fold in split.folds[:2]:
        chosen = inner_validation(split, 0.2, seed=3, held_out=fold)
        table = split.table[split.table["id"].isin(split.development_ids(fold))]
        is_chosen = table["id"].isin(chosen)
        assert is_chosen.sum() == len(chosen)
        assert (is_chosen.groupby(table["group"]).nunique() == 1).all()
        assert (is_chosen.groupby(table["label"]).mean() - 0.2).abs().max() < 0.04
    assert chosen == inner_validation(split, 0.2, seed=3, held_out=fold)
    everything = inner_validation(split, 0.2, seed=3)
    assert set(split.table["part"][split.table["id"].isin(everything)]) == set(split.folds)


def test_unknown_part_or_fold_is_named():
    split = fold_split(_small(), folds=2, seed=0)
    with pytest.raises(DataError, match="fold_7"):
        split.development_ids("fold_7")
    with pytest.raises(DataError, match="train"):
        split.ids("train")


def _leaky():
    split = fold_split(_small(), folds=2, seed=0)
    split.table.loc[0, "part"] = next(p for p in split.folds if p != split.table["part"][0])
    return split


def test_subject_on_two_sides_is_a_leak():
    split = _leaky()
    with pytest.raises(LeakError, match=r"subject s0 in .*0_0"):
        check_leaks(split)
    found = check_leaks(split, report_only=True)
    assert {(leak.kind, leak.name) for leak in found} == {("subject", "s0"), ("group", "s0")}


def test_duplicate_on_two_sides_is_a_leak_unless_it_was_grouped():
    examples = _small()
    split = fold_split(examples, folds=2, seed=0)
    first, second = split.ids("fold_0")[0], split.ids("fold_1")[0]
    with pytest.raises(LeakError, match=rf"duplicate .*{first}"):
        check_leaks(split, [[first, second]])
    assert check_leaks(fold_split(examples, [[first, second]], folds=2, seed=0), [[first, second]]) == []


def test_dealing_out_single_images_leaks_and_is_reported():
    split = holdout_split(_uneven(subjects=8), shares=SHARES, seed=0, unit="image")
    assert (_class_shares(split).loc["test"] - 0.2).abs().max() < 0.01
    with pytest.raises(LeakError, match=r"split\.on_leak: report"):
        check_leaks(split)
    assert len([leak for leak in check_leaks(split, report_only=True) if leak.kind == "subject"]) >= 8


@pytest.mark.parametrize("kind", ["holdout", "folds", "official"])
def test_split_file_gives_the_same_split(kind, tmp_path):
    examples = _small()
    clusters = [["0_0", "2_1"]]
    split = _draw(kind, examples, clusters)
    write_split(split, tmp_path / "split.json")
    again = read_split(tmp_path / "split.json", examples.sample(frac=1, random_state=0))
    assert again.sha256 == split.sha256 == read_json(tmp_path / "split.json")["sha256"]
    assert again.dropped == dict(split.dropped)
    pd.testing.assert_frame_equal(again.table, split.table, check_dtype=False)
    if kind == "folds":
        assert inner_validation(again, 0.3, 0, "fold_0") == inner_validation(split, 0.3, 0, "fold_0")


def test_changed_split_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    write_split(fold_split(_small(), folds=2, seed=0), path)
    text = path.read_text()
    path.write_text(text.replace('"fold_0"]', '"fold_1"]', 1))
    with pytest.raises(ArtifactError, match="was changed"):
        read_split(path)
    content = json.loads(text)
    del content["examples"]
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="must be a split file"):
        read_split(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table[table["id"] != "0_0"], "1 images of the split are missing .*0_0"),
        (
            lambda table: pd.concat([table, table.assign(id="new" + table["id"])]),
            "36 images of the data are not",
        ),
        (lambda table: table.assign(label="b"), "18 images have another label"),
        (lambda table: table.assign(subject="s"), "36 images have another label or subject"),
    ],
)
def test_split_file_of_other_data_says_what_differs(tmp_path, change, words):
    examples = _small()
    write_split(fold_split(examples, folds=2, seed=0, fingerprint="f" * 64), tmp_path / "split.json")
    read_split(tmp_path / "split.json", examples, "f" * 64)
    with pytest.raises(DataError, match=words):
        read_split(tmp_path / "split.json", change(examples), "f" * 64)
    with pytest.raises(DataError, match="bytes of some images changed"):
        read_split(tmp_path / "split.json", examples, "0" * 64)


# --- patients that the settings state ----------------------------------------------------------------


def test_stated_patients_are_their_part_and_the_others_are_dealt_out():
    table = _small(20)
    stated = ["s3", "s12"]
    drawn = holdout_split(table, shares={"test": 0.2}, seed=1, subjects={"validation": stated})
    found = drawn.table.groupby("part")["subject"].agg(set)
    assert found["validation"] == set(stated)
    assert found["train"] | found["test"] == set(table["subject"]) - set(stated)
    assert any("not drawn: the 2 patients of the validation part" in note for note in drawn.notes)


def test_a_stated_patient_without_images_is_named():
    with pytest.raises(DataError, match=r"split.subjects.validation must name .* no image of s99"):
        holdout_split(_small(20), shares={}, seed=1, subjects={"validation": ["s3", "s99"]})


def test_a_stated_patient_who_stands_in_a_published_part_is_named():
    """Under this id or under another that is joined to it."""
    table = _small(20).assign(
        fold=lambda found: found["subject"].map({"s3": "prelim", "s4": "prelim"}).fillna("")
    )
    for name, joined in (("s3", []), ("s5", [["s3", "s5"]])):
        with pytest.raises(
            DataError, match=f"all images of {name} stand in a published part, or are of a patient"
        ):
            holdout_split(
                table,
                shares={},
                seed=1,
                fixed={"test": ["prelim"]},
                joined=joined,
                subjects={"validation": [name]},
            )


def test_half_a_patient_is_a_leak_whoever_states_it():
    drawn = holdout_split(
        _small(20), shares={}, seed=1, subjects={"validation": ["s3", "s12"]}, joined=[["s3", "s4"]]
    )
    with pytest.raises(LeakError, match=r"group s3\+s4"):
        check_leaks(drawn)
