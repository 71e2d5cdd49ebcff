"""Keys of sweeps and of classifiers find figures of a run: here the papers' own, from the confusion matrices behind them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kerasall.components.combinations import compare_cells
from kerasall.components.feature_fitting import accuracy_of
from kerasall.data.development import Development, Facts
from kerasall.data.splits import Split
from kerasall.data.training_record import TrainingRecord
from kerasall.evaluation.predictions import Predictions
from kerasall.files import write_json
from kerasall.published.papers import read_paper
from kerasall.settings import EvaluateSettings
from kerasall.studies.finished_run import Run
from kerasall.studies.tables import KINDS

CLASSES = ("all", "hem")
WRONG = {
    "knn": (66, 95),
    "linear_svm": (36, 54),
    "rbf_svm": (18, 95),
    "decision_tree": (116, 107),
    "random_forest": (53, 89),
}
"""Wrong calls among 728 and 339 images behind Table 5 of Hasanaath et al. (tests/evaluation/test_published_tables.py)."""

TRIO = ("vgg16", "inception_resnet_v2", "densenet121")
EVALUATE = EvaluateSettings(metrics=("precision_macro", "recall_macro", "f1_macro"), resamples=100)


def of_matrix(matrix) -> Predictions:
    """Predictions whose confusion matrix this is, of 20 subjects."""
    matrix = np.asarray(matrix)
    truth, decided = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    ids, subjects = np.arange(len(truth)).astype(str), (np.arange(len(truth)) % 20).astype(str)
    return Predictions(ids, subjects, subjects, truth, np.eye(2)[decided], CLASSES)


def make_run(folder: Path, cells: dict, name, beside: dict, part: str, settings: dict) -> Run:
    """A run on disk, whose report.json holds the combinations as the steps write them."""
    table = pd.DataFrame({"id": [""], "label": ["all"], "subject": [""], "group": [""], "part": [part]})
    data = Development(
        table, Split("holdout", table, 0), Facts(CLASSES, ("all",), "subject", "x", (), "0"), []
    )
    compared = compare_cells({cell: of_matrix(each) for cell, each in cells.items()}, data, EVALUATE, 0, None)
    described = compared.describe("Cells", ("cell",), lambda cell: (str(cell),), name, beside)
    folder.mkdir()
    TrainingRecord(folder).write(None, described)
    results = {
        "labels": list(CLASSES), "malignant": ["all"], "scored": part, "metrics": {}, "blessed": False,
        "fingerprint": "", "combinations": TrainingRecord(folder).combinations,
    }  # fmt: skip
    write_json(
        folder / "report.json",
        {"schema_version": 2, "title": "t", "protocol": "faithful", "results": results},
    )
    evaluate = {"main_metric": "accuracy", "resamples": 100}
    write_json(
        folder / "run.json",
        {"schema_version": 1, "state": "complete", "settings": {**settings, "evaluate": evaluate}},
    )
    return Run(folder)


def features_of(**settings) -> dict:
    extractors = [{"name": name, "backbone": name} for name in TRIO]
    return {
        "deep_features": {"extractors": extractors, "pooling": "average", "augmented_copies": 0} | settings
    }


@pytest.fixture(scope="module")
def trio(tmp_path_factory) -> Run:
    """Table 5, every classifier fitted to 9,594 images without a fault but for the forest's five."""
    cells = {(TRIO, kind): [[728 - a, a], [b, 339 - b]] for kind, (a, b) in WRONG.items()}
    fitted = {cell: [[6544, 0], [5 if cell[1] == "random_forest" else 0, 3045]] for cell in cells}
    beside = {cell: {"matrices": {"training": each}} for cell, each in fitted.items()}
    return make_run(
        tmp_path_factory.mktemp("runs") / "trio", cells,
        lambda cell: {"features": list(cell[0]), "classifier": cell[1]}, beside, "selection", features_of(),
    )  # fmt: skip


def look_up(run: Run, key: str):
    kind, *words = key.split("/")
    return KINDS[kind](run, words)


def test_every_cell_of_table_5_is_found_by_its_key(trio):
    table = next(table for table in read_paper("deep_features_svm").tables if table.name == "Table 5")
    for row in table.rows:
        for column, printed in zip(table.columns, row.cells, strict=True):
            ours = look_up(trio, table.key(row, column))
            assert ours.value == pytest.approx(float(printed), abs=5.2e-5)
            assert ours.low < ours.value < ours.high
            assert ours.reason == ""


