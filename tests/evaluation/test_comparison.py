"""Systems side by side: the shared images, what is said of them, and the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from page_tables import read_tables
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.comparison import System, compare_systems, share_images
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.paired_tests import paired_difference, sign_flips
from kerasall.evaluation.predictions import Predictions
from kerasall.report.figures_comparison import ForestRow, draw_forest
from kerasall.report.figures_style import new_figure
from kerasall.report.format import p_words
from kerasall.report.page import write_page
from kerasall.report.pages.comparison import (
    comparison_document,
    describe_comparison,
    find_warnings,
    lettered,
    make_comparison_page,
    verdict_words,
)

CLASSES = ("all", "hem")


def simulate(seed: int, skill: float, classes=CLASSES, groups: int = 24, size: int = 10) -> Predictions:
    """Images whose hardness is common to all seeds; the noise is the seed's."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    labels = group % len(classes)
    hardness = common.normal(size=groups)[group]
    scores = own.logistic(size=(len(group), len(classes)))
    scores[np.arange(len(group)), labels] += skill + hardness
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    names = np.char.add("S", group.astype(str))
    ids = np.char.add("image_", np.arange(len(group)).astype(str))
    return Predictions(ids, names, names, labels, probabilities, classes)


def systems(*skills: float, classes=CLASSES, **facts) -> list[System]:
    return [
        System(f"system_{i}", simulate(i + 1, skill, classes), scored="test", **facts)
        for i, skill in enumerate(skills)
    ]


GOOD, BAD, MIDDLE = 3.0, 0.5, 1.5


def compare(*skills: float, metric=None, malignant=("all",), **options):
    return compare_systems(systems(*skills), metric, malignant, resamples=200, **options)


# --- shared images -----------------------------------------------------------------------------------


def test_order_of_images_and_classes_does_not_matter():
    one, two = systems(GOOD, BAD)
    rng = np.random.default_rng(0)
    mixed = two.predictions.take(rng.permutation(len(two.predictions)))
    turned = replace(
        mixed, classes=("hem", "all"), labels=1 - mixed.labels, decisions=1 - mixed.decisions,
        probabilities=mixed.probabilities[:, ::-1],
    )  # fmt: skip
    record = share_images([one, replace(two, predictions=turned)])[0][1]
    for name in ("ids", "subjects", "groups", "labels", "decisions", "probabilities"):
        np.testing.assert_array_equal(getattr(record, name), getattr(two.predictions, name))
    assert record.classes == CLASSES


def test_three_classes_in_another_order_keep_their_probabilities():
    one, two = systems(GOOD, BAD, classes=("a", "b", "c"))
    order = [2, 0, 1]  # new class i is the old class order[i]
    turned = replace(
        two.predictions, classes=("c", "a", "b"), labels=np.argsort(order)[two.predictions.labels],
        decisions=np.argsort(order)[two.predictions.decisions],
        probabilities=two.predictions.probabilities[:, order],
    )  # fmt: skip
    record = share_images([one, replace(two, predictions=turned)])[0][1]
    np.testing.assert_array_equal(record.probabilities, two.predictions.probabilities)
    np.testing.assert_array_equal(record.labels, two.predictions.labels)


def test_only_shared_images_are_compared_and_the_others_counted():
    one, two = systems(GOOD, BAD)
    parts = [
        replace(one, predictions=one.predictions.take(np.arange(0, 200))),
        replace(two, predictions=two.predictions.take(np.arange(50, 240))),
    ]
    records, _ = share_images(parts)
    np.testing.assert_array_equal(records[0].ids, one.predictions.ids[50:200])
    np.testing.assert_array_equal(records[1].ids, one.predictions.ids[50:200])
    found = compare_systems(parts, resamples=200)
    assert found.images == 150
    assert [system.not_shared for system in found.systems] == [50, 40]
    assert any("50 of 200 of system_0, 40 of 190 of system_1" in text for text in find_warnings(found))


