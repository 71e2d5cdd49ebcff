"""The figures of a report against an auditor's second text, which imports nothing of kerasall."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_audit
from report_audit import make_audit, read_audit

from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.findings import Findings, Floors, FoldScore, Patients, judge
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES, METRICS, SCORES
from kerasall.evaluation.operating_points import operating_point
from kerasall.evaluation.predictions import Predictions, write_predictions
from kerasall.evaluation.safeguards import Safeguards, WantedPoint, fit_prediction_sets
from kerasall.evaluation.subject_calls import call_subjects
from kerasall.evaluation.trust_scores import score_safeguards

SETTINGS = {
    "evaluate": {"resamples": 2000},
    "calibrate": {"false_referral": 0.05},
    "bless": {
        "images_per_class": 30, "groups_per_class": 5, "balanced_accuracy_above_chance": 0.05,
        "class_sensitivity_above_chance": 0.0, "malignant_sensitivity": 0.5, "malignant_specificity": 0.5,
    },
}  # fmt: skip


def simulate(seed: int, classes: int, groups: int, confidence: float) -> Predictions:
    """Uneven patients, some harder than others; every eleventh holds two classes."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rng.integers(3, 40, groups))
    labels = group % classes
    mixed = (group % 11 == 0) & (rng.random(len(group)) < 0.3)
    labels = np.where(mixed, (labels + 1) % classes, labels)
    logits = rng.normal(size=(len(group), classes))
    logits[np.arange(len(group)), labels] += rng.gamma(2.0, 1.0, groups)[group]
    logits *= confidence
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.char.add("P", group.astype(str))
    ids = np.char.add("cell ", rng.permutation(len(group)).astype(str))
    return Predictions(ids, names, names, labels, chances.round(9), tuple("abcd"[:classes]))


def report_on(record: Predictions, malignant: tuple[str, ...], fold: np.ndarray, seed: int) -> dict:
    """``results`` as the Evaluator makes them, of out-of-fold predictions."""
    scorer = Scorer(record, malignant, SETTINGS["evaluate"]["resamples"], seed)
    folds = {str(name): record.ids[fold == name].tolist() for name in np.unique(fold)}
    calibration = fit_calibration(record)
    calibrated = calibration.apply_to(record)
    points = tuple(WantedPoint(w, operating_point(calibrated, malignant, w)) for w in (0.95, 0.99))
    safeguards = Safeguards(
        calibration, "probabilities", "out-of-fold", points, fit_prediction_sets(calibrated, 0.9), None, "off"
    )
    intervals, by_class = scorer.intervals([*SCORES, *MALIGNANT_SCORES]), scorer.by_class()
    counts = np.bincount(record.labels).tolist()
    criteria = judge(
        intervals, {name: found["recall"] for name, found in by_class.items()},
        images=dict(zip(record.classes, counts, strict=True)), malignant=len(malignant), floors=Floors(**SETTINGS["bless"]),
        protocol="honest", scored="out-of-fold", chosen_on=(), errors=0, near_searched=True, patients=Patients(1.0), trained_beside=0,
        parity={"passed": True, "tolerance": 1e-5, "largest_difference": 0.0, "images": 10, "labels_equal": True},
    )  # fmt: skip
    scores = []
    for name in folds:
        held = record.take(fold == name)
        scores.append(FoldScore(name, len(held), len(np.unique(held.groups)), METRICS["accuracy"](held)))
    return Findings(
        scored="out-of-fold", predictions=record, curves=record, malignant=malignant, main="accuracy", intervals=intervals,
        criteria=criteria, folds=tuple(scores), roc=(), precision_recall=(), ensemble=None, by_class=by_class,
        trust=score_safeguards(scorer, safeguards, None, folds, kind="out-of-fold"),
        subject_calls=call_subjects(scorer, record, fitted_on="out-of-fold", folds=folds), views=None, out_of_fold=None,
    ).to_json()  # fmt: skip


def as_table(record: Predictions, folder: Path) -> pd.DataFrame:
    write_predictions(record, folder / "predictions.csv")
    texts = dict.fromkeys(["id", "subject", "group", "label", "decision"], str)
    return pd.read_csv(folder / "predictions.csv", dtype=texts, keep_default_na=False)


def test_the_auditor_knows_nothing_of_kerasall_and_finds_what_is_wrong(tmp_path):
    tree = ast.parse(Path(report_audit.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not [name for name in imported if name.startswith("kerasall")]
    record = simulate(24, 2, 24, 2.5)
    fold = np.char.add("fold_", (np.char.strip(record.groups, "P").astype(int) // 2 % 3).astype(str))
    results = report_on(record, ("b",), fold, seed=3)
    results["metrics"]["accuracy"]["value"] += 1e-4
    results["metrics"]["mcc"]["low"] += 0.05
    results["confusion_matrix"][0][1] += 1
    results["trust"]["operating_points"][0]["sensitivity"]["groups"] += 1
    found = make_audit(results, as_table(record, tmp_path), fold, SETTINGS, draws=2000).run()
    assert found["figure"][~found["agrees"]].tolist() == [
        "accuracy value", "mcc low", "a as b", "recall:positive groups",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_real_run_of_the_four_class_set_is_found_again(real_data, real_weights, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from kerasall.cli.app import app

    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "models"))
    words = [
        "run",
        "aria_mobilenet",
        "--data",
        str(real_data / "aria" / "Original"),
        "--weights",
        str(real_weights),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    found = read_audit(tmp_path / "runs" / "aria_mobilenet").run()
    assert len(found) > 300
    assert found[~found["agrees"]].to_string() == found[:0].to_string()


CASES = {
    "four classes, too timid": (4, 36, 0.6, ("a", "b", "c")),
    "two classes, too sure": (2, 24, 2.5, ("b",)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_figure_of_a_report_is_found_again(case, tmp_path):
    classes, groups, confidence, malignant = CASES[case]
    record = simulate(groups, classes, groups, confidence)
    fold = np.char.add("fold_", (np.char.strip(record.groups, "P").astype(int) // classes % 3).astype(str))
    results = report_on(record, malignant, fold, seed=3)
    found = make_audit(results, as_table(record, tmp_path), fold, SETTINGS, draws=4000).run()
    assert len(found) > 200
    assert found[~found["agrees"]].to_string() == found[:0].to_string()