def test_features_may_stand_first_and_in_any_order_and_the_training_images_are_apart(trio):
    one = look_up(trio, "classifier/rbf_svm/densenet121+vgg16+inception_resnet_v2/test/f1_macro")
    assert one == look_up(trio, "classifier/inception_resnet_v2+vgg16+densenet121/rbf_svm/test/f1_macro")
    names = "+".join(TRIO)
    trained = look_up(trio, f"classifier/random_forest/{names}/train/accuracy")
    assert trained.value == pytest.approx(9589 / 9594) == accuracy_of([[6544, 0], [5, 3045]])
    assert trained.reason == "on the images that it was fitted to"
    found = look_up(trio, f"classifier/knn/{names}/test/recall:malignant")
    assert (found.value, found.low) == (pytest.approx((728 - 66) / 728), None)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (
            "classifier/mlp/vgg16/test/accuracy",
            "has the classifiers knn, linear_svm, rbf_svm, decision_tree and random_f",
        ),
        ("classifier/knn/vgg16/test/accuracy", r"has the features vgg16\+inception_resnet_v2\+densenet121"),
        ("classifier/knn/{trio}/validation/accuracy", "no validation part"),
        ("classifier/knn/{trio}/test/roc_auc", "needs probabilities"),
        ("classifier/knn/{trio}/test/nonsense", "no score nonsense"),
        (
            "classifier/raw/mlp/vgg16/test/accuracy",
            "pools its features: deep_features_svm_perceptron_faithful",
        ),
        (
            "classifier/augmented/knn/{trio}/test/accuracy",
            "fits to no changed copies: deep_features_svm_augmented",
        ),
        ("sweep/vgg16/adam/10/test/accuracy", "compares no optimizers"),
    ],
)
def test_what_a_run_lacks_is_said(trio, key, reason):
    ours = look_up(trio, key.format(trio="+".join(TRIO)))
    assert ours.value is None
    assert re.search(reason, ours.reason)


def test_a_run_of_another_kind_says_what_it_is(tmp_path):
    cells = {(("vgg16",), "mlp"): [[5, 1], [2, 4]]}
    beside = {
        cell: {"matrices": {"training": [[6, 0], [0, 6]], "validation": [[1, 2], [0, 3]]}} for cell in cells
    }
    run = make_run(
        tmp_path / "raw", cells, lambda cell: {"features": list(cell[0]), "classifier": cell[1]}, beside, "selection",
        features_of(pooling="none", augmented_copies=1),
    )  # fmt: skip
    assert look_up(run, "classifier/raw/mlp/vgg16/validation/accuracy").value == pytest.approx(4 / 6)
    assert look_up(run, "classifier/mlp/vgg16/test/accuracy").reason == (
        "of unpooled features; fitted to changed copies too"
    )


FATA = {10: [[1400, 55], [313, 365]], 20: [[1455, 0], [678, 0]]}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Run:
    cells = {("first", "adam", epochs): matrix for epochs, matrix in FATA.items()}
    beside = {cell: {"training_accuracy": 0.84 if cell[2] == 10 else 0.9} for cell in cells}
    names = ("backbone", "optimizer", "epochs")
    return make_run(
        tmp_path_factory.mktemp("runs") / "sweep", cells, lambda cell: dict(zip(names, cell, strict=True)), beside,
        "validation", {"sweep": {"backbones": [{"name": "first", "backbone": "vgg16"}]}},
    )  # fmt: skip


def test_a_cell_of_a_sweep_and_its_means_over_the_epochs(sweep):
    ten, twenty = (look_up(sweep, f"sweep/vgg16/adam/{epochs}/test/accuracy") for epochs in (10, 20))
    assert (ten.value, twenty.value) == (pytest.approx(1765 / 2133), pytest.approx(1455 / 2133))
    assert ten.low < ten.value < ten.high
    assert "on validation images" in ten.reason
    totals = look_up(sweep, "sweep/first/adam/totals/test/recall_macro")
    recalls = [(1400 / 1455 + 365 / 678) / 2, 0.5]
    assert totals.value == pytest.approx(np.mean(recalls))
    assert totals.reason.startswith("mean over 10 and 20 epochs")
    trained = look_up(sweep, "sweep/vgg16/adam/totals/train/accuracy")
    assert trained.value == pytest.approx(0.87)
    assert trained.reason == "mean over 10 and 20 epochs; on the training images, while the weights moved"


def test_a_mean_with_a_score_that_is_not_defined_is_none(sweep):
    ours = look_up(sweep, "sweep/vgg16/adam/totals/test/precision_macro")
    assert (ours.value, ours.reason) == (None, "not defined: no image is decided as hem")
    for key, reason in {
        "sweep/vgg16/adam/30/test/accuracy": "this run has 10 and 20 epochs",
        "sweep/vgg16/sgdm/10/test/accuracy": "this run has first with adam",
        "sweep/vgg16/adam/10/train/f1_macro": "the training records accuracy and loss alone",
        "classifier/knn/vgg16/test/accuracy": "this run compares no classifiers",
    }.items():
        assert look_up(sweep, key).reason == reason


def test_a_run_that_compares_nothing_or_of_an_earlier_version_says_so(tmp_path):
    for name, settings, reason in (
        ("one", {}, "it trains one model or an ensemble"),
        ("old", {"sweep": {"backbones": []}}, "an earlier version made it: run it again"),
    ):
        (tmp_path / name).mkdir()
        write_json(
            tmp_path / name / "run.json", {"schema_version": 1, "state": "complete", "settings": settings}
        )
        results = {"labels": list(CLASSES), "metrics": {}}
        write_json(tmp_path / name / "report.json", {"schema_version": 2, "results": results})
        ours = look_up(Run(tmp_path / name), "sweep/vgg16/adam/10/test/accuracy")
        assert reason in ours.reason