def _other_label(p: Predictions) -> Predictions:
    return replace(p, labels=np.where(np.arange(len(p)) == 3, 1 - p.labels, p.labels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_label, r"differ on 1 of 240: image_3 \(all against hem\)"),
        (lambda p: replace(p, ids=np.char.add("other_", p.ids)), "no id is shared"),
        (lambda p: replace(p, classes=("all", "normal")), "same classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    one, two = systems(GOOD, BAD)
    with pytest.raises(DataError, match=message):
        share_images([one, replace(two, predictions=change(two.predictions))])


def test_one_system_and_equal_names_are_refused():
    one, two = systems(GOOD, BAD)
    with pytest.raises(DataError, match="at least two systems"):
        share_images([one])
    with pytest.raises(DataError, match="names of their own"):
        share_images([one, replace(two, name=one.name)])


def test_groups_that_any_run_knows_hold_for_all():
    one, two = systems(GOOD, BAD)
    unknown = np.full(240, "")
    blind = replace(one, predictions=replace(one.predictions, subjects=unknown, groups=unknown))
    records, joined = share_images([blind, two])
    assert joined
    for record in records:
        np.testing.assert_array_equal(record.subjects, two.predictions.subjects)
        _, first = np.unique(two.predictions.groups, return_inverse=True)
        _, ours = np.unique(record.groups, return_inverse=True)
        assert len(set(zip(first.tolist(), ours.tolist(), strict=True))) == 24


def test_groups_of_several_runs_are_linked_through_one_another():
    base = simulate(1, GOOD).take(np.arange(4))
    records = [replace(base, groups=groups) for groups in (["a", "a", "b", "c"], ["x", "y", "y", "z"])]
    shared, _ = share_images([System("one", records[0]), System("two", records[1])])
    groups = shared[0].groups
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_renamed_groups_are_not_joined():
    one, two = systems(GOOD, BAD)
    renamed = replace(
        two, predictions=replace(two.predictions, groups=np.char.add("g", two.predictions.groups))
    )
    assert not share_images([one, renamed])[1]


# --- figures of the comparison -----------------------------------------------------------------------


def test_scores_are_those_of_the_shared_images():
    found = compare(GOOD, BAD, metric="balanced_accuracy")
    for system, skill, seed in zip(found.systems, (GOOD, BAD), (1, 2), strict=True):
        record = simulate(seed, skill)
        expected = Scorer(record, ["all"], resamples=200).intervals(["balanced_accuracy", "roc_auc"])
        assert system.intervals["balanced_accuracy"] == expected["balanced_accuracy"]
        missed = ((record.labels == 0) & (record.decisions == 1)).sum()
        assert (system.missed, system.malignant_images) == (missed, 120)
        assert system.right == (record.labels == record.decisions).sum()


def test_pairs_hold_the_paired_tests_and_their_adjustment():
    found = compare(GOOD, MIDDLE, BAD, metric="accuracy")
    records = [simulate(i + 1, skill) for i, skill in enumerate((GOOD, MIDDLE, BAD))]
    assert [(p.first[-1], p.second[-1]) for p in found.pairs] == [("0", "1"), ("0", "2"), ("1", "2")]
    for pair in found.pairs:
        one, two = (records[int(name[-1])] for name in (pair.first, pair.second))
        assert pair.differences["accuracy"] == paired_difference(Scorer(one, ["all"]), two, "accuracy")
        assert sum(pair.images) == 240
        _, only_first, only_second, _ = pair.images
        assert pair.flips == sign_flips(one, two)
        assert pair.flips.test == "sign flips over groups"
        assert pair.differences["accuracy"].difference == pytest.approx((only_first - only_second) / 240)
        assert sum(pair.groups) == 24
    for ours, raw in [
        ([p.adjusted for p in found.pairs], [p.differences["accuracy"].p_value for p in found.pairs]),
        ([p.flips_adjusted for p in found.pairs], [p.flips.p_value for p in found.pairs]),
    ]:
        np.testing.assert_allclose(ours, multipletests(raw, method="holm")[1], rtol=1e-12)
    assert found.cochran is None
    assert not found.single


@pytest.mark.parametrize("known", [True, False])
def test_tests_of_images_are_only_where_every_group_has_one(known):
    names = simulate(1, GOOD).ids if known else np.full(240, "")
    lone = [
        replace(s, predictions=replace(s.predictions, subjects=names, groups=names))
        for s in systems(GOOD, MIDDLE, BAD)
    ]
    found = compare_systems(lone, resamples=200)
    assert found.single
    assert found.cochran is not None
    for pair in found.pairs:
        _, only_first, only_second, _ = pair.images
        exact = binomtest(only_first, only_first + only_second).pvalue
        assert pair.flips.p_value == pytest.approx(exact, rel=1e-9)
    text = describe_comparison(found)
    assert "Images decided rightly (McNemar, exact)" in text
    assert "Cochran's Q over all systems: Q = " in text
    assert ("more patients do not mend that" in text) is not known
    assert compare_systems(lone[:2], resamples=200).cochran is None


def test_groups_in_which_a_system_does_better():
    record = simulate(1, GOOD).take(np.arange(0, 30))  # three groups of ten
    decisions = record.labels.copy()
    decisions[:3] = 1 - decisions[:3]
    perfect, faulty = replace(record, decisions=record.labels), replace(record, decisions=decisions)
    pair = compare_systems([System("faulty", faulty), System("perfect", perfect)], resamples=200).pairs[0]
    assert pair.groups == (0, 1, 2)
    assert pair.images == (27, 0, 3, 0)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "malignant_sensitivity", "recall:hem"])
