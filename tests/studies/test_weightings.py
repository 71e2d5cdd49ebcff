"""Weightings, weights, repetitions and sizes beside a run: finished runs, made without training, with printed counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kerasall.data.development import Facts, write_facts
from kerasall.data.splits import Split, write_split
from kerasall.data.training_record import TrainingRecord
from kerasall.evaluation.ensemble_rules import combine_predictions, member_weights
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions, write_predictions
from kerasall.files import write_json
from kerasall.published.papers import read_paper
from kerasall.settings.loading import load_settings
from kerasall.studies.finished_run import Run
from kerasall.studies.tables import look_up
from kerasall.studies.tables.pictures import draw

CLASSES = ("all", "hem")
NAMES = ("vgg16", "xception", "mobilenet", "inception_resnet_v2", "densenet121")
IMAGES = {"all": 1219, "hem": 648}
CONFIG = "weighted_ensemble_faithful"


def printed_counts() -> dict[str, tuple[int, int]]:
    """Member -> images of ALL and of Hem called rightly, as section 5 of Mondal et al. prints them."""
    (found,) = [each for each in read_paper("weighted_ensemble").tables if "called rightly" in each.name]
    rows = {row.ours.rpartition("/")[2]: row.cells for row in found.rows}
    return {name: (int(rows[name][2]), int(rows[name][0])) for name in NAMES}


def make_member(right: tuple[int, int], seed: int) -> Predictions:
    """Predictions of which so many of each class are right."""
    rng, labels = np.random.default_rng(seed), np.repeat([0, 1], list(IMAGES.values()))
    calls = labels.copy()
    for label, count in enumerate(right):
        wrong = rng.permutation(np.flatnonzero(labels == label))[count:]
        calls[wrong] = 1 - label
    sure = rng.uniform(0.55, 0.95, len(labels))
    probabilities = np.where(np.arange(2) == calls[:, None], sure[:, None], 1 - sure[:, None])
    patients = np.where(labels == 0, np.arange(len(labels)) % 13, 13 + np.arange(len(labels)) % 15).astype(
        str
    )
    ids = np.char.add("prelim/", np.arange(len(labels)).astype(str))
    return Predictions(ids, patients, patients, labels, probabilities, CLASSES)


def write_run(house: Path, name: str, config: str = CONFIG, shift: int = 0, **changes) -> Run:
    """A run whose members get ``shift`` images more of Hem right than printed."""
    settings = load_settings(config).model_dump(mode="json") | {"experiment": name} | changes
    counts = printed_counts()
    members = {m: make_member((a, h + shift), number) for number, (m, (a, h)) in enumerate(counts.items())}
    own, artifacts = list(members.values()), house / f"artifacts_{name}"
    weights = member_weights(own, "kappa").tolist()
    ensemble = combine_predictions(own, "weighted_average", weights, malignant=["all"])
    made = {"rule": "weighted_average", "weights": weights, "members": list(NAMES)}
    for kind in ("evaluation", "development", "split", "record"):
        (artifacts / kind).mkdir(parents=True)
    write_predictions(ensemble, artifacts / "evaluation" / "predictions.npz")
    record = TrainingRecord(artifacts / "record")
    record.write(None, {"fits": {}}, ensemble=made)
    for number, (member, each) in enumerate(members.items()):
        write_predictions(each, artifacts / "evaluation" / "members" / f"{member}.npz")
        validated = make_member((900, 300 + 20 * number), 99)  # of other images: what decides nothing here
        record.member(member).write(validated, selection=each)
    write_facts(Facts(CLASSES, ("all",), "subject", "cnmc", (), ""), artifacts / "development")
    table = pd.DataFrame(
        {"id": ensemble.ids, "label": np.array(CLASSES)[ensemble.labels], "subject": ensemble.subjects}
    ).assign(group=ensemble.groups, part="selection")
    write_split(Split("holdout", table, 0), artifacts / "split" / "split.json")
    kinds = {
        "evaluation": "Evaluation",
        "development": "Development",
        "split": "Split",
        "record": "TrainingRecord",
    }
    outputs = {
        each: {"path": str(artifacts / each), "type": kind, "digest": each} for each, kind in kinds.items()
    }
    folder = house / "runs" / name
    step = {"step": "All", "state": "complete", "seconds": 1.0, "metrics": {}, "outputs": outputs}
    write_json(
        folder / "run.json", {"name": name, "state": "complete", "settings": settings, "steps": [step]}
    )
    results = {"scored": "selection", "malignant": ["all"], "labels": list(CLASSES), "ensemble": made}
    write_json(folder / "report.json", {"results": results})
    return Run(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of 300 pixels, with two more repetitions, the same at 450 pixels, and one of another seed."""
    house = tmp_path_factory.mktemp("house")
    found = write_run(house, "w300")
    write_run(house, "w300_repeat1", shift=-6, repeat=1)
    write_run(house, "w300_repeat2", shift=3, repeat=2)
    write_run(house, "w450", "weighted_ensemble_450_faithful", shift=-40)
    write_run(house, "other", shift=30, seed=7, repeat=3)
    return found