def test_the_better_system_is_named_whichever_way_the_score_points(metric):
    for skills, name in (((GOOD, BAD), "system_0"), ((BAD, GOOD), "system_1")):
        found = compare(*skills, metric=metric)
        assert found.better(found.pairs[0]) == name
        words = verdict_words(found, found.pairs[0])
        assert words.startswith(f"{name} is better than")
        sign = "−" if metric == "log_loss" else "+"  # told from the better one's side
        assert f"difference {sign}" in words


def test_equal_systems_are_not_told_apart():
    found = compare(MIDDLE, MIDDLE)
    assert found.better(found.pairs[0]) is None
    assert verdict_words(found, found.pairs[0]).startswith(
        "No difference between system_0 and system_1 is shown"
    )


def test_a_difference_without_spread_over_groups_is_told_but_not_trusted():
    record = simulate(1, GOOD)
    first_of_ten = np.arange(240) % 10 == 0
    faulty = replace(record, decisions=np.where(first_of_ten, 1 - record.labels, record.labels))
    perfect = replace(record, decisions=record.labels)
    found = compare_systems([System("p", perfect), System("f", faulty)], "accuracy", resamples=200)
    assert found.better(found.pairs[0]) is None
    words = verdict_words(found, found.pairs[0])
    assert "cannot be told apart by accuracy: difference +10.0 points, but no group differs" in words


def test_main_metric_is_the_runs_own_where_they_agree():
    agreed = systems(GOOD, BAD, main_metric="f1_weighted")
    assert compare_systems(agreed, resamples=200).metric == "f1_weighted"
    parted = [agreed[0], replace(agreed[1], main_metric="accuracy")]
    assert compare_systems(parted, resamples=200).metric == "balanced_accuracy"
    with pytest.raises(SettingsError, match="did you mean"):
        compare(GOOD, BAD, metric="acuracy")