def value(run: Run, key: str):
    found = look_up(run, key)
    assert found.value is not None, found.reason
    return found.value


def test_the_weights_of_the_paper_are_found_as_printed(run):
    (printed,) = [
        each for each in read_paper("weighted_ensemble").tables if each.name == "Section 5, weights"
    ]
    for row in printed.rows[:5]:
        assert f"{value(run, printed.key(row, printed.columns[0])):.3f}" == row.cells[0]
        assert value(run, row.ours) == value(run, row.ours.replace("cohen_kappa/", ""))


@pytest.mark.parametrize(
    ("word", "name"), [("f1", "f1"), ("roc_auc", "auc"), ("cohen_kappa", "kappa"), ("kappa", "kappa")]
)
def test_another_weighting_is_of_the_same_members_weighed_where_the_run_weighs_its_own(run, word, name):
    members = [make_member(counts, number) for number, counts in enumerate(printed_counts().values())]
    weights = member_weights(members, name)
    expected = combine_predictions(members, "weighted_average", weights)
    found = look_up(run, f"weighting/{word}/f1_weighted")
    assert found.value == pytest.approx(METRICS["f1_weighted"](expected))
    assert found.low < found.value < found.high
    assert value(run, f"weight/{word}/xception") == pytest.approx(weights[1])
    if name == "kappa":
        assert found == look_up(run, "ensemble/f1_weighted")


def test_a_run_that_weighs_no_members_says_so(run, tmp_path):
    assert "must be one of f1, auc" in look_up(run, "weighting/luck/accuracy").reason
    assert "has the members vgg16" in look_up(run, "weight/resnet50").reason
    votes = write_run(tmp_path, "votes")
    document = votes.numbers
    document["results"]["ensemble"] |= {"rule": "majority_vote", "weights": None}
    write_json(votes.folder / "report.json", document)
    votes = Run(votes.folder)
    assert "majority_vote, and weighs no members" in look_up(votes, "weighting/f1/accuracy").reason
    assert look_up(votes, "weight/vgg16").reason == "the members of this run have no weights"
    assert "no repetitions" in look_up(votes, "repeats/vgg16/mean/accuracy").reason


def test_weights_of_other_images_than_the_paper_s_say_so(run, tmp_path):
    assert look_up(run, "weight/kappa/vgg16").reason == ""
    ensemble = run.settings["ensemble"] | {"weights_from": "validation"}
    honest = write_run(tmp_path, "honest", ensemble=ensemble)
    found = look_up(honest, "weight/kappa/vgg16")
    assert found.reason == "weights are the members' scores on validation images"
    assert found.value != value(run, "weight/kappa/vgg16")