def test_malignant_classes_come_from_who_knows_them():
    one, two = systems(GOOD, BAD)
    known = [replace(one, malignant=("all",)), two]
    assert compare_systems(known, resamples=200).malignant == ("all",)
    with pytest.raises(DataError, match="--malignant"):
        compare_systems([known[0], replace(two, malignant=("hem",))], resamples=200)
    none = compare_systems([one, two], resamples=200)
    assert none.systems[0].missed is None
    assert "malignant_sensitivity" not in none.systems[0].intervals


# --- cautions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "warning"),
    [
        ({"scored": "out-of-fold"}, "different parts (system_0 test, system_1 out-of-fold)"),
        ({"scored": "selection"}, "system_1 chose its settings on the images it is scored on"),
        ({"scored": ""}, "No report stands beside the predictions of system_1"),
        ({"fingerprint": "b" * 64}, "The data sets differ (system_0 aaaaaaaaaaaa, system_1 bbbbbbbbbbbb)"),
        ({"split": "b" * 64}, "The splits differ"),
    ],
)
def test_runs_that_were_not_made_alike_are_warned_of(facts, warning):
    one, two = systems(GOOD, BAD, fingerprint="a" * 64, split="a" * 64)
    assert not [*find_warnings(compare_systems([one, two], resamples=200))]
    found = compare_systems([one, replace(two, **facts)], resamples=200)
    assert any(warning in text for text in find_warnings(found))


def test_few_unknown_and_equal_are_warned_of():
    one, two = systems(GOOD, BAD)
    few = [replace(s, predictions=s.predictions.take(np.arange(60))) for s in (one, two)]
    found = compare_systems(few, resamples=200)
    assert "of 6 groups only" in [*find_warnings(found)][-1]
    assert "groups: no p-value below 0.0" in describe_comparison(found)
    assert "groups: no p-value below 0.0" in make_comparison_page(found).sections[3].body
    same = compare_systems([one, replace(one, name="again")], resamples=200)
    assert "are they one system?" in [*find_warnings(same)][-1]
    assert same.pairs[0].adjusted == 1.0
    blank = np.full(240, "")
    lone = [replace(s, predictions=replace(s.predictions, subjects=blank, groups=blank)) for s in (one, two)]
    found = compare_systems(lone, resamples=200)
    assert not found.known_groups
    assert "Neither patients nor groups are known" in [*find_warnings(found)][-1]


# --- document, words, page ---------------------------------------------------------------------------


def ids(page) -> list[str]:
    return [section.id for section in page.sections if section is not None]


def test_document_is_plain_json():
    found = compare(GOOD, MIDDLE, BAD)
    document = json.loads(json.dumps(comparison_document(found), allow_nan=False))
    assert [s["name"] for s in document["systems"]] == ["system_0", "system_1", "system_2"]
    assert document["shared_images"] == 240
    assert document["groups"] == 24
    assert document["pairs"][1]["better"] == "system_0"
    assert set(document["pairs"][0]["images"]) == {
        "both_right", "only_first_right", "only_second_right", "neither_right",
    }  # fmt: skip
    assert "change places in whole groups" in document["note"]
    assert document["pairs"][0]["right_images"]["test"] == "sign flips over groups"
    assert document["cochran_q"] is None


def test_images_of_one_class_only_leave_scores_open_and_say_so(tmp_path):
    one, two = systems(GOOD, BAD)
    rows = np.flatnonzero(one.predictions.labels == 0)
    lone = [replace(s, predictions=s.predictions.take(rows)) for s in (one, two)]
    found = compare_systems(lone, malignant=["all"], resamples=200)
    assert found.better(found.pairs[0]) is None
    assert "cannot be told apart by balanced accuracy: not defined" in verdict_words(found, found.pairs[0])
    json.dumps(comparison_document(found), allow_nan=False)
    page = make_comparison_page(found)
    assert "roc" not in ids(page)
    write_page(tmp_path, page)


def test_terminal_tells_scores_differences_tests_and_warnings():
    found = compare(GOOD, MIDDLE, BAD, MIDDLE)
    text = describe_comparison(found)
    for system in found.systems:
        assert re.search(rf"{system.missed} of 120", text)
    assert text.count("Malignant called benign") == 2  # four systems stand in two tables
    assert text.count("does better in") == 6
    assert "Images decided rightly (sign flips over groups)" in text
    assert "Cochran" not in text
    assert p_words(0.0004) == "< 0.001"


def test_page_is_self_contained_and_holds_the_document(tmp_path):
    found = compare(GOOD, MIDDLE, BAD)
    page = make_comparison_page(found, "kerasall compare a b c")
    html = write_page(tmp_path, page).read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    results = json.loads((tmp_path / "report.json").read_text())["results"]
    assert results == json.loads(json.dumps(comparison_document(found)))
    assert ids(page) == ["comparison-summary", "systems", "differences", "images", "roc", "method"]
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert pictures == {f"{name}.svg" for name in ("scores", "sensitivity", "differences", "roc")}
    (roc,) = page.sections[4].pictures
    for system in found.systems:
        assert f"{system.name}: AUC {system.intervals['roc_auc'].value:.3f}" in roc.alt


def test_matrix_of_pairs_is_antisymmetric():
    found = compare(GOOD, MIDDLE, BAD)
    section = make_comparison_page(found).sections[2]
    (matrix,) = (
        rows for caption, rows in read_tables(section.body).items() if caption.startswith("Every system")
    )
    cells = [row[1:] for row in matrix[1:]]
    for i in range(3):
        assert cells[i][i].text == "–"
        for j in range(i):
            assert cells[i][j].text.lstrip("+−") == cells[j][i].text.lstrip("+−")
            assert {cells[i][j].tone, cells[j][i].tone} in ({"good", "bad"}, {""})
    assert cells[0][2].tone == "good"
    assert cells[0][2].text.startswith("+")


@pytest.mark.parametrize(("malignant", "drawn"), [(("early", "pro"), True), ((), False)])
def test_roc_of_many_classes_needs_malignant_ones(malignant, drawn):
    classes = ("benign", "early", "pro")
    found = compare_systems(systems(GOOD, BAD, classes=classes), malignant=malignant, resamples=200)
    assert ("roc" in ids(make_comparison_page(found))) is drawn
    assert ("malignant_roc_auc" in found.systems[0].intervals) is drawn


def test_long_names_give_way_to_letters_with_a_key():
    one, two = systems(GOOD, BAD)
    long = "an_experiment_with_a_name_far_too_long_for_a_column"
    found = compare_systems([one, replace(two, name=long)], malignant=["all"], resamples=200)
    page = make_comparison_page(found)
    assert long in page.title
    assert f"<dt>A</dt><dd>system_0</dd></div><div><dt>B</dt><dd>{long}</dd>" in page.sections[0].body
    assert page.results["systems"][1]["name"] == long
    assert lettered(found).better(lettered(found).pairs[0]) == "A"
    short = compare(GOOD, BAD)
    assert lettered(short) is short


def test_selected_scores_are_watermarked():
    one, two = systems(GOOD, BAD)
    found = compare_systems([one, replace(two, scored="selection")], resamples=200)
    assert make_comparison_page(found).protocol == "faithful"


def test_forest_draws_every_value_within_its_interval():
    rows = [ForestRow("one", 0.9, 0.8, 0.95, "90%", 0), ForestRow("two", None, None, None, "–", 1)]
    _, axes = new_figure()
    alt = draw_forest(axes, rows, "accuracy", reference=0.5, bounds=(0, 1))
    assert alt == "accuracy with intervals. one 90%; two –."
    drawn = [list(map(float, line.get_xdata())) for line in axes.lines]
    assert [0.8, 0.95] in drawn
    assert [0.9] in drawn
    low, high = axes.get_xlim()
    assert low < 0.5
    assert 0.95 < high < 1.02