def test_repetitions_have_a_mean_and_a_variance_in_squared_points(run):
    """Of one run and its two repetitions; a run of another seed is none."""
    hem, leukemia = 481 + np.array([0, -6, 3]), 1108
    accuracies = (hem + leukemia) / 1867
    assert value(run, "repeats/vgg16/mean/accuracy") == pytest.approx(accuracies.mean())
    assert value(run, "repeats/vgg16/variance/accuracy") == pytest.approx(np.var(100 * accuracies, ddof=1))
    kappas = [
        value(each, "weighting/cohen_kappa/accuracy")
        for each in map(Run, sorted(run.folder.parent.glob("w300*")))
    ]
    assert value(run, "repeats/weighting/cohen_kappa/mean/accuracy") == pytest.approx(np.mean(kappas))
    assert value(run, "repeats/ensemble/mean/accuracy") == pytest.approx(np.mean(kappas))
    assert look_up(run, "repeats/ensemble/mean/accuracy").reason == "over 3 repetitions"


def test_all_sixteen_rows_of_table_4_are_filled_by_two_runs_whichever_is_asked(run):
    (printed,) = [each for each in read_paper("weighted_ensemble").tables if each.name == "Table 4"]
    other = Run(run.folder.parent / "w450")
    for row in printed.rows:
        own, beside = (run, other) if row.name[1] == "300 x 300" else (other, run)
        for column in printed.columns:
            key = printed.key(row, column)
            assert look_up(own, key).value == look_up(beside, key).value == value(own, key.split("/", 2)[2])
            assert look_up(beside, key).reason.startswith(f"of the run {own.name}")


def test_what_is_printed_of_300_pixels_alone_is_never_of_a_run_of_450(run):
    other, compared = Run(run.folder.parent / "w450"), 0
    for table in read_paper("weighted_ensemble").tables:
        if table.name.startswith(("Table 5", "Table 6", "Section 5")):
            for key in (table.key(row, column) for row in table.rows for column in table.columns):
                found = look_up(other, key)
                assert found.value == value(run, key)
                assert found.reason.startswith("of the run w300")
                compared += 1
    assert compared == 48 + 16 + 24 + 6


def test_a_run_beside_this_one_is_of_another_size_alone_and_whole(tmp_path):
    own = write_run(tmp_path, "w300")
    contrast = {"op": "contrast_stretch"}
    crop = {"op": "center_crop", "height": 450, "width": 450}
    write_run(tmp_path, "other", "weighted_ensemble_450_faithful", preprocess=[contrast, crop])
    key = "size/450/member/vgg16/accuracy"
    assert "no finished run" in look_up(own, key).reason
    write_run(tmp_path, "w450", "weighted_ensemble_450_faithful")
    own = Run(own.folder)
    assert look_up(own, key).reason == "of the run w450"
    (tmp_path / "artifacts_w450" / "evaluation" / "predictions.npz").unlink()
    own = Run(own.folder)
    found = look_up(own, key)
    assert (found.value, "must hold predictions.npz" in found.reason) == (None, True)
    assert [caption for _, caption in draw(own, "roc_weightings").plots] == [
        "Images of 300 pixels (run w300)"
    ]


def test_where_no_run_of_the_other_size_is_beside_it_the_commands_are_named(tmp_path):
    alone = write_run(tmp_path, "alone")
    found = look_up(alone, "size/450/member/vgg16/accuracy")
    assert (found.value, "kerasall run weighted_ensemble_450" in found.reason) == (None, True)
    small = write_run(tmp_path, "small", preprocess=[{"op": "resize", "height": 64, "width": 64}])
    found = look_up(small, "size/300/member/vgg16/accuracy")
    assert found.value == pytest.approx((481 + 1108) / 1867)
    assert found.reason.startswith(
        "images of 64 pixels"
    )  # stands in the rows of the nearest size, and says so


def test_figure_5_has_a_panel_for_each_size_that_there_is(run, tmp_path):
    drawn = draw(run, "roc_weightings")
    assert [caption for _, caption in drawn.plots] == [
        "Images of 450 pixels (run w450)",
        "Images of 300 pixels (run w300)",
    ]
    text = drawn.plots[1][0].alt
    for name in (*NAMES, "weighed by f1", "weighed by auc", "weighed by kappa"):
        assert f"{name}: AUC " in text
    alone = draw(write_run(tmp_path, "alone"), "roc_weightings")
    assert [caption for _, caption in alone.plots] == ["Images of 300 pixels (run alone)"]
